/* OTA data: messages between applications of ESP-IDF and us (SPEC 7.5, ADR 37). Our journal is the
 * truth; a record here asks for something, and says what became of it. Pure. */
#ifndef FOTA_ESP32C3_OTADATA_H
#define FOTA_ESP32C3_OTADATA_H

#include <stdbool.h>
#include <stdint.h>

#include "journal.h"

enum { FOTA_OTA_RECORD = 32 }; /* bytes at the start of each of the two sectors */

typedef enum fota_ota_state {
  FOTA_OTA_NEW = 0,
  FOTA_OTA_PENDING = 1,
  FOTA_OTA_VALID = 2,
  FOTA_OTA_INVALID = 3,
  FOTA_OTA_ABORTED = 4,
} fota_ota_state_t;
#define FOTA_OTA_UNDEFINED 0xffffffffu

typedef struct fota_otadata {
  uint32_t sequence[2]; /* of each sector; 0 = no record */
  uint32_t state[2];
} fota_otadata_t;

/* Reads the first FOTA_OTA_RECORD bytes of each sector. Records whose CRC is wrong are none. */
void fota_otadata_read(const uint8_t *sector0, const uint8_t *sector1, fota_otadata_t *data);

/* Takes what the application said into `state`, as the journal has it. True if it confirmed its
 * trial: then `state` is to be written. Anything else the policy writes down when it acts. */
bool fota_otadata_join(const fota_otadata_t *data, fota_record_t *state);

/* What became of it, by the journal's state right before the jump: true if the 32 bytes in `record`
 * are to be written to `*sector` (0, 1), which is erased first. */
bool fota_otadata_answer(const fota_otadata_t *data, const fota_record_t *state, uint32_t *sector,
                         uint8_t record[FOTA_OTA_RECORD]);

#endif
