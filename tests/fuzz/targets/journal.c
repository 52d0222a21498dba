/* The journal, on flash with any content, unreadable cells, and an operation that fails.
 * Input: cells of a page | cells that are unreadable, a bit each, 16 bits | operation that fails |
 * record to append (8 bytes: confirmed, candidate, state, tries, reason) | the two pages. */
#include "journal.h"

#include <stdbool.h>
#include <string.h>

#include "fuzz.h"

enum { MOST_CELLS = 8, CELL = 16, HEAD = 12 };

typedef struct chip {
  uint8_t *cells; /* exactly two pages */
  uint32_t page_size;
  uint32_t unreadable;
  uint32_t operations;
  uint32_t fails_at;
  uint32_t erases;
} chip_t;

static chip_t chip;

static fota_status_t read_cells(const void *context, uint32_t offset, void *data, uint32_t length) {
  CHECK(context == &chip && offset + length <= 2 * chip.page_size);
  memcpy(data, chip.cells + offset, length);
  return chip.unreadable >> (offset / CELL) & 1 ? FOTA_FLASH_ECC : FOTA_OK;
}

static bool fails(void) {
  chip.operations++;
  return chip.operations == chip.fails_at;
}

static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  CHECK(context == &chip && offset % 8 == 0 && length % 8 == 0);
  CHECK(offset + length <= 2 * chip.page_size);
  CHECK((chip.unreadable >> (offset / CELL) & 1) == 0);
  for (uint32_t i = 0; i < length; i++)
    CHECK(chip.cells[offset + i] == 0xff);
  const bool failed = fails();
  memcpy(chip.cells + offset, data, failed ? length / 2 : length);
  return failed ? FOTA_FLASH_PROGRAM : FOTA_OK;
}

static fota_status_t erase(const void *context, uint32_t offset) {
  CHECK(context == &chip && (offset == 0 || offset == chip.page_size));
  chip.erases++;
  if (fails()) return FOTA_FLASH_ERASE;
  memset(chip.cells + offset, 0xff, chip.page_size);
  const uint32_t cells = chip.page_size / CELL;
  chip.unreadable &= ~(((1u << cells) - 1) << (offset / CELL));
  return FOTA_OK;
}

static bool same_state(const fota_record_t *a, const fota_record_t *b) {
  return a->sequence == b->sequence && memcmp(a, b, sizeof *a) == 0;
}

static void append(const fota_flash_t *flash, fota_journal_t *journal, const uint8_t *wanted) {
  const fota_record_t before = journal->record;
  fota_record_t record = {
      .confirmed = wanted[0], .candidate = wanted[1], .state = wanted[2], .tries = wanted[3]};
  memcpy(&record.reason, wanted + 4, 4);
  const fota_status_t status = fota_journal_append(journal, &record);
  fota_journal_t again;
  fota_journal_open(&again, flash);
  CHECK(status == FOTA_OK || status == FOTA_JOURNAL_WRITE);
  CHECK(same_state(&again.record, &journal->record) && chip.erases <= 1);
  if (status == FOTA_OK) {
    CHECK(again.record.sequence == before.sequence + 1);
    CHECK(memcmp(&again.record.confirmed, wanted, 8) == 0);
    CHECK(again.active == journal->active && again.next == journal->next);
  } else {
    CHECK(same_state(&again.record, &before));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < HEAD) return 0;
  const uint32_t cells = data[0] % MOST_CELLS + 1;
  const size_t room = (size_t)2 * cells * CELL;
  const size_t given = size - HEAD < room ? size - HEAD : room;
  chip = (chip_t){.cells = malloc(room),
                  .page_size = cells * CELL,
                  .unreadable = data[1] | (uint32_t)data[2] << 8,
                  .fails_at = data[3]};
  memset(chip.cells, 0xff, room);
  memcpy(chip.cells, data + HEAD, given);
  const fota_flash_t flash = {.context = &chip,
                              .page_size = chip.page_size,
                              .read = read_cells,
                              .program = program,
                              .erase = erase};
  fota_journal_t journal;
  fota_journal_open(&journal, &flash);
  CHECK(journal.record.sequence == 0 || journal.next <= journal.flash->page_size);
  append(&flash, &journal, data + 4);
  free(chip.cells);
  return 0;
}
