/* Bound: slots of any content that end 64 bytes behind the header; the DER parser by its contract.
 * Sources: core/image
 * Unwind: 16 take_entry.0:4 */
#include "image.h"

#include "der.h"
#include "prove.h"

enum { SLOT = FOTA_IMAGE_HEADER_SIZE + 64 };

/* Contract, proved by der.c: reads `length` bytes, but none if more than 72; writes 64. */
fota_status_t fota_der_signature(const uint8_t *der, uint32_t length, uint8_t rs[64]) {
  PROVE(length > 72 || __CPROVER_r_ok(der, length), "the signature lies in the slot");
  PROVE(__CPROVER_w_ok(rs, 64), "room for r and s");
  return ANY(bool) ? FOTA_OK : FOTA_IMAGE_DER;
}

static bool inside(const uint8_t *p, const uint8_t *base, uint32_t length) {
  return __CPROVER_same_object(p, base) && p >= base && (uint32_t)(p - base) <= SLOT - length;
}

int main(void) {
  const uint8_t *base = any_bytes(SLOT);
  const fota_layout_t layout = {.slot = {base, base},
                                .slot_size = SLOT,
                                .run_address = 0x08004000,
                                .ram_low = 0x20000000,
                                .ram_high = 0x20017f00};
  fota_image_t image;
  if (fota_image_parse(base, &layout, &image) != FOTA_OK) return 0;
  PROVE(image.hashed_size <= SLOT, "what is hashed lies in the slot");
  PROVE(inside(image.sec_cnt, base, 4), "the counter lies in the slot");
  PROVE(inside(image.class_id, base, 16), "the class lies in the slot");
  PROVE(inside(image.hash, base, 32), "the hash lies in the slot");
  PROVE(inside(image.key_hash, base, 32), "the key hash lies in the slot");
}
