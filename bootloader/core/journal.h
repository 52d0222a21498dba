/* The boot journal (SPEC 3): two alternating pages, append-only, torn records are absent records.
 */
#ifndef FOTA_JOURNAL_H
#define FOTA_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "flash.h"
#include "layout.h"
#include "status.h"

/* Candidate states. */
enum {
  FOTA_STATE_NONE = 0x0f,
  FOTA_STATE_STAGED = 0x33,
  FOTA_STATE_TRIAL = 0x3c,
  FOTA_STATE_REJECTED = 0x55,
  FOTA_STATE_REVERTED = 0x66,
};

typedef struct fota_record {
  uint32_t sequence; /* +1 per record; the highest valid one is the state */
  uint8_t confirmed; /* slot */
  uint8_t candidate; /* slot */
  uint8_t state;     /* of the candidate */
  uint8_t tries;     /* boots left to a trial, else 0 */
  uint32_t reason;   /* status code, or 0 */
  uint32_t crc;      /* CRC-32 of the bytes before it */
} fota_record_t;

_Static_assert(offsetof(fota_record_t, confirmed) == 4, "SPEC 3");
_Static_assert(offsetof(fota_record_t, reason) == 8, "SPEC 3");
_Static_assert(offsetof(fota_record_t, crc) == 12, "the CRC covers bytes 0..11");
_Static_assert(sizeof(fota_record_t) == 16, "two flash double words");

typedef struct fota_journal {
  const fota_flash_t *flash;
  fota_record_t record; /* the state; sequence 0 and no slots if no record is valid */
  uint32_t active;      /* offset of the page that holds it */
  uint32_t next;        /* offset of the next cell in it; page_size = full */
} fota_journal_t;

/* Reads both pages. Always succeeds: what cannot be read is absent. */
void fota_journal_open(fota_journal_t *journal, const fota_flash_t *flash);

/* Appends `next` with the following sequence number and reads it back.
 *
 * Only the content counts (confirmed, candidate, state, tries, reason). Until it returns FOTA_OK,
 * the old state holds; FOTA_JOURNAL_WRITE if it did not come to be, also after a page erase. */
FOTA_MUST_USE fota_status_t fota_journal_append(fota_journal_t *journal, const fota_record_t *next);

#endif
