/* For applications: where the journal is, as the boot report says it. */
#include "fota.h"
#include "port/esp32c3/journal_flash.h"

const fota_flash_t *fota_journal_of(uint8_t running) {
  const fota_report_t *report = fota_boot_report();
  (void)running;
  fota_journal_place = report != NULL ? report->journal : 0;
  return &fota_journal_flash;
}
