#include "port/esp32c3/messages.h"

#include "port.h"
#include "port/esp32c3/journal_flash.h"
#include "port/esp32c3/memory.h"
#include "port/esp32c3/otadata.h"
#include "port/esp32c3/places.h"

static fota_otadata_t otadata;

static void read_otadata(void) {
  uint32_t sectors[2][FOTA_OTA_RECORD / 4];
  for (uint32_t i = 0; i < 2; i++) {
    const uint32_t at = fota_otadata_place + i * PAGE_SIZE;
    if (fota_spi_read(at, sectors[i], FOTA_OTA_RECORD) != FOTA_OK) return;
  }
  fota_otadata_read((const uint8_t *)sectors[0], (const uint8_t *)sectors[1], &otadata);
}

/* The core's way to the journal leads through here (port.mk: --wrap): what the application said in
 * its own words is put beside what the journal says. */
void fota_journal_open_itself(fota_journal_t *journal,
                              const fota_flash_t *flash) __asm__("__real_fota_journal_open");
void fota_journal_open_joined(fota_journal_t *journal,
                              const fota_flash_t *flash) __asm__("__wrap_fota_journal_open");

void fota_journal_open_joined(fota_journal_t *journal, const fota_flash_t *flash) {
  fota_journal_open_itself(journal, flash);
  fota_port_report.journal = fota_places.store;
  if (fota_otadata_place == 0) return;
  read_otadata();
  if (!fota_otadata_join(&otadata, &journal->record)) return;
  const fota_record_t confirmed = journal->record;
  /* a journal that takes no record: then it holds for this boot, and is said again in the next */
  if (fota_journal_append(journal, &confirmed) != FOTA_OK) journal->record = confirmed;
}

void fota_messages_answer(void) {
  const fota_report_t *r = &fota_port_report;
  const fota_record_t state = {.confirmed = r->confirmed,
                               .candidate = r->candidate,
                               .state = r->state,
                               .tries = r->tries,
                               .reason = r->reason};
  uint32_t record[FOTA_OTA_RECORD / 4];
  uint32_t sector;
  if (fota_otadata_place == 0) return;
  if (!fota_otadata_answer(&otadata, &state, &sector, (uint8_t *)record)) return;
  const uint32_t at = fota_otadata_place + sector * PAGE_SIZE;
  /* if flash fails here, the application is not told, and all else goes on */
  if (fota_spi_erase(at) == FOTA_OK) (void)!fota_spi_write(at, record, sizeof record);
}
