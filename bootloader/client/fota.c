#include "fota.h"

#include "crc32.h"
#include "journal_flash.h"
#include "report_address.h"

const fota_report_t *fota_boot_report(void) {
  const fota_report_t *r = (const fota_report_t *)FOTA_REPORT_ADDRESS;
  const bool good = r->magic == FOTA_REPORT_MAGIC && r->format == 1 && r->length == sizeof *r &&
                    r->crc == fota_crc32(r, offsetof(fota_report_t, crc));
  return good ? r : NULL;
}

void fota_set_health(uint32_t health) {
  *(volatile uint32_t *)FOTA_HEALTH_ADDRESS = health;
}

static uint8_t running_slot(void) {
  const fota_report_t *report = fota_boot_report();
  return report != NULL ? report->running : FOTA_SLOT_NONE;
}

static void open_journal(fota_journal_t *journal, uint8_t running) {
  fota_journal_open(journal, fota_journal_of(running));
}

void fota_status(fota_record_t *record) {
  fota_journal_t journal;
  open_journal(&journal, running_slot());
  *record = journal.record;
}

fota_status_t fota_request_install(uint8_t slot) {
  const uint8_t running = running_slot();
  fota_journal_t journal;
  fota_record_t next;
  if (running == FOTA_SLOT_NONE) return FOTA_JOURNAL_RUNNING_SLOT;
  open_journal(&journal, running);
  FOTA_TRY(fota_record_request(&journal.record, running, slot, &next));
  return fota_journal_append(&journal, &next);
}

fota_status_t fota_confirm(void) {
  const uint8_t running = running_slot();
  fota_journal_t journal;
  fota_record_t next;
  bool needed;
  if (running == FOTA_SLOT_NONE) return FOTA_JOURNAL_RUNNING_SLOT;
  open_journal(&journal, running);
  fota_record_confirm(&journal.record, running, &next, &needed);
  return needed ? fota_journal_append(&journal, &next) : FOTA_OK;
}

fota_status_t fota_reject(fota_status_t reason) {
  const uint8_t running = running_slot();
  fota_journal_t journal;
  fota_record_t next;
  open_journal(&journal, running);
  FOTA_TRY(fota_record_reject(&journal.record, running, reason, &next));
  return fota_journal_append(&journal, &next);
}
