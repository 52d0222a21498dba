/* The image parser. Input: the 32 bytes of the header, then what follows the header's padding. */
#include "image.h"

#include <stdbool.h>
#include <string.h>

#include "fuzz.h"

enum { HEADER = 32, RUN_ADDRESS = 0x08004000, LEAST = FOTA_IMAGE_HEADER_SIZE + 16 };

static bool inside(const uint8_t *p, uint32_t length, const uint8_t *slot, uint32_t size) {
  return p >= slot && p + length <= slot + size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const size_t head = size < HEADER ? size : HEADER;
  const size_t tail = size - head;
  const size_t used = FOTA_IMAGE_HEADER_SIZE + tail;
  const size_t slot_size = used < LEAST ? LEAST : used;
  uint8_t *slot = calloc(1, slot_size);
  memcpy(slot, data, head);
  memcpy(slot + FOTA_IMAGE_HEADER_SIZE, data + head, tail);
  const fota_layout_t layout = {.slot = {slot, slot},
                                .slot_size = (uint32_t)slot_size,
                                .run_address = RUN_ADDRESS,
                                .ram_low = 0x20000000,
                                .ram_high = 0x20017f00};
  fota_image_t image;
  const fota_status_t status = fota_image_parse(slot, &layout, &image);
  if (status == FOTA_OK) {
    const uint32_t n = (uint32_t)slot_size;
    CHECK(image.base == slot && image.hashed_size <= n);
    CHECK(inside(image.sec_cnt, 4, slot, image.hashed_size));
    CHECK(inside(image.class_id, 16, slot, image.hashed_size));
    CHECK(inside(image.hash, 32, slot, n) && image.hash >= slot + image.hashed_size);
    CHECK(inside(image.key_hash, 32, slot, n) && image.key_hash >= slot + image.hashed_size);
  } else {
    CHECK(status >> 16 == (FOTA_IMAGE_MAGIC >> 16));
  }
  free(slot);
  return 0;
}
