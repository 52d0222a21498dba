#include "journal.h"

#include <stdbool.h>
#include <string.h>

#include "crc32.h"

enum {
  CELL = sizeof(fota_record_t),
  SEQUENCE_MAX = 0xffffff, /* more than the flash can take; a forged end of counting is no record */
};

static const fota_record_t no_record = {
    .confirmed = FOTA_SLOT_NONE, .candidate = FOTA_SLOT_NONE, .state = FOTA_STATE_NONE};

/* not inlined: smaller so */
__attribute__((noinline)) static bool is_slot_or_none(uint8_t value) {
  return value == FOTA_SLOT_A || value == FOTA_SLOT_B || value == FOTA_SLOT_NONE;
}

static bool is_about_candidate(uint8_t state) {
  return state == FOTA_STATE_STAGED || state == FOTA_STATE_TRIAL || state == FOTA_STATE_REJECTED ||
         state == FOTA_STATE_REVERTED;
}

/* Nothing, or two letters and a number: no record brings a word that could be an address of code.
 */
static bool is_reason(uint32_t value) {
  return value - 1u >= FOTA_MODULE('A', 0u) - 1u;
}

static bool is_valid(const fota_record_t *r) {
  if (r->crc != fota_crc32(r, offsetof(fota_record_t, crc))) return false;
  if (r->sequence - 1u >= SEQUENCE_MAX || !is_reason(r->reason)) return false;
  if (!is_slot_or_none(r->confirmed) || !is_slot_or_none(r->candidate)) return false;
  if (r->state != FOTA_STATE_TRIAL && r->tries != 0) return false;
  if (r->state == FOTA_STATE_NONE) return true;
  return is_about_candidate(r->state) && r->candidate != FOTA_SLOT_NONE &&
         r->candidate != r->confirmed;
}

static bool is_blank(const fota_record_t *r) {
  const uint8_t *p = (const uint8_t *)r;
  for (int i = 0; i < CELL; i++) {
    if (p[i] != 0xff) return false;
  }
  return true;
}

/* The offset behind the last cell of the page that is not blank; keeps the newest valid record. */
static uint32_t scan_page(fota_journal_t *journal, uint32_t page) {
  const fota_flash_t *flash = journal->flash;
  uint32_t used = 0;
  for (uint32_t at = 0; at < flash->page_size; at += CELL) {
    fota_record_t cell;
    const bool readable = flash->read(flash->context, page + at, &cell, CELL) == FOTA_OK;
    if (readable && is_blank(&cell)) continue;
    used = at + CELL;
    if (readable && is_valid(&cell) && cell.sequence > journal->record.sequence) {
      journal->record = cell;
      journal->active = page;
    }
  }
  return used;
}

void fota_journal_open(fota_journal_t *journal, const fota_flash_t *flash) {
  journal->flash = flash;
  journal->record = no_record;
  journal->active = flash->page_size; /* without a record, page 0 is "the other page" */
  uint32_t used[2];
  used[0] = scan_page(journal, 0);
  used[1] = scan_page(journal, flash->page_size);
  journal->next = flash->page_size;
  if (journal->record.sequence != 0) journal->next = used[journal->active != 0];
}

/* Makes cell 0 of the other page the next one. */
static fota_status_t turn_over(fota_journal_t *journal) {
  const fota_flash_t *flash = journal->flash;
  const uint32_t page = flash->page_size - journal->active;
  FOTA_TRY(flash->erase(flash->context, page));
  journal->active = page;
  journal->next = 0;
  return FOTA_OK;
}

static fota_status_t write_cell(fota_journal_t *journal, const fota_record_t *record) {
  const fota_flash_t *flash = journal->flash;
  fota_record_t seen;
  if (journal->next == flash->page_size) FOTA_TRY(turn_over(journal));
  const uint32_t at = journal->active + journal->next;
  FOTA_TRY(flash->program(flash->context, at, record, CELL));
  FOTA_TRY(flash->read(flash->context, at, &seen, CELL));
  return memcmp(record, &seen, CELL) == 0 ? FOTA_OK : FOTA_JOURNAL_WRITE;
}

fota_status_t fota_journal_append(fota_journal_t *journal, const fota_record_t *next) {
  fota_record_t record = *next;
  record.sequence = journal->record.sequence + 1;
  record.crc = fota_crc32(&record, offsetof(fota_record_t, crc));
  if (!is_valid(&record)) return FOTA_JOURNAL_WRITE;
  if (write_cell(journal, &record) != FOTA_OK) {
    fota_journal_open(journal, journal->flash); /* look again at what is really there */
    return FOTA_JOURNAL_WRITE;
  }
  journal->record = record;
  journal->next += CELL;
  return FOTA_OK;
}
