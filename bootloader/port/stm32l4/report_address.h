/* Where the boot report and the health word (SPEC 4) are, as the linker script has it too. */
#ifndef FOTA_REPORT_ADDRESS_H
#define FOTA_REPORT_ADDRESS_H

enum { FOTA_REPORT_ADDRESS = 0x20017f00, FOTA_HEALTH_ADDRESS = 0x20017f80 };

#endif
