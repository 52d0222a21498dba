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
  SEC_CNT_MAX = 262143, /* eight counts each: as far as the element counts */
  TLV_HEAD = 4,         /* of an area and of an entry alike: two u16 */
};

/* Entries that must be there, once. All others: ignored if they are signed, refused if not. */
typedef struct entry {
  uint16_t type;
  uint8_t length; /* 0 = the DER parser's to judge */
  uint8_t field;  /* offset of the pointer in fota_image_t */
} entry_t;

static const entry_t protected_entries[] = {
    {TLV_SEC_CNT, 4, offsetof(fota_image_t, sec_cnt)},
    {TLV_UUID_CLASS, 16, offsetof(fota_image_t, class_id)},
};
static const entry_t unprotected_entries[] = {
    {TLV_SHA256, 32, offsetof(fota_image_t, hash)},
    {TLV_KEYHASH, 32, offsetof(fota_image_t, key_hash)},
    {TLV_ECDSA_SIG, 0, offsetof(fota_image_t, der)},
};

/* A TLV area in the slot. */
typedef struct area {
  uint32_t magic;
  const entry_t *entries;
  const entry_t *entries_end;
} area_t;

static const area_t protected_area = {TLV_PROTECTED, protected_entries, protected_entries + 2};
static const area_t unprotected_area = {TLV_UNPROTECTED, unprotected_entries,
                                        unprotected_entries + 3};

static fota_status_t check_header(const uint8_t *h, const fota_layout_t *layout) {
  if (fota_load_le32(h) != (uint32_t)HEADER_MAGIC) return FOTA_IMAGE_MAGIC;
  const uint32_t flags = fota_load_le32(h + HEADER_FLAGS);
  const bool fixed_here =
      flags == FLAG_ROM_FIXED && fota_load_le32(h + HEADER_LOAD) == layout->run_address;
  const bool good = (flags == 0 || fixed_here) && fota_load_le32(h + HEADER_PAD) == 0 &&
                    fota_load_le16(h + HEADER_SIZES) == FOTA_IMAGE_HEADER_SIZE;
  return good ? FOTA_OK : FOTA_IMAGE_HEADER;
}

/* Takes one TLV into `image`, if it is one of `area`'s. */
static fota_status_t take_entry(const area_t *area, const uint8_t *tlv, fota_image_t *image) {
  const uint32_t type = fota_load_le16(tlv);
  const uint32_t length = fota_load_le16(tlv + 2);
  for (const entry_t *entry = area->entries; entry != area->entries_end; entry++) {
    if (entry->type != type) continue;
    const uint8_t **field = (const uint8_t **)((uint8_t *)image + entry->field);
    if (*field != NULL) return FOTA_IMAGE_TLV;
    if (entry->length != 0 && entry->length != length) return FOTA_IMAGE_TLV;
    *field = tlv + TLV_HEAD;
    return FOTA_OK;
  }
  return area->magic == TLV_PROTECTED ? FOTA_OK : FOTA_IMAGE_TLV_NOT_ALLOWED;
}

/* Parses the area at `*offset` in the slot and moves the offset behind it. */
static fota_status_t parse_area(const area_t *area, uint32_t slot_size, uint32_t *offset,
                                fota_image_t *image) {
  const uint8_t *head = image->base + *offset;
  if (!fota_range_ok(*offset, TLV_HEAD, slot_size)) return FOTA_IMAGE_SIZE;
  const uint32_t total = fota_load_le16(head + 2);
  if (fota_load_le16(head) != area->magic) return FOTA_IMAGE_TLV;
  if (!fota_range_ok(*offset, total, slot_size)) return FOTA_IMAGE_SIZE;
  uint32_t at = TLV_HEAD;
  while (at < total) {
    if (total - at < TLV_HEAD) return FOTA_IMAGE_TLV;
    const uint32_t length = fota_load_le16(head + at + 2);
    if (length > total - at - TLV_HEAD) return FOTA_IMAGE_TLV;
    FOTA_TRY(take_entry(area, head + at, image));
    at += TLV_HEAD + length;
  }
  *offset += at;
  return at == total ? FOTA_OK : FOTA_IMAGE_TLV;
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
  *image = (fota_image_t){.base = base, .version = base + FOTA_IMAGE_VERSION};
  FOTA_TRY(check_header(base, layout));
  const uint32_t img_size = fota_load_le32(base + HEADER_IMG_SIZE);
  const uint32_t protected_size = fota_load_le16(base + HEADER_SIZES + 2);
  if (img_size < 8 || img_size > slot_size - FOTA_IMAGE_HEADER_SIZE) return FOTA_IMAGE_SIZE;
  uint32_t offset = FOTA_IMAGE_HEADER_SIZE + img_size;
  const uint32_t protected_end = offset + protected_size;
  FOTA_TRY(parse_area(&protected_area, slot_size, &offset, image));
  if (offset != protected_end) return FOTA_IMAGE_TLV;
  image->hashed_size = offset;
  FOTA_TRY(parse_area(&unprotected_area, slot_size, &offset, image));
  const bool complete = image->sec_cnt != NULL && image->class_id != NULL && image->hash != NULL &&
                        image->key_hash != NULL && image->der > image->key_hash;
  if (!complete || fota_load_le32(image->sec_cnt) - 1 >= SEC_CNT_MAX) return FOTA_IMAGE_TLV;
  FOTA_TRY(fota_der_signature(image->der, fota_load_le16(image->der - 2), image->rs));
  return check_vectors(base, img_size, layout);
}
