/* Bound: one piece more, of up to 24 bytes, whatever came before: what holds before holds after.
 * Sources: recovery/upload
 * Unwind: 34 */
#include "recovery/upload.h"

#include "hardened.h"
#include "hash.h"
#include "layout.h"
#include "prove.h"
#include "recovery/recovery_port.h"

enum { LONGEST = 24, SLOT = 496 * 1024, PAGE = 2048, WORD = 16 };

static uint8_t slot[1];
const fota_layout_t fota_layout = {.slot = {slot, slot}, .slot_size = SLOT};
static uint32_t erased; /* pages from the slot's start that are */

static fota_status_t read_flash(const void *context, uint32_t offset, void *data, uint32_t length) {
  (void)context, (void)offset, (void)data, (void)length;
  return FOTA_FLASH_ECC;
}

static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  (void)context;
  PROVE(offset % WORD == 0 && length == WORD && __CPROVER_r_ok(data, WORD), "one word");
  PROVE(offset <= SLOT - WORD, "what is programmed lies in the slot");
  PROVE(offset / PAGE < erased, "its page was erased before");
  return ANY(bool) ? FOTA_OK : FOTA_FLASH_PROGRAM;
}

static fota_status_t erase(const void *context, uint32_t offset) {
  (void)context;
  PROVE(offset % PAGE == 0 && offset <= SLOT - PAGE, "a page of the slot is erased");
  erased = offset / PAGE + 1;
  return ANY(bool) ? FOTA_OK : FOTA_FLASH_ERASE;
}

static const fota_flash_t flash = {
    .page_size = PAGE, .read = read_flash, .program = program, .erase = erase};

void fota_port_slot_flash(uint8_t which, fota_flash_t *out) {
  (void)which;
  *out = flash;
}

void fota_hash(const uint8_t *message, uint32_t length, uint8_t digest[32]) {
  PROVE(message == slot && length <= SLOT, "what is hashed lies in the slot");
  __CPROVER_havoc_object(digest);
}

fota_status_t fota_compare(const uint8_t *a, const uint8_t *b, uint32_t length) {
  PROVE(__CPROVER_r_ok(a, length) && __CPROVER_r_ok(b, length), "two whole digests");
  return ANY(bool) ? FOTA_OK : 0;
}

fota_status_t fota_journal_append(fota_journal_t *journal, const fota_record_t *next) {
  PROVE(next->candidate != journal->record.confirmed, "the confirmed slot is not replaced");
  return ANY(bool) ? FOTA_OK : FOTA_JOURNAL_WRITE;
}

static bool sound(const fota_upload_t *u) {
  return u->offset <= u->length && u->length <= SLOT &&
         (u->offset + WORD - 1) / WORD * WORD <= SLOT &&
         (u->offset / WORD * WORD + PAGE - 1) / PAGE <= erased;
}

int main(void) {
  static fota_upload_t upload;
  static fota_journal_t journal;
  const uint32_t size = ANY(uint32_t);
  __CPROVER_havoc_object(&journal);
  upload.journal = &journal;
  if (ANY(bool)) {
    const uint8_t *digest = ANY(bool) ? any_bytes(32) : NULL;
    const fota_status_t status = fota_upload_begin(&upload, ANY(uint32_t), digest);
    PROVE(status == FOTA_OK || upload.length == 0, "what is too long is not begun");
    PROVE(sound(&upload), "a new upload is sound");
    return 0;
  }
  upload.flash = flash;
  upload.length = ANY(uint32_t);
  upload.offset = ANY(uint32_t);
  upload.has_digest = ANY(bool);
  upload.slot = journal.record.confirmed == FOTA_SLOT_B ? FOTA_SLOT_A : FOTA_SLOT_B;
  erased = ANY(uint32_t);
  ASSUME(erased <= SLOT / PAGE && size <= LONGEST && sound(&upload));
  const fota_status_t status = fota_upload_write(&upload, any_bytes(size), size);
  PROVE(sound(&upload), "the upload stays sound");
  PROVE(status == FOTA_OK || status == FOTA_IMAGE_SIZE || upload.length == 0, "or is over");
}
