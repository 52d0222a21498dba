/* One short line for each noteworthy thing, over fota_port_put(). */
#ifndef FOTA_CONSOLE_H
#define FOTA_CONSOLE_H

#include <stdint.h>

#include "status.h"

/* "fota-boot: <what>: IM6" */
void fota_say_status(const char *what, fota_status_t status);

/* "fota-boot: slot A <what>: IM6" */
void fota_say_slot_status(uint8_t slot, const char *what, fota_status_t status);

/* "fota-boot: slot A 1.0.0 <what>"; `version` as in the image header, 8 bytes. */
void fota_say_boot(uint8_t slot, const uint8_t *version, const char *what);

/* "fota-boot: <what> 3" */
void fota_say_number(const char *what, uint32_t number);

#endif
