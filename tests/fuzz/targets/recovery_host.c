#include "recovery_host.h"

#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "port.h"
#include "recovery/recovery_port.h"

enum { JOURNAL_PAGE = 64 };

static uint8_t slots[2][SLOT_SIZE];
static _Alignas(8) uint8_t journal_pages[2 * JOURNAL_PAGE];
char console[CONSOLE_SIZE];
uint32_t console_size;
fota_journal_t journal;

const fota_layout_t fota_layout = {.slot = {slots[0], slots[1]},
                                   .slot_size = SLOT_SIZE,
                                   .run_address = 0x08004000,
                                   .ram_low = 0x20000000,
                                   .ram_high = 0x20017f00};

static uint32_t size_of(const void *context) {
  return context == journal_pages ? sizeof journal_pages : SLOT_SIZE;
}

static uint8_t *at(const void *context, uint32_t offset, uint32_t length) {
  CHECK(context == journal_pages || context == slots[0] || context == slots[1]);
  CHECK(offset <= size_of(context) && length <= size_of(context) - offset);
  return (uint8_t *)(uintptr_t)context + offset;
}

static fota_status_t read_flash(const void *context, uint32_t offset, void *data, uint32_t length) {
  memcpy(data, at(context, offset, length), length);
  return FOTA_OK;
}

static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  uint8_t *to = at(context, offset, length);
  CHECK(offset % 8 == 0 && length % 8 == 0);
  for (uint32_t i = 0; i < length; i++)
    CHECK(to[i] == 0xff);
  memcpy(to, data, length);
  return FOTA_OK;
}

static fota_status_t erase(const void *context, uint32_t offset) {
  const uint32_t page = context == journal_pages ? JOURNAL_PAGE : PAGE_SIZE;
  CHECK(offset % page == 0);
  memset(at(context, offset, page), 0xff, page);
  return FOTA_OK;
}

static const fota_flash_t journal_flash = {.context = journal_pages,
                                           .page_size = JOURNAL_PAGE,
                                           .read = read_flash,
                                           .program = program,
                                           .erase = erase};

void fota_port_slot_flash(uint8_t slot, fota_flash_t *flash) {
  CHECK(slot != journal.record.confirmed); /* the confirmed slot is never written */
  *flash = journal_flash;
  flash->context = fota_layout.slot[fota_slot_index(slot)];
  flash->page_size = PAGE_SIZE;
}

bool fota_port_ecc_fault(void) {
  return false;
}

void fota_port_feed(void) {}

void fota_port_put(const char *text) {
  for (; *text != '\0'; text++) {
    CHECK(console_size < CONSOLE_SIZE);
    console[console_size] = *text;
    console_size++;
  }
}

void host_start(fota_smp_t *smp, uint8_t confirmed) {
  memset(slots, 0, sizeof slots); /* what was never erased must not be programmed */
  memset(journal_pages, 0xff, sizeof journal_pages);
  memset(smp, 0, sizeof *smp);
  fota_journal_open(&journal, &journal_flash);
  if (confirmed == FOTA_SLOT_A || confirmed == FOTA_SLOT_B) {
    const fota_record_t record = {
        .confirmed = confirmed, .candidate = FOTA_SLOT_NONE, .state = FOTA_STATE_NONE};
    const fota_status_t status = fota_journal_append(&journal, &record);
    CHECK(status == FOTA_OK);
  }
  smp->upload.journal = &journal;
}
