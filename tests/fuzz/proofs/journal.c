/* Bound: pages of two cells, any content, any cell unreadable, any operation failing.
 * Sources: core/journal
 * Unwind: 17 */
#include "journal.h"

#include "crc32.h"
#include "prove.h"

enum { CELL = 16, PAGE = 2 * CELL };

static uint8_t cells[2 * PAGE];
static uint32_t erases;
static uint32_t programs;

/* Any function of the bytes will do for what is proved here. */
uint32_t fota_crc32(const void *data, uint32_t length) {
  PROVE(__CPROVER_r_ok(data, length), "the CRC is taken of a record");
  return ANY(uint32_t);
}

static fota_status_t read_cells(const void *context, uint32_t offset, void *data, uint32_t length) {
  (void)context;
  PROVE(offset <= 2 * PAGE && length <= 2 * PAGE - offset, "reads lie in the journal");
  PROVE(__CPROVER_w_ok(data, length), "room for what is read");
  for (uint32_t i = 0; i < length; i++)
    ((uint8_t *)data)[i] = cells[offset + i];
  return ANY(bool) ? FOTA_OK : FOTA_FLASH_ECC;
}

static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  (void)context;
  PROVE(offset % 8 == 0 && length == CELL, "a record is programmed whole");
  PROVE(offset <= 2 * PAGE - CELL, "what is programmed lies in the journal");
  PROVE(__CPROVER_r_ok(data, length), "a whole record is given");
  programs++;
  return ANY(bool) ? FOTA_OK : FOTA_FLASH_PROGRAM;
}

static fota_status_t erase(const void *context, uint32_t offset) {
  (void)context;
  PROVE(offset == 0 || offset == PAGE, "a page of the journal is erased");
  erases++;
  return ANY(bool) ? FOTA_OK : FOTA_FLASH_ERASE;
}

int main(void) {
  const fota_flash_t flash = {
      .page_size = PAGE, .read = read_cells, .program = program, .erase = erase};
  fota_journal_t journal;
  fota_record_t wanted;
  __CPROVER_havoc_object(cells);
  __CPROVER_havoc_object(&wanted);
  fota_journal_open(&journal, &flash);
  const uint32_t active = journal.active;
  PROVE(active == 0 || active == PAGE, "the active page is one of the two");
  PROVE(journal.next <= PAGE && journal.next % CELL == 0, "the next cell is one, or none");
  const fota_record_t *r = &journal.record;
  PROVE(r->state == FOTA_STATE_NONE || r->candidate == FOTA_SLOT_A || r->candidate == FOTA_SLOT_B,
        "a state is that of a slot");
  const uint32_t sequence = r->sequence;
  const fota_status_t status = fota_journal_append(&journal, &wanted);
  PROVE(status == FOTA_OK || status == FOTA_JOURNAL_WRITE, "a status of its own");
  PROVE(erases <= 1 && programs <= 1, "a page erase and a record at most");
  PROVE(status != FOTA_OK || journal.record.sequence == sequence + 1, "one record further");
}
