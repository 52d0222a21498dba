/* Where the boot report and the health word (SPEC 4) are, as the linker script has it too: the end
 * of the RTC fast RAM, since applications of ESP-IDF put data of their own at its start. */
#ifndef FOTA_REPORT_ADDRESS_H
#define FOTA_REPORT_ADDRESS_H

enum { FOTA_REPORT_ADDRESS = 0x50001f00, FOTA_HEALTH_ADDRESS = 0x50001f80 };

#endif
