/* Bound: none: every pair of sequence numbers that are read, every state that the journal has.
 * Sources: port/esp32c3/otadata
 * Unwind: 33 */
#include "port/esp32c3/otadata.h"

#include "bytes.h"
#include "layout.h"
#include "prove.h"
#include "status.h"

enum { ANSWERS_MOST = 2 };

/* CBMC knows memcpy, but not by this name. */
void *__builtin_memcpy(void *to, const void *from, size_t size) {
  for (size_t i = 0; i < size; i++)
    ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
  return to;
}

static void check_join(const fota_record_t *before, const fota_record_t *after, bool confirmed) {
  PROVE(after->sequence == before->sequence, "the journal's number stays");
  if (confirmed) {
    PROVE(before->state == FOTA_STATE_TRIAL && before->reason == FOTA_OTA_DATA,
          "a trial of the OTA data is what they confirm");
    PROVE(after->confirmed == before->candidate && after->state == FOTA_STATE_NONE,
          "and what was tried is confirmed");
    return;
  }
  PROVE(after->confirmed == before->confirmed, "nothing else changes what is confirmed");
  PROVE(after->tries <= before->tries, "no try is given");
  if (after->state == before->state) return;
  PROVE(after->state == FOTA_STATE_STAGED && after->reason == FOTA_OTA_DATA, "a request");
  PROVE(after->candidate == FOTA_SLOT_A || after->candidate == FOTA_SLOT_B, "for a slot");
  PROVE(after->candidate != after->confirmed, "that is not the confirmed one");
}

static bool is_slot(uint8_t slot) {
  return slot == FOTA_SLOT_A || slot == FOTA_SLOT_B;
}

/* What the journal takes for a record, and has a candidate if something is pending. */
static void assume_state(const fota_record_t *r) {
  ASSUME(is_slot(r->confirmed) || r->confirmed == FOTA_SLOT_NONE);
  if (r->state == FOTA_STATE_NONE) {
    ASSUME(is_slot(r->candidate) || r->candidate == FOTA_SLOT_NONE);
  } else {
    ASSUME(is_slot(r->candidate) && r->candidate != r->confirmed);
    ASSUME(r->state == FOTA_STATE_STAGED || r->state == FOTA_STATE_TRIAL ||
           r->state == FOTA_STATE_REJECTED || r->state == FOTA_STATE_REVERTED);
  }
}

static void check_answers(fota_otadata_t data, const fota_record_t *state) {
  uint32_t answers = 0;
  uint32_t sector = 9;
  uint8_t record[FOTA_OTA_RECORD];
  for (; answers <= ANSWERS_MOST; answers++) {
    if (!fota_otadata_answer(&data, state, &sector, record)) return;
    PROVE(sector < 2, "an answer goes to one of the two sectors");
    data.sequence[sector] = fota_load_le32(record);
    data.state[sector] = fota_load_le32(record + 24);
    PROVE(data.sequence[sector] + 1 >= 2, "with a number that counts");
  }
  PROVE(false, "the third time nothing is said");
}

int main(void) {
  fota_record_t before;
  fota_otadata_t data;
  fota_otadata_read(any_bytes(FOTA_OTA_RECORD), any_bytes(FOTA_OTA_RECORD), &data);
  for (uint32_t i = 0; i < 2; i++)
    PROVE(data.sequence[i] != UINT32_MAX, "0 and all ones are no number");
  __CPROVER_havoc_object(&data); /* as if every CRC were right */
  ASSUME(data.sequence[0] != UINT32_MAX && data.sequence[1] != UINT32_MAX);
  __CPROVER_havoc_object(&before);
  assume_state(&before);
  fota_record_t after = before;
  check_join(&before, &after, fota_otadata_join(&data, &after));
  check_answers(data, &before); /* of whatever the journal has by then */
}
