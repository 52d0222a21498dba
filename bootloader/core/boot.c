#include "boot.h"

#include <string.h>

#include "bytes.h"
#include "console.h"
#include "crc32.h"
#include "element.h"
#include "hardened.h"
#include "hash.h"
#include "image.h"
#include "policy.h"
#include "port.h"
#include "settings.h"

enum {
  ATTEMPTS = 3,      /* sessions with the element before giving up */
  PAUSE_US = 200000, /* before the next: longer than any command it may still be busy with */
  HALT_WATCHDOG_S = 8,
  COUNTS_PER_STEP = 8, /* a power cut may add a spurious count: eight are one step */
  STEPS_PER_BOOT = 16, /* of the floor: 20 s with the slowest element */
};

typedef struct boot {
  volatile uint32_t proof; /* hardened.h 2; of the slot looked at last, and so are the following */
  uint32_t counter[2];     /* authenticated; all ones = not known */
  uint32_t counted;        /* the floor's, as read last while it is raised; all ones = not known */
  fota_image_t image;
  fota_claim_t claim;
  fota_evidence_t evidence;
  fota_view_t view;
  fota_journal_t journal;
} boot_t;

static const uint8_t *const settings = fota_port_settings;

static uint32_t floor_of(const boot_t *b) {
  return b->counter[FOTA_COUNTER_FLOOR] / COUNTS_PER_STEP;
}

__attribute__((weak)) void fota_recover(fota_status_t why) {
  (void)why;
}

__attribute__((weak)) void fota_release(void) {}

__attribute__((weak)) void fota_port_map(const uint8_t *base) {
  (void)base;
}

static noreturn void halt(fota_status_t why) {
  fota_port_report.running = FOTA_SLOT_NONE;
  fota_port_report.reason = why;
  fota_port_report.crc = fota_crc32(&fota_port_report, offsetof(fota_report_t, crc));
  fota_say_status("halt", why);
  fota_recover(why);
  fota_port_watchdog(HALT_WATCHDOG_S);
  fota_port_halt();
}

/* What the journal says now, for the report: also of a boot that ends in a halt. */
__attribute__((noinline)) static void note_record(const boot_t *b) {
  const fota_record_t *record = &b->journal.record;
  fota_port_report.confirmed = record->confirmed;
  fota_port_report.candidate = record->candidate;
  fota_port_report.state = record->state;
  fota_port_report.tries = record->tries;
  fota_port_report.reason = record->reason;
  fota_port_report.sequence = record->sequence;
}

/* From here on, whatever stops us is not for ever. */
__attribute__((noinline)) static void guard(void) {
  if (settings[FOTA_SETTINGS_WATCHDOG_ALWAYS] == 1) {
    fota_port_watchdog(settings[FOTA_SETTINGS_WATCHDOG_S]);
  }
}

/* --- looking at a slot --- */

/* Parses and hashes. The signature is over this hash, so the one in the image only names damage. */
static fota_status_t read_image(boot_t *b, const uint8_t *base) {
  const uint32_t start_us = fota_port_time_us();
  FOTA_TRY(fota_image_parse(base, &fota_layout, &b->image));
  fota_hash(b->image.base, b->image.hashed_size, b->claim.digest);
  fota_port_report.hash_us += fota_port_time_us() - start_us;
  return fota_verdict_or(fota_compare(b->claim.digest, b->image.hash, 32), FOTA_IMAGE_HASH);
}

__attribute__((noinline)) static fota_status_t check_class(const boot_t *b) {
  return fota_verdict_or(fota_compare(b->image.class_id, settings + FOTA_SETTINGS_CLASS, 16),
                         FOTA_IMAGE_CLASS);
}

static fota_status_t find_root(boot_t *b) {
  b->claim.rs = b->image.rs;
  for (uint32_t root = 0; root < 2; root++) {
    const uint8_t *key_hash = settings + FOTA_SETTINGS_ROOT_A + 32 * root;
    b->claim.root = root;
    if (fota_compare(b->image.key_hash, key_hash, 32) == FOTA_OK) return FOTA_OK;
  }
  return FOTA_IMAGE_KEY;
}

/* Root A is good in epoch 0 only, root B always. */
__attribute__((noinline)) static fota_status_t check_key(const boot_t *b) {
  const uint32_t epoch = b->counter[FOTA_COUNTER_EPOCH] / COUNTS_PER_STEP;
  return b->claim.root == 0 && epoch != 0 ? FOTA_IMAGE_KEY_RETIRED : FOTA_OK;
}

__attribute__((noinline)) static fota_status_t check_floor(const boot_t *b) {
  const uint32_t sec_cnt = fota_load_le32(b->image.sec_cnt);
  const uint32_t floor = floor_of(b);
  if (sec_cnt < floor) return FOTA_ROLLBACK;
  if (sec_cnt - floor > fota_load_le32(settings + FOTA_SETTINGS_STEP)) return FOTA_COUNTER_STEP;
  return FOTA_OK;
}

