#include "mcuboot.h"

#include "fota.h"

static int result(fota_status_t status) {
  return status == FOTA_OK ? 0 : -1;
}

int boot_swap_type(void) {
  fota_record_t record;
  fota_status(&record);
  if (record.state == FOTA_STATE_STAGED) return BOOT_SWAP_TYPE_TEST;
  return record.state == FOTA_STATE_TRIAL ? BOOT_SWAP_TYPE_REVERT : BOOT_SWAP_TYPE_NONE;
}

int boot_set_pending(int permanent) {
  const fota_report_t *report = fota_boot_report();
  if (report == NULL || permanent != BOOT_UPGRADE_TEST) return -1;
  return result(fota_request_install(report->running == FOTA_SLOT_A ? FOTA_SLOT_B : FOTA_SLOT_A));
}

int boot_set_confirmed(void) {
  return result(fota_confirm());
}

bool boot_is_img_confirmed(void) {
  const fota_report_t *report = fota_boot_report();
  fota_record_t record;
  fota_status(&record);
  return report != NULL && record.confirmed == report->running;
}

int mcuboot_swap_type(void) {
  return boot_swap_type();
}

int boot_request_upgrade(int permanent) {
  return boot_set_pending(permanent);
}

int boot_write_img_confirmed(void) {
  return boot_set_confirmed();
}
