/* What recovery needs of a chip, beside core/port.h: resolved by the linker. */
#ifndef FOTA_RECOVERY_PORT_H
#define FOTA_RECOVERY_PORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "flash.h"

/* True if somebody holds the recovery button. */
bool fota_port_recovery_asked(void);

/* Makes the console receive too. */
void fota_port_listen(void);

/* The next byte from the console; -1 if none came for a millisecond. */
int fota_port_get(void);

/* The flash of a slot, as for the journal: offsets count from the slot's start. */
void fota_port_slot_flash(uint8_t slot, fota_flash_t *flash);

/* Resets the chip, once the console has sent everything. */
noreturn void fota_port_restart(void);

#endif
