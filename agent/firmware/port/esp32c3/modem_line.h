/* The line to the modem. */
#ifndef FOTA_FIRMWARE_MODEM_LINE_H
#define FOTA_FIRMWARE_MODEM_LINE_H

void fota_modem_start(void);

#endif
