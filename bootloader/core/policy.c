#include "policy.h"

static uint8_t other_slot(uint8_t slot) {
  return slot ^ FOTA_SLOT_A ^ FOTA_SLOT_B;
}

static fota_status_t status_of(const fota_view_t *view, uint8_t slot) {
  return view->status[fota_slot_index(slot)];
}

bool fota_policy_is_refusal(fota_status_t status) {
  const uint32_t module = status & 0xffff0000u;
  return module == FOTA_MODULE('I', 'M') || module == FOTA_MODULE('P', 'O') ||
         module == FOTA_MODULE('F', 'L');
}

static bool is_fault(fota_status_t status) {
  return status != 0 && status != FOTA_OK && !fota_policy_is_refusal(status);
}

static void halt(fota_step_t *step, fota_status_t status) {
  step->action = FOTA_HALT;
  step->status = status;
}

static void verify(fota_step_t *step, uint8_t slot) {
  step->action = FOTA_VERIFY;
  step->slot = slot;
}

static void boot(fota_step_t *step, uint8_t slot) {
  step->action = FOTA_BOOT;
  step->slot = slot;
}

/* The candidate has had its chance: keep why, and come back for the confirmed slot. */
static void give_up(fota_step_t *step, uint8_t state, fota_status_t reason) {
  step->action = FOTA_WRITE;
  step->record.state = state;
  step->record.tries = 0;
  step->record.reason = reason;
}

static void next_of_candidate(const fota_view_t *view, fota_step_t *step) {
  const fota_record_t *r = view->record;
  const bool staged = r->state == FOTA_STATE_STAGED;
  const fota_status_t status = status_of(view, r->candidate);
  const uint8_t tries = staged ? view->tries : r->tries;
  if (tries == 0) {
    give_up(step, FOTA_STATE_REVERTED, r->reason != 0 ? r->reason : FOTA_TRIES_EXHAUSTED);
  } else if (status == 0) {
    verify(step, r->candidate);
  } else if (status == FOTA_OK) {
    boot(step, r->candidate);
    step->trial = true;
    step->write = true;
    step->record.state = FOTA_STATE_TRIAL;
    step->record.tries = (uint8_t)(tries - 1);
  } else {
    give_up(step, staged ? FOTA_STATE_REJECTED : FOTA_STATE_REVERTED, status);
  }
}

static void next_of_confirmed(const fota_view_t *view, fota_step_t *step) {
  const bool first_boot = view->record->confirmed == FOTA_SLOT_NONE;
  uint8_t slot = first_boot ? FOTA_SLOT_A : view->record->confirmed;
  if (fota_policy_is_refusal(status_of(view, slot))) slot = other_slot(slot);
  const fota_status_t status = status_of(view, slot);
  if (status == 0) {
    verify(step, slot);
  } else if (status == FOTA_OK) {
    boot(step, slot);
    step->write = first_boot && view->writable;
    if (step->write) {
      step->record =
          (fota_record_t){.confirmed = slot, .candidate = FOTA_SLOT_NONE, .state = FOTA_STATE_NONE};
    }
  } else {
    halt(step, FOTA_NO_IMAGE);
  }
}

void fota_policy_next(const fota_view_t *view, fota_step_t *step) {
  const fota_record_t *r = view->record;
  *step = (fota_step_t){.action = FOTA_HALT, .slot = FOTA_SLOT_NONE, .record = *r};
  for (int i = 0; i < 2; i++) {
    if (is_fault(view->status[i])) {
      halt(step, view->status[i]);
      return;
    }
  }
  const bool pending = r->state == FOTA_STATE_STAGED || r->state == FOTA_STATE_TRIAL;
  if (pending && r->candidate != FOTA_SLOT_NONE && view->writable) {
    next_of_candidate(view, step);
  } else {
    next_of_confirmed(view, step);
  }
}
