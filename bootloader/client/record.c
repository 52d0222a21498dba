#include "fota.h"

static bool in_trial(const fota_record_t *state, uint8_t running) {
  return state->state == FOTA_STATE_TRIAL && state->candidate == running;
}

fota_status_t fota_record_request(const fota_record_t *state, uint8_t running, uint8_t slot,
                                  fota_record_t *next) {
  if (in_trial(state, running)) return FOTA_JOURNAL_IN_TRIAL;
  if (slot == running || (slot != FOTA_SLOT_A && slot != FOTA_SLOT_B)) {
    return FOTA_JOURNAL_RUNNING_SLOT;
  }
  *next = (fota_record_t){.confirmed = running, .candidate = slot, .state = FOTA_STATE_STAGED};
  return FOTA_OK;
}

void fota_record_confirm(const fota_record_t *state, uint8_t running, fota_record_t *next,
                         bool *needed) {
  *needed = state->sequence == 0 || state->confirmed != running ||
            state->candidate != FOTA_SLOT_NONE || state->state != FOTA_STATE_NONE;
  *next =
      (fota_record_t){.confirmed = running, .candidate = FOTA_SLOT_NONE, .state = FOTA_STATE_NONE};
}

fota_status_t fota_record_reject(const fota_record_t *state, uint8_t running, fota_status_t reason,
                                 fota_record_t *next) {
  if (!in_trial(state, running)) return FOTA_JOURNAL_NO_TRIAL;
  *next = (fota_record_t){.confirmed = state->confirmed,
                          .candidate = running,
                          .state = FOTA_STATE_TRIAL,
                          .reason = reason};
  return FOTA_OK;
}
