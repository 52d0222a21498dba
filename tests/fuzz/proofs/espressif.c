/* Bound: slots of up to 8192 bytes, any content, up to two segments; none is taken with so few.
 * Sources: port/esp32c3/image
 * Unwind: 4 reverse32.0:33 find_signature.0:4 memcmp.0:33 is_scalar.0:33 */
#include "crc32.h"
#include "der.h"
#include "image.h"
#include "port/esp32c3/memory.h"
#include "port/esp32c3/segments.h"
#include "prove.h"
#include "sha256.h"

enum { SLOT = 2 * PAGE_SIZE, SEGMENTS = 2 };

fota_chip_t fota_chip;
const uint8_t fota_p256_order[32] = {0xff};

/* Any functions of the bytes will do for what is proved here. */
uint32_t fota_crc32(const void *data, uint32_t length) {
  PROVE(__CPROVER_r_ok(data, length), "the CRC is taken of a block");
  return ANY(uint32_t);
}

void fota_sha256_init(fota_sha256_t *ctx) {
  (void)ctx;
}

void fota_sha256_update(fota_sha256_t *ctx, const void *data, uint32_t length) {
  (void)ctx;
  PROVE(__CPROVER_r_ok(data, length), "a key is hashed");
}

void fota_sha256_final(fota_sha256_t *ctx, uint8_t digest[FOTA_SHA256_SIZE]) {
  (void)ctx;
  PROVE(__CPROVER_w_ok(digest, FOTA_SHA256_SIZE), "room for the hash");
  __CPROVER_havoc_slice(digest, FOTA_SHA256_SIZE);
}

int main(void) {
  const uint32_t size = ANY(uint32_t);
  ASSUME(size <= SLOT);
  const uint8_t *base = any_bytes(size);
  if (size > 1) ASSUME(base[1] <= SEGMENTS);
  const fota_layout_t layout = {.slot = {base, base}, .slot_size = size};
  __CPROVER_havoc_object(&fota_chip);
  fota_image_t image;
  const fota_status_t status = fota_image_parse(base, &layout, &image);
  PROVE(status >> 16 == (FOTA_IMAGE_MAGIC >> 16), "a status of its own; none is taken");
}
