/* Sample application: says what it is and how it was booted, tests itself in a trial, and keeps the
 * watchdog fed. The update agent confirms it; it can only reject itself. */
#include <stdnoreturn.h>
#include <string.h>

#include "fota.h"
#include "hash.h"
#include "journal_flash.h"
#include "mcuboot.h"
#include "memory.h"
#include "port.h"
#include "registers.h"
#include "sample/console.h"

enum {
  TICK = 400000, /* 0.1 s at 4 MHz */
  IMAGE = BANK_LOW + SLOT_OFFSET,
};

typedef struct app {
  const char *version;
  bool self_test_fails; /* a release that was built broken */
} app_t;

static const app_t app = {.version = APP_VERSION, .self_test_fails = APP_SELF_TEST_FAILS};

static noreturn void restart(void) {
  for (;;)
    SCB_AIRCR = AIRCR_RESET;
}

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

void fota_port_feed(void) {
  IWDG_KR = 0xaaaa; /* no effect unless the bootloader started it */
}

/* The code that runs is the code that was verified: its hash against the one in the boot report. */
static bool image_is_intact(const fota_report_t *report) {
  const uint8_t *image = (const uint8_t *)IMAGE;
  uint32_t img_size;
  uint32_t sizes;
  uint8_t digest[32];
  memcpy(&sizes, image + 8, 4); /* header size u16, protected area u16 */
  memcpy(&img_size, image + 12, 4);
  fota_hash(image, (sizes & 0xffff) + img_size + (sizes >> 16), digest);
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
  restart();
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
      restart();
    case 's':
      print_status();
      break;
    default:
      break;
  }
}

static noreturn void run(void) {
  console_start();
  print_status();
  self_test();
  SYST_RVR = TICK - 1;
  SYST_CVR = 0;
  SYST_CSR = SYST_ON;
  for (;;) {
    while ((SCB_ICSR & ICSR_PENDSTSET) == 0)
      __asm__ volatile("wfi");
    SCB_ICSR = ICSR_PENDSTCLR;
    fota_port_feed();
    for (int byte = console_get(); byte >= 0; byte = console_get())
      obey(byte);
  }
}

extern uint8_t linker_stack_top[], linker_data_start[], linker_data_end[], linker_data_load[],
    linker_bss_start[], linker_bss_end[];

noreturn void app_reset(void);
noreturn void app_reset(void) {
  __asm__ volatile("cpsid i"); /* SysTick only wakes from WFI here */
  memcpy(linker_data_start, linker_data_load, (size_t)(linker_data_end - linker_data_start));
  memset(linker_bss_start, 0, (size_t)(linker_bss_end - linker_bss_start));
  run();
}

typedef union vector {
  const void *stack;
  void (*handler)(void);
} vector_t;

__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    [0] = {.stack = linker_stack_top}, [1] = {.handler = app_reset},
    [2] = {.handler = fota_flash_nmi}, [3] = {.handler = restart},
    [4] = {.handler = restart},        [5] = {.handler = restart},
    [6] = {.handler = restart},
};
