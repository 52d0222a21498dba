#include "port/esp32c3/otadata.h"

#include <string.h>

#include "bytes.h"
#include "layout.h"

enum { STATE = 24, CRC = 28, NONE = 2 };

/* CRC-32 of the sequence number, begun with 0 and not with ones: ESP-IDF's way. */
static uint32_t crc_of(uint32_t sequence) {
  uint32_t crc = sequence;
  for (uint32_t bit = 0; bit < 32; bit++)
    crc = crc >> 1 ^ (0xedb88320u & (0 - (crc & 1u)));
  return ~crc;
}

void fota_otadata_read(const uint8_t *sector0, const uint8_t *sector1, fota_otadata_t *data) {
  const uint8_t *const sectors[2] = {sector0, sector1};
  *data = (fota_otadata_t){0};
  for (uint32_t i = 0; i < 2; i++) {
    const uint32_t sequence = fota_load_le32(sectors[i]);
    const bool whole = fota_load_le32(sectors[i] + CRC) == crc_of(sequence);
    if (!whole || sequence + 1 < 2) continue; /* 0 and FFFFFFFF are no numbers */
    data->sequence[i] = sequence;
    data->state[i] = fota_load_le32(sectors[i] + STATE);
  }
}

static uint8_t slot_of(uint32_t sequence) {
  return sequence % 2 == 1 ? FOTA_SLOT_A : FOTA_SLOT_B;
}

static bool asks(uint32_t state) {
  return state == FOTA_OTA_NEW || state == FOTA_OTA_UNDEFINED;
}

static bool is_over(uint32_t state) {
  return state == FOTA_OTA_INVALID || state == FOTA_OTA_ABORTED;
}

/* The sector with the highest sequence number, or NONE: of those that count, or, with a slot, of
 * all that are about it. */
static uint32_t newest(const fota_otadata_t *data, uint8_t slot) {
  uint32_t found = NONE;
  uint32_t highest = 0;
  for (uint32_t i = 0; i < 2; i++) {
    const uint32_t sequence = data->sequence[i];
    if (sequence <= highest) continue;
    if (slot == FOTA_SLOT_NONE ? is_over(data->state[i]) : slot_of(sequence) != slot) continue;
    highest = sequence;
    found = i;
  }
  return found;
}

static bool join_trial(const fota_otadata_t *data, fota_record_t *state) {
  const uint32_t own = newest(data, state->candidate);
  const uint32_t active = newest(data, FOTA_SLOT_NONE);
  if (own != NONE && data->state[own] == FOTA_OTA_VALID) {
    *state = (fota_record_t){.sequence = state->sequence,
                             .confirmed = state->candidate,
                             .candidate = FOTA_SLOT_NONE,
                             .state = FOTA_STATE_NONE};
    return true;
  }
  const bool given_up = own != NONE && is_over(data->state[own]);
  const bool wants_back = active != NONE && active != own && asks(data->state[active]) &&
                          slot_of(data->sequence[active]) == state->confirmed;
  if (given_up || wants_back) {
    state->tries = 0;
    state->reason = FOTA_SELF_TEST;
  } else if (state->tries == 0) {
    state->reason = 0; /* the policy's word for that is its own */
  }
  return false;
}

bool fota_otadata_join(const fota_otadata_t *data, fota_record_t *state) {
  if (state->state == FOTA_STATE_TRIAL && state->reason == FOTA_OTA_DATA) {
    return join_trial(data, state);
  }
  if (state->state == FOTA_STATE_TRIAL || state->state == FOTA_STATE_STAGED) return false;
  const uint32_t active = newest(data, FOTA_SLOT_NONE);
  if (active == NONE) return false;
  /* a device that has booted without us so far: what ran last goes first */
  const bool first = state->confirmed == FOTA_SLOT_NONE && state->state == FOTA_STATE_NONE;
  const bool ran = first && data->state[active] != FOTA_OTA_PENDING;
  if (!ran && !asks(data->state[active])) return false;
  const uint8_t slot = slot_of(data->sequence[active]);
  if (slot == state->confirmed) return false;
  state->candidate = slot;
  state->state = FOTA_STATE_STAGED;
  state->tries = 0;
  state->reason = FOTA_OTA_DATA;
  return false;
}

static bool make(uint32_t sequence, uint32_t state, uint8_t record[FOTA_OTA_RECORD]) {
  const uint32_t crc = crc_of(sequence);
  memset(record, 0xff, FOTA_OTA_RECORD);
  fota_copy4(record, &sequence);
  fota_copy4(record + STATE, &state);
  fota_copy4(record + CRC, &crc);
  return true;
}

/* The record of a trial says PENDING, so that its application knows to confirm; one that a power
 * cut took is made anew, above the other. */
static bool answer_trial(const fota_otadata_t *data, uint8_t candidate, uint32_t *sector,
                         uint8_t record[FOTA_OTA_RECORD]) {
  const uint32_t own = newest(data, candidate);
  if (own != NONE) {
    const uint32_t s = data->state[own];
    *sector = own;
    if (s == FOTA_OTA_PENDING || s == FOTA_OTA_VALID || is_over(s)) return false;
    return make(data->sequence[own], FOTA_OTA_PENDING, record);
  }
  const uint32_t active = newest(data, FOTA_SLOT_NONE);
  uint32_t sequence = active == NONE ? 1 : data->sequence[active] + 1;
  if (slot_of(sequence) != candidate) sequence++;
  if (sequence + 1 == 0) return false; /* a forged end of counting: nobody is told */
  *sector = active == 0;
  return make(sequence, FOTA_OTA_PENDING, record);
}

bool fota_otadata_answer(const fota_otadata_t *data, const fota_record_t *state, uint32_t *sector,
                         uint8_t record[FOTA_OTA_RECORD]) {
  if (state->state == FOTA_STATE_TRIAL) {
    return state->reason == FOTA_OTA_DATA && answer_trial(data, state->candidate, sector, record);
  }
  const uint32_t active = newest(data, FOTA_SLOT_NONE);
  if (active == NONE || state->state == FOTA_STATE_STAGED) return false;
  const uint32_t sequence = data->sequence[active];
  const uint32_t s = data->state[active];
  const uint8_t slot = slot_of(sequence);
  *sector = active;
  if (slot == state->confirmed) return asks(s) && make(sequence, FOTA_OTA_VALID, record);
  /* a request that the journal could not note stays one */
  const bool refused = slot == state->candidate && asks(s);
  return (refused || s == FOTA_OTA_PENDING) && make(sequence, FOTA_OTA_ABORTED, record);
}
