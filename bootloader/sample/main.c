/* Sample application: says what it is and how it was booted, tests itself in a trial, and keeps the
 * watchdog fed. The update agent confirms it; it can only reject itself. */
#include <stdnoreturn.h>
#include <string.h>

#include "fota.h"
#include "mcuboot.h"
#include "port.h"
#include "sample/board.h"
#include "sample/console.h"

typedef struct app {
  const char *version;
  bool self_test_fails; /* a release that was built broken */
} app_t;

static const app_t app = {.version = APP_VERSION, .self_test_fails = APP_SELF_TEST_FAILS};

static const char *slot_name(uint8_t slot) {
  return slot == FOTA_SLOT_A ? "A" : slot == FOTA_SLOT_B ? "B" : "none";
}

static void put_status(const char *what, uint32_t status) {
  const char module[] = {(char)(status >> 24), (char)(status >> 16), '\0'};
  if (status == 0) return;
  console_put(what);
  if (status == FOTA_OK) {
    console_put("ok");
  } else {
    console_put(module);
    console_put_number(status & 0xffff);
  }
}

static void say(const char *text) {
  console_put("app ");
  console_put(app.version);
  console_put(": ");
  console_put(text);
}

/* Three lines: what runs, what the bootloader decided, what the journal says. */
static void print_status(void) {
  const fota_report_t *r = fota_boot_report();
  if (r == NULL) {
    say("no boot report\r\n");
    return;
  }
  say("slot ");
  console_put(slot_name(r->running));
  console_put(r->trial ? ", trial" : r->running == r->confirmed ? ", confirmed" : ", fallback");
  console_put(", image ");
  console_put_hex(r->image_hash, 8);
  console_put("\r\n");
  say("boot report: counter ");
  console_put_number(r->sec_cnt);
  console_put(", floor ");
  console_put_number(r->floor);
  put_status(", slot A ", r->status[0]);
  put_status(", slot B ", r->status[1]);
  put_status(", reason ", r->reason);
  console_put(", hash ");
  console_put_number(r->hash_us);
  console_put(" us, element ");
  console_put_number(r->element_us);
  console_put(" us\r\n");
  say("journal: record ");
  console_put_number(r->sequence);
  console_put(", confirmed ");
  console_put(slot_name(r->confirmed));
  console_put(", candidate ");
  console_put(slot_name(r->candidate));
  if (r->trial) {
    console_put(", tries left ");
    console_put_number(r->tries);
  }
  console_put("\r\n");
}

/* The code that runs is the code that was verified: its hash against the one in the boot report. */
static bool image_is_intact(const fota_report_t *report) {
  uint8_t digest[32];
  board_image_digest(digest);
  return memcmp(digest, report->image_hash, sizeof digest) == 0;
}

static noreturn void fail_self_test(void) {
  fota_set_health(FOTA_HEALTH_BAD);
  say("self-test failed\r\n");
  const fota_status_t status = fota_reject(FOTA_SELF_TEST);
  if (status == FOTA_OK) {
    say("rejected itself: AP1\r\n");
  } else {
    put_status("not rejected: ", status);
    console_put("\r\n");
  }
  board_restart();
}

static void self_test(void) {
  const fota_report_t *report = fota_boot_report();
  if (report == NULL || !report->trial) return;
  if (app.self_test_fails || !image_is_intact(report)) fail_self_test();
  fota_set_health(FOTA_HEALTH_GOOD);
  say("self-test passed\r\n");
}

/* What the agent does on a device that has one: for trying the three calls by hand. */
static void say_result(const char *what, fota_status_t status) {
  say(what);
  put_status(": ", status);
  console_put("\r\n");
}

static void request_other_slot(void) {
  const fota_report_t *report = fota_boot_report();
  const bool in_b = report != NULL && report->running == FOTA_SLOT_B;
  say_result("install other slot", fota_request_install(in_b ? FOTA_SLOT_A : FOTA_SLOT_B));
}

static void say_number(const char *what, int number) {
  say(what);
  if (number < 0) console_put("-");
  console_put_number((uint32_t)(number < 0 ? -number : number));
  console_put("\r\n");
}

/* s: print the status again; c: confirm; i: install the other slot; r: restart; f: fail the
 * self-test now. The same as an application of MCUboot says it: t: swap type, m: is it confirmed,
 * C: confirm, I: test the other slot, P: take it for good (refused). */
static void obey(int command) {
  switch (command) {
    case 'c':
      say_result("confirm", fota_confirm());
      break;
    case 'i':
      request_other_slot();
      break;
    case 't':
      say_number("swap type ", boot_swap_type());
      break;
    case 'm':
      say_number("confirmed ", boot_is_img_confirmed());
      break;
    case 'C':
      say_number("boot_set_confirmed: ", boot_set_confirmed());
      break;
    case 'I':
      say_number("boot_set_pending(0): ", boot_set_pending(BOOT_UPGRADE_TEST));
      break;
    case 'P':
      say_number("boot_set_pending(1): ", boot_set_pending(BOOT_UPGRADE_PERMANENT));
      break;
    case 'f':
      fail_self_test();
    case 'r':
      board_restart();
    case 's':
      print_status();
      break;
    default:
      break;
  }
}

noreturn void app_main(void) {
  board_start();
  print_status();
  self_test();
  for (;;) {
    board_wait_tick();
    fota_port_feed();
    for (int byte = board_get(); byte >= 0; byte = board_get())
      obey(byte);
  }
}
