#include "recovery/upload.h"

#include <stddef.h>
#include <string.h>

#include "hardened.h"
#include "hash.h"
#include "layout.h"
#include "recovery/recovery_port.h"

enum { WORD = 16 }; /* a multiple of what any port's flash programs at once, as a record is */

static void clear_word(fota_upload_t *u) {
  memset(u->word, 0xff, sizeof u->word);
}

/* Never the confirmed slot: what runs stays until its replacement has proved itself. */
fota_status_t fota_upload_begin(fota_upload_t *u, uint32_t length, const uint8_t *digest) {
  u->length = 0;
  u->offset = 0;
  if (length == 0 || length > fota_layout.slot_size) return FOTA_IMAGE_SIZE;
  u->slot = u->journal->record.confirmed == FOTA_SLOT_B ? FOTA_SLOT_A : FOTA_SLOT_B;
  fota_port_slot_flash(u->slot, &u->flash);
  u->length = length;
  u->has_digest = digest != NULL;
  if (digest != NULL) memcpy(u->digest, digest, sizeof u->digest);
  clear_word(u);
  return FOTA_OK;
}

/* Programs the word that ends at or behind the last byte that arrived. */
static fota_status_t flush(fota_upload_t *u) {
  const fota_flash_t *flash = &u->flash;
  const uint32_t at = (u->offset - 1) / WORD * WORD;
  if (at % flash->page_size == 0) FOTA_TRY(flash->erase(flash->context, at));
  FOTA_TRY(flash->program(flash->context, at, u->word, WORD));
  clear_word(u);
  return FOTA_OK;
}

static fota_status_t store(fota_upload_t *u, const uint8_t *data, uint32_t size) {
  uint8_t *const word = (uint8_t *)u->word;
  for (uint32_t i = 0; i < size; i++) {
    word[u->offset % WORD] = data[i];
    u->offset++;
    if (u->offset % WORD == 0) FOTA_TRY(flush(u));
  }
  return FOTA_OK;
}

static fota_status_t check_digest(const fota_upload_t *u) {
  uint8_t digest[32];
  if (!u->has_digest) return FOTA_OK;
  fota_hash(fota_layout.slot[fota_slot_index(u->slot)], u->length, digest);
  return fota_verdict_or(fota_compare(digest, u->digest, sizeof digest), FOTA_IMAGE_HASH);
}

static fota_status_t finish(fota_upload_t *u) {
  const fota_record_t wanted = {
      .confirmed = u->journal->record.confirmed, .candidate = u->slot, .state = FOTA_STATE_STAGED};
  if (u->offset % WORD != 0) FOTA_TRY(flush(u));
  FOTA_TRY(check_digest(u));
  return fota_journal_append(u->journal, &wanted);
}

fota_status_t fota_upload_write(fota_upload_t *u, const uint8_t *data, uint32_t size) {
  if (size > u->length - u->offset) return FOTA_IMAGE_SIZE;
  if (size == 0) return FOTA_OK;
  fota_status_t status = store(u, data, size);
  if (status == FOTA_OK && u->offset == u->length) status = finish(u);
  if (status != FOTA_OK) {
    u->length = 0;
    u->offset = 0;
  }
  return status;
}
