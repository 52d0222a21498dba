#include "image.h"

#include <stddef.h>

#include "bytes.h"
#include "der.h"

enum {
  HEADER_MAGIC = (int)0x96f3b83d,
  HEADER_LOAD = 4,
  HEADER_SIZES = 8, /* header size u16, protected area size u16 */
  HEADER_IMG_SIZE = 12,
  HEADER_FLAGS = 16,
  HEADER_PAD = 28,
  FLAG_ROM_FIXED = 0x100,
  TLV_PROTECTED = 0x6908,
  TLV_UNPROTECTED = 0x6907,
  TLV_KEYHASH = 0x01,
  TLV_SHA256 = 0x10,
  TLV_ECDSA_SIG = 0x22,
  TLV_SEC_CNT = 0x50,
  TLV_UUID_CLASS = 0x75,
  TLV_HEAD = 4, /* of an area and of an entry alike: two u16 */
};

/* Where a TLV area is, as it is walked. `end` is exclusive. */
typedef struct area {
  const uint8_t *at;
  const uint8_t *end;
} area_t;

static fota_status_t check_header(const uint8_t *h, const fota_layout_t *layout) {
  if (fota_load_le32(h) != (uint32_t)HEADER_MAGIC) return FOTA_IMAGE_MAGIC;
  const uint32_t flags = fota_load_le32(h + HEADER_FLAGS);
  const bool fixed_here =
      flags == FLAG_ROM_FIXED && fota_load_le32(h + HEADER_LOAD) == layout->run_address;
  const bool good = (flags == 0 || fixed_here) && fota_load_le32(h + HEADER_PAD) == 0 &&
                    fota_load_le16(h + HEADER_SIZES) == FOTA_IMAGE_HEADER_SIZE;
  return good ? FOTA_OK : FOTA_IMAGE_HEADER;
}

/* The area with `magic` at `base + offset`, inside the slot. */
static fota_status_t open_area(const uint8_t *base, uint32_t offset, uint32_t magic,
                               uint32_t slot_size, area_t *area) {
  if (!fota_range_ok(offset, TLV_HEAD, slot_size)) return FOTA_IMAGE_SIZE;
  const uint32_t total = fota_load_le16(base + offset + 2);
  if (fota_load_le16(base + offset) != magic || total < TLV_HEAD) return FOTA_IMAGE_TLV;
  if (!fota_range_ok(offset, total, slot_size)) return FOTA_IMAGE_SIZE;
  area->at = base + offset + TLV_HEAD;
  area->end = base + offset + total;
  return FOTA_OK;
}

/* The next entry; `*value` is its data. The area must not be at its end. */
static fota_status_t next_entry(area_t *area, uint32_t *type, uint32_t *length,
                                const uint8_t **value) {
  const uint32_t left = (uint32_t)(area->end - area->at);
  if (left < TLV_HEAD) return FOTA_IMAGE_TLV;
  *type = fota_load_le16(area->at);
  *length = fota_load_le16(area->at + 2);
  if (*length > left - TLV_HEAD) return FOTA_IMAGE_TLV;
  *value = area->at + TLV_HEAD;
  area->at = *value + *length;
  return FOTA_OK;
}

/* Keeps an entry that may stand once only and has a fixed length. */
static fota_status_t keep(const uint8_t **field, const uint8_t *value, uint32_t length,
                          uint32_t expected) {
  if (*field != NULL || length != expected) return FOTA_IMAGE_TLV;
  *field = value;
  return FOTA_OK;
}

static fota_status_t parse_protected(area_t area, fota_image_t *image) {
  while (area.at != area.end) {
    uint32_t type;
    uint32_t length;
    const uint8_t *value;
    FOTA_TRY(next_entry(&area, &type, &length, &value));
    if (type == TLV_SEC_CNT) FOTA_TRY(keep(&image->sec_cnt, value, length, 4));
    if (type == TLV_UUID_CLASS) FOTA_TRY(keep(&image->class_id, value, length, 16));
  }
  return image->sec_cnt != NULL && image->class_id != NULL ? FOTA_OK : FOTA_IMAGE_TLV;
}

static fota_status_t parse_unprotected(area_t area, fota_image_t *image) {
  const uint8_t *signature = NULL;
  while (area.at != area.end) {
    uint32_t type;
    uint32_t length;
    const uint8_t *value;
    FOTA_TRY(next_entry(&area, &type, &length, &value));
    if (type == TLV_SHA256) {
      FOTA_TRY(keep(&image->hash, value, length, 32));
    } else if (type == TLV_KEYHASH) {
      FOTA_TRY(keep(&image->key_hash, value, length, 32));
    } else if (type == TLV_ECDSA_SIG) {
      if (image->key_hash == NULL) return FOTA_IMAGE_TLV; /* the key comes before its signature */
      FOTA_TRY(keep(&signature, value, length, length));
      FOTA_TRY(fota_der_signature(value, length, image->rs));
    } else {
      return FOTA_IMAGE_TLV_NOT_ALLOWED;
    }
  }
  return image->hash != NULL && signature != NULL ? FOTA_OK : FOTA_IMAGE_TLV;
}

/* The reset vector must lie in this very image, or one slot could start code of the other. */
static fota_status_t check_vectors(const uint8_t *base, uint32_t img_size,
                                   const fota_layout_t *layout) {
  const uint32_t stack = fota_load_le32(base + FOTA_IMAGE_HEADER_SIZE);
  const uint32_t entry = fota_load_le32(base + FOTA_IMAGE_HEADER_SIZE + 4);
  const uint32_t start = layout->run_address + FOTA_IMAGE_HEADER_SIZE;
  const bool good = stack > layout->ram_low && stack <= layout->ram_high && stack % 8 == 0 &&
                    entry % 2 == 1 && entry >= start && entry - start < img_size;
  return good ? FOTA_OK : FOTA_IMAGE_VECTOR;
}

fota_status_t fota_image_parse(const uint8_t *base, const fota_layout_t *layout,
                               fota_image_t *image) {
  const uint32_t slot_size = layout->slot_size;
  *image = (fota_image_t){.base = base};
  FOTA_TRY(check_header(base, layout));
  const uint32_t img_size = fota_load_le32(base + HEADER_IMG_SIZE);
  const uint32_t protected_size = fota_load_le16(base + HEADER_SIZES + 2);
  if (img_size < 8 || img_size > slot_size - FOTA_IMAGE_HEADER_SIZE) return FOTA_IMAGE_SIZE;
  const uint32_t payload_end = FOTA_IMAGE_HEADER_SIZE + img_size;
  area_t area;
  FOTA_TRY(open_area(base, payload_end, TLV_PROTECTED, slot_size, &area));
  image->hashed_size = (uint32_t)(area.end - base);
  if (image->hashed_size - payload_end != protected_size) return FOTA_IMAGE_TLV;
  FOTA_TRY(parse_protected(area, image));
  FOTA_TRY(open_area(base, image->hashed_size, TLV_UNPROTECTED, slot_size, &area));
  FOTA_TRY(parse_unprotected(area, image));
  return check_vectors(base, img_size, layout);
}
