/* What OTA data ask for, and the answer. Input: which CRCs are to be made right (bits 0, 1), the
 * journal's confirmed, candidate, state, tries, and whether its reason is the OTA data (bit 0),
 * then for each sector its sequence number and state (u32 each) and the CRC (u32). */
#include "port/esp32c3/otadata.h"

#include <stdbool.h>
#include <string.h>

#include "crc32.h"
#include "fuzz.h"
#include "layout.h"
#include "status.h"

enum { HEAD = 6, SECTOR_INPUT = 12, STATE = 24, CRC = 28, ANSWERS_MOST = 2 };

/* ESP-IDF's CRC-32 of a sequence number, begun with zeros, by ours, which is begun with ones. */
static uint32_t crc_of(uint32_t sequence) {
  sequence = ~sequence;
  return fota_crc32(&sequence, sizeof sequence);
}

static void put_sector(uint8_t sector[FOTA_OTA_RECORD], const uint8_t *input, int make_right) {
  uint32_t sequence;
  memcpy(&sequence, input, 4);
  memset(sector, 0xff, FOTA_OTA_RECORD);
  memcpy(sector, input, 4);
  memcpy(sector + STATE, input + 4, 4);
  memcpy(sector + CRC, input + 8, 4);
  if (make_right) memcpy(sector + CRC, &(uint32_t){crc_of(sequence)}, 4);
}

/* A request changes what is tried, never what is confirmed: that only a trial's own VALID does. */
static void check_join(const fota_record_t *before, const fota_record_t *after, int confirmed) {
  CHECK(after->sequence == before->sequence);
  if (confirmed) {
    CHECK(before->state == FOTA_STATE_TRIAL && before->reason == FOTA_OTA_DATA);
    CHECK(after->confirmed == before->candidate && after->state == FOTA_STATE_NONE);
    return;
  }
  CHECK(after->confirmed == before->confirmed && after->tries <= before->tries);
  if (after->state == before->state) return;
  CHECK(after->state == FOTA_STATE_STAGED && after->reason == FOTA_OTA_DATA);
  CHECK(after->candidate != after->confirmed);
  CHECK(after->candidate == FOTA_SLOT_A || after->candidate == FOTA_SLOT_B);
}

/* What the journal takes for a record, and has a candidate if something is pending. */
static bool is_state(uint8_t confirmed, uint8_t candidate, uint8_t state) {
  const bool slot = candidate == FOTA_SLOT_A || candidate == FOTA_SLOT_B;
  const bool other = confirmed == FOTA_SLOT_A || confirmed == FOTA_SLOT_B;
  if (!other && confirmed != FOTA_SLOT_NONE) return false;
  if (state == FOTA_STATE_NONE) return slot || candidate == FOTA_SLOT_NONE;
  return slot && candidate != confirmed &&
         (state == FOTA_STATE_STAGED || state == FOTA_STATE_TRIAL || state == FOTA_STATE_REJECTED ||
          state == FOTA_STATE_REVERTED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size != HEAD + 2 * SECTOR_INPUT || !is_state(data[1], data[2], data[3])) return 0;
  uint8_t *sectors[2];
  for (uint32_t i = 0; i < 2; i++) {
    sectors[i] = malloc(FOTA_OTA_RECORD);
    put_sector(sectors[i], data + HEAD + i * SECTOR_INPUT, data[0] >> i & 1);
  }
  const fota_record_t before = {.sequence = 5,
                                .confirmed = data[1],
                                .candidate = data[2],
                                .state = data[3],
                                .tries = data[4],
                                .reason = data[5] & 1 ? (uint32_t)FOTA_OTA_DATA : 0};
  fota_record_t state = before;
  fota_otadata_t ota;
  fota_otadata_read(sectors[0], sectors[1], &ota);
  check_join(&before, &state, fota_otadata_join(&ota, &state));
  uint32_t answers = 0;
  for (uint32_t sector = 9;; answers++) {
    uint8_t record[FOTA_OTA_RECORD];
    if (!fota_otadata_answer(&ota, &state, &sector, record)) break;
    CHECK(answers < ANSWERS_MOST && sector < 2);
    memcpy(sectors[sector], record, sizeof record);
    fota_otadata_read(sectors[0], sectors[1], &ota);
    CHECK(ota.sequence[sector] != 0);
  }
  free(sectors[0]);
  free(sectors[1]);
  return 0;
}