/* Everything that needs the element, in one awake session. Builds the proof. */
static fota_status_t ask_element(boot_t *b) {
  memset(b->counter, 0xff, sizeof b->counter);
  b->proof = (uint32_t)(uintptr_t)b->image.base;
  FOTA_PROVE(b->proof, check_class(b));
  FOTA_TRY(fota_element_open());
  for (uint32_t i = 0; i < 2; i++) {
    FOTA_PROVE(b->proof, fota_element_counter(i, &b->counter[i]));
  }
  FOTA_PROVE(b->proof, check_key(b));
  FOTA_PROVE(b->proof, check_floor(b));
  FOTA_PROVE(b->proof, fota_element_verify(&b->claim, &b->evidence));
  return FOTA_OK;
}

static bool is_verdict(fota_status_t status) {
  return status == FOTA_OK || fota_policy_is_refusal(status);
}

/* After a failed attempt: says why, and lets the element finish what it may be at. */
static void pause(fota_status_t status) {
  fota_say_status("element", status);
  fota_port_feed();
  fota_port_wait_us(PAUSE_US);
}

static fota_status_t ask_element_patiently(boot_t *b) {
  const uint32_t start_us = fota_port_time_us();
  fota_status_t status = FOTA_ELEMENT_ABSENT;
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    status = ask_element(b);
    fota_element_close();
    /* "Bad signature" carries no MAC: it is believed once it was said in every session. */
    if (is_verdict(status) && status != FOTA_IMAGE_SIGNATURE) break;
    pause(status);
  }
  fota_port_report.status_element = is_verdict(status) ? FOTA_OK : status;
  fota_port_report.element_us += fota_port_time_us() - start_us;
  return status;
}

static fota_status_t look_at(boot_t *b, uint8_t slot) {
  (void)fota_port_ecc_fault(); /* forget older faults */
  const fota_status_t status = read_image(b, fota_layout.slot[fota_slot_index(slot)]);
  if (fota_port_ecc_fault()) return FOTA_FLASH_ECC;
  FOTA_TRY(status);
  FOTA_TRY(check_class(b)); /* these two refuse without waking the element; the proof has both */
  FOTA_TRY(find_root(b));
  return ask_element_patiently(b);
}

static void verify(boot_t *b, uint8_t slot) {
  guard();
  const fota_status_t status = look_at(b, slot);
  const uint32_t i = fota_slot_index(slot);
  fota_port_report.status[i] = b->view.status[i] = status;
  if (fota_policy_is_refusal(status)) fota_say_slot_status(slot, "refused", status);
}

/* The decisions taken a second time, from the evidence (hardened.h 3): to be added to the proof. */
__attribute__((noinline)) static uint32_t second_look(const boot_t *b) {
  return check_class(b) + check_key(b) + check_floor(b) +
         fota_element_proves(&b->claim, &b->evidence);
}

/* --- writing the journal --- */

/* False if the record did not come to be: then no record is written any more in this boot, and
 * what was seen is forgotten, so that the proof fits the slot that is looked at next. */
static bool append(boot_t *b, const fota_record_t *record) {
  const fota_status_t status = fota_journal_append(&b->journal, record);
  note_record(b);
  if (status == FOTA_OK) return true;
  fota_say_status("journal", status);
  b->view.writable = false;
  b->view.status[0] = b->view.status[1] = 0;
  return false;
}

static void give_up(boot_t *b, const fota_record_t *record) {
  if (append(b, record) && record->state == FOTA_STATE_REVERTED) {
    fota_say_slot_status(record->candidate, "reverted", record->reason);
  }
}

/* --- raising the floor --- */

/* How far to count: to the security counter of the image that is proven and confirmed, or not at
 * all. The proof starts with the slot, so it fits the confirmed one only. */
__attribute__((noinline)) static uint32_t goal(const boot_t *b) {
  const uint8_t *confirmed = fota_layout.slot[fota_slot_index(b->journal.record.confirmed)];
  if (b->proof + second_look(b) != FOTA_PROOF((uintptr_t)confirmed)) return 0;
  return fota_load_le32(b->image.sec_cnt) * COUNTS_PER_STEP;
}

/* One count, after what the element proves anew: whatever one fault does in here, it adds one count
 * at most, and eight are a step. The goal is found twice, for a count cannot be taken back. */
__attribute__((noinline)) static fota_status_t count_once(boot_t *b) {
  FOTA_TRY(fota_element_open());
  FOTA_TRY(fota_element_counter(FOTA_COUNTER_FLOOR, &b->counted));
  b->counter[FOTA_COUNTER_FLOOR] = b->counted;
  if (b->counted >= goal(b) || b->counted >= goal(b)) return FOTA_OK;
  return fota_element_increment(FOTA_COUNTER_FLOOR);
}

