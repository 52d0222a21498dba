/* The application's side of the boot journal: three calls and a report.
 *
 * fota-client.mk and CMakeLists.txt beside this say what to link (docs/application.md); the
 * application's NMI vector is fota_flash_nmi(). May run from flash or RAM. Not re-entrant: call
 * from one context. */
#ifndef FOTA_CLIENT_H
#define FOTA_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "journal.h"
#include "report.h"
#include "status.h"

/* The boot report, or NULL if the bootloader left none (started by a debugger, RAM overwritten). */
const fota_report_t *fota_boot_report(void);

/* Writes the health word, which the update agent reads: FOTA_HEALTH_GOOD or FOTA_HEALTH_BAD. */
void fota_set_health(uint32_t health);

/* The journal's state as it is now. */
void fota_status(fota_record_t *record);

/* Asks the bootloader to try `slot` at the next reset.
 *
 * FOTA_JOURNAL_IN_TRIAL while this boot is a trial, FOTA_JOURNAL_RUNNING_SLOT for the running slot
 * (or none), FOTA_JOURNAL_WRITE if flash failed; then the state is as before. */
FOTA_MUST_USE fota_status_t fota_request_install(uint8_t slot);

/* Makes the running image the confirmed one. Writes nothing if it is already. */
FOTA_MUST_USE fota_status_t fota_confirm(void);

/* Ends the trial of the running image: the next reset goes back to the confirmed one, and `reason`
 * says why. FOTA_JOURNAL_NO_TRIAL if this boot is not a trial. */
FOTA_MUST_USE fota_status_t fota_reject(fota_status_t reason);

/* --- the pure part, shared with the tests: the record to write next (SPEC 3, "who writes what")
 * --- `next` is written only with FOTA_OK. */

FOTA_MUST_USE fota_status_t fota_record_request(const fota_record_t *state, uint8_t running,
                                                uint8_t slot, fota_record_t *next);
/* `*needed` is false if the record would say nothing new. */
void fota_record_confirm(const fota_record_t *state, uint8_t running, fota_record_t *next,
                         bool *needed);
FOTA_MUST_USE fota_status_t fota_record_reject(const fota_record_t *state, uint8_t running,
                                               fota_status_t reason, fota_record_t *next);

#endif
