/* The parser of Espressif's image form, of the ESP32-C3. Input: size of the slot and of what begins
 * it (u16 each, little endian), then that, then blocks of the signature sector, 166 bytes each: 0
 * as it stands, 1 with the CRC that it has to have, and the block's first 165 bytes; the rest of it
 * are zeros. */
#include <stdbool.h>
#include <string.h>

#include "crc32.h"
#include "fuzz.h"
#include "image.h"
#include "port/esp32c3/memory.h"
#include "port/esp32c3/segments.h"

enum { HEAD = 4, BLOCK = 1216, BLOCK_USED = 165, BLOCK_CRC = 1196, FILE_SIZE = 2 * PAGE_SIZE };

fota_chip_t fota_chip = {.revision = 4, .block = 102};

static size_t load_le16(const uint8_t *p) {
  return (size_t)p[0] | (size_t)p[1] << 8;
}

/* The image ends in its first page, so that the sector is the second one. */
static void put_file(uint8_t file[FILE_SIZE], const uint8_t *data, size_t size) {
  const size_t wanted = load_le16(data + 2);
  size_t at = wanted < size - HEAD ? HEAD + wanted : size;
  if (at > PAGE_SIZE) at = PAGE_SIZE;
  memcpy(file, data + HEAD, at - HEAD);
  uint8_t *block = file + PAGE_SIZE;
  for (uint32_t i = 0; i < 3 && size - at > BLOCK_USED; i++, block += BLOCK, at += 1 + BLOCK_USED) {
    memcpy(block, data + at + 1, BLOCK_USED);
    const uint32_t crc = data[at] & 1 ? fota_crc32(block, BLOCK_CRC) : 0;
    memcpy(block + BLOCK_CRC, &crc, sizeof crc);
  }
}

static bool apart(uint32_t load, uint32_t length, uint32_t start, uint32_t end) {
  return load >= end || load + length <= start;
}

/* What the jump goes by: every segment lies in the slot, and none where the bootloader is. */
static void check_segments(const uint8_t *slot, uint32_t size) {
  uint32_t at = FOTA_SEGMENTS_START;
  for (uint32_t i = 0; i < slot[1]; i++) {
    fota_segment_t s;
    CHECK(fota_segment_next(slot, size, &at, &s) == FOTA_OK);
    CHECK(s.offset <= size && s.length <= size - s.offset && at == s.offset + s.length);
    if (s.kind != FOTA_SEGMENT_RAM) continue;
    CHECK(apart(s.load, s.length, LOADER_START, LOADER_END));
    CHECK(apart(s.load, s.length, LOADER_START + RAM_TO_CODE, LOADER_END + RAM_TO_CODE));
  }
}

static void check_image(const fota_image_t *image, const uint8_t *slot, uint32_t size) {
  const uint32_t n = image->hashed_size;
  CHECK(image->base == slot && n % PAGE_SIZE == 0 && n <= size && size - n >= PAGE_SIZE);
  CHECK(image->version >= slot && image->version + 8 <= slot + n);
  CHECK(image->sec_cnt >= slot && image->sec_cnt + 4 <= slot + n);
  CHECK(image->class_id >= slot && image->class_id + 16 <= slot + n);
  CHECK(image->key_hash >= slot && image->key_hash + 32 <= slot + n);
  CHECK(image->hash >= slot + n && image->hash + 32 <= slot + n + PAGE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static uint8_t file[FILE_SIZE];
  if (size < HEAD) return 0;
  memset(file, 0, sizeof file);
  put_file(file, data, size);
  const size_t wanted = load_le16(data);
  const uint32_t slot_size = wanted < FILE_SIZE ? (uint32_t)wanted : FILE_SIZE;
  uint8_t *slot = malloc(slot_size + (slot_size == 0));
  memcpy(slot, file, slot_size);
  const fota_layout_t layout = {.slot = {slot, slot}, .slot_size = slot_size};
  fota_image_t image;
  const fota_status_t status = fota_image_parse(slot, &layout, &image);
  if (status == FOTA_OK) {
    check_image(&image, slot, slot_size);
    check_segments(slot, slot_size);
  } else {
    CHECK(status >> 16 == (FOTA_IMAGE_MAGIC >> 16));
  }
  free(slot);
  return 0;
}