/* Raises the floor to the counter of the image that was confirmed, or does not boot: a floor that
 * stays behind would let the older image come back. Only a long leap is left to the following
 * boots, for the application cannot wait minutes (ADR 33). */
static void raise_floor(boot_t *b) {
  const uint32_t sec_cnt = fota_load_le32(b->image.sec_cnt);
  uint32_t floor = floor_of(b);
  const uint32_t end = floor + STEPS_PER_BOOT;
  int attempts = ATTEMPTS;
  b->counted = UINT32_MAX;
  while (floor < sec_cnt && floor < end) {
    const uint32_t before = b->counted;
    fota_status_t status = count_once(b);
    fota_element_close();
    if (status == FOTA_OK && b->counted == before) status = FOTA_ELEMENT_REFUSED;
    fota_port_report.status_element = status;
    if (status != FOTA_OK) {
      b->counted = UINT32_MAX;
      pause(status);
      if (--attempts == 0) halt(status);
    } else if (floor_of(b) != floor) {
      floor = floor_of(b);
      fota_say_number("floor ", floor);
    }
  }
}

/* --- starting the application --- */

static void fill_report(const boot_t *b, const fota_step_t *step) {
  fota_report_t *r = &fota_port_report;
  r->running = step->slot;
  r->trial = step->trial;
  memcpy(r->version, b->image.version, sizeof r->version);
  r->sec_cnt = fota_load_le32(b->image.sec_cnt);
  r->floor = floor_of(b);
  r->epoch = b->counter[FOTA_COUNTER_EPOCH] / COUNTS_PER_STEP;
  memcpy(r->image_hash, b->claim.digest, sizeof r->image_hash);
  r->crc = fota_crc32(r, offsetof(fota_report_t, crc));
}

/* The second look at everything that was decided, from the evidence (hardened.h 3). */
static noreturn void jump(boot_t *b) {
  const uint8_t *base = b->image.base;
  const uint32_t expected = FOTA_PROOF((uintptr_t)base);
  b->proof += second_look(b);
  if (b->proof != expected) halt(FOTA_IMAGE_SIGNATURE);
  fota_release();
  if (fota_launder(b->proof) == fota_launder(expected)) fota_port_boot(base, b->proof);
  halt(FOTA_IMAGE_SIGNATURE);
}

static noreturn void start(boot_t *b, const fota_step_t *step) {
  const bool confirmed = !step->trial && step->slot == b->journal.record.confirmed;
  if (confirmed) raise_floor(b);
  fill_report(b, step);
  fota_say_boot(step->slot, b->image.version,
                step->trial ? " trial\r\n"
                : confirmed ? " confirmed\r\n"
                            : " fallback\r\n");
  if (step->trial) {
    fota_say_number("tries left ", b->journal.record.tries);
    fota_port_watchdog(settings[FOTA_SETTINGS_WATCHDOG_S]);
  }
  jump(b);
}

static void prepare(boot_t *b, uint8_t reset_cause) {
  memset(&fota_port_report, 0, sizeof fota_port_report);
  fota_port_health = FOTA_HEALTH_UNKNOWN;
  fota_port_report.magic = FOTA_REPORT_MAGIC;
  fota_port_report.format = 1;
  fota_port_report.length = sizeof fota_port_report;
  fota_port_report.reset_cause = reset_cause;
  const bool whole = fota_settings_check(settings) == FOTA_OK && !fota_port_ecc_fault();
  guard();
  fota_journal_open(&b->journal, fota_port_journal);
  /* "Nothing there" lets slot A be confirmed without a trial: that is looked at twice. */
  if (b->journal.record.sequence == 0) fota_journal_open(&b->journal, fota_port_journal);
  b->view = (fota_view_t){
      .record = &b->journal.record, .tries = settings[FOTA_SETTINGS_TRIES], .writable = true};
  note_record(b);
  if (!whole) halt(FOTA_SETTINGS);
}

noreturn void fota_boot(uint8_t reset_cause) {
  static boot_t state; /* not on the stack, where the hash needs the room */
  boot_t *b = &state;
  __asm__ volatile("" : "+r"(b)); /* offsets are shorter than addresses */
  fota_step_t step;
  fota_recover(0);
  prepare(b, reset_cause);
  for (;;) {
    fota_policy_next(&b->view, &step);
    switch (step.action) {
      case FOTA_VERIFY:
        verify(b, step.slot);
        break;
      case FOTA_WRITE:
        give_up(b, &step.record);
        break;
      case FOTA_BOOT: /* the try is booked before it is taken */
        fota_port_map(b->image.base);
        if (!step.write || append(b, &step.record)) start(b, &step);
        break;
      case FOTA_HALT:
      default:
        halt(step.status != 0 ? step.status : FOTA_NO_IMAGE);
    }
  }
}
