/* Espressif's application image, as this chip takes it (SPEC 7.1): an image, one segment with the
 * FOTA block, the Secure Boot v2 signature sector behind it. Pure: reads the slot and fota_chip. */
#include "image.h"

#include <stddef.h>
#include <string.h>

#include "bytes.h"
#include "crc32.h"
#include "der.h"
#include "port/esp32c3/memory.h"
#include "port/esp32c3/segments.h"
#include "sha256.h"

enum {
  HEADER_COUNT = 1,
  HEADER_ENTRY = 4,
  HEADER_CHIP = 12,
  HEADER_REVISION = 15, /* least u16, most u16 */
  HEADER_HASHED = 23,
  MAGIC = 0xe9,
  SEGMENT_HEAD = 8,
  HASH_SIZE = 32,
  DESCRIPTOR_SIZE = 256,
  DESCRIPTOR_MAGIC = (int)0xabcd5432,
  DESCRIPTOR_BLOCK = 176, /* least u16, most u16 */
  DESCRIPTOR_PAGES = 180, /* of the MMU, as a power of two; 0 in old ones */
  PAGES_64K = 16,
  BLOCK_MAGIC = 0x41544f46, /* "FOTA" */
  BLOCK_SIZE = 68,
  BLOCK_VERSION = 8,
  BLOCK_COUNTER = 16,
  BLOCK_CLASS = 20,
  BLOCK_KEYHASH = 36,
  SEC_CNT_MAX = 262143, /* eight counts each: as far as the element counts */
  SIGNATURES = 3,
  SIGNATURE_SIZE = 1216,
  SIGNATURE_HEAD = 0x3e7, /* magic E7, version 3, two zeros */
  SIGNATURE_DIGEST = 4,
  SIGNATURE_CURVE = 36,
  SIGNATURE_KEY = 37, /* X, Y, little endian */
  SIGNATURE_R = 101,
  SIGNATURE_S = 133,
  SIGNATURE_CRC = 1196,
  CURVE_P256 = 2,
  SPKI_HEAD = 27,
};

static uint32_t align(uint32_t value, uint32_t unit) {
  return (value + unit - 1) / unit * unit;
}

/* --- segments --- */

static bool between(uint32_t start, uint32_t load, uint32_t length, uint32_t end) {
  return load >= start && load < end && length <= end - load;
}

/* Where it may go; false if nowhere. RAM is one region, whether by its addresses as data or as
 * code, and ends below the loader. The last MMU entry is the loader's to set. */
static bool classify(fota_segment_t *s) {
  const uint32_t ram_code = RAM_START + RAM_TO_CODE;
  if (s->load == 0) {
    s->kind = FOTA_SEGMENT_SKIPPED;
  } else if (between(DROM_START, s->load, s->length, DROM_END - MMU_PAGE)) {
    s->kind = FOTA_SEGMENT_DROM;
  } else if (between(IROM_START, s->load, s->length, IROM_END - MMU_PAGE)) {
    s->kind = FOTA_SEGMENT_IROM;
  } else if (between(RAM_START, s->load, s->length, RAM_END) ||
             between(ram_code, s->load, s->length, RAM_END + RAM_TO_CODE)) {
    s->kind = FOTA_SEGMENT_RAM;
  } else if (between(RTC_START, s->load, s->length, RTC_END)) {
    s->kind = FOTA_SEGMENT_RTC;
  } else {
    return false;
  }
  const bool mapped = s->kind == FOTA_SEGMENT_DROM || s->kind == FOTA_SEGMENT_IROM;
  return !mapped || (s->load ^ s->offset) % MMU_PAGE == 0;
}

fota_status_t fota_segment_next(const uint8_t *slot, uint32_t slot_size, uint32_t *offset,
                                fota_segment_t *segment) {
  if (!fota_range_ok(*offset, SEGMENT_HEAD, slot_size)) return FOTA_IMAGE_SIZE;
  fota_segment_t s = {.load = fota_load_le32(slot + *offset),
                      .length = fota_load_le32(slot + *offset + 4),
                      .offset = *offset + SEGMENT_HEAD};
  if (!fota_range_ok(s.offset, s.length, slot_size)) return FOTA_IMAGE_SIZE;
  if (s.length % 4 != 0 || !classify(&s)) return FOTA_IMAGE_SEGMENT;
  *offset = s.offset + s.length;
  *segment = s;
  return FOTA_OK;
}

/* What a segment takes of the address space: bytes of RAM, or entries of the MMU. */
typedef struct span {
  uint32_t first, end;
  uint32_t page; /* minus the entry: where in the slot its first entry points; 0 for RAM */
  bool mapped;
} span_t;

static span_t span_of(const fota_segment_t *s) {
  if (s->kind == FOTA_SEGMENT_DROM || s->kind == FOTA_SEGMENT_IROM) {
    const uint32_t first = s->load % (DROM_END - DROM_START) / MMU_PAGE;
    const uint32_t pages = (s->load % MMU_PAGE + s->length + MMU_PAGE - 1) / MMU_PAGE;
    return (span_t){first, first + pages, s->offset / MMU_PAGE - first, true};
  }
  const bool as_code = s->load >= RAM_START + RAM_TO_CODE && s->kind == FOTA_SEGMENT_RAM;
  const uint32_t load = as_code ? s->load - RAM_TO_CODE : s->load;
  return (span_t){load, load + s->length, 0, false};
}

/* True if both want the same bytes, or an MMU entry for different pages. */
static bool collide(const fota_segment_t *a, const fota_segment_t *b) {
  if (a->kind == FOTA_SEGMENT_SKIPPED || b->kind == FOTA_SEGMENT_SKIPPED) return false;
  const span_t x = span_of(a), y = span_of(b);
  if (x.mapped != y.mapped || x.first >= y.end || y.first >= x.end) return false;
  return !x.mapped || x.page != y.page;
}

/* What is collected while the segments are walked. */
typedef struct walk {
  uint32_t count;
  uint32_t offset; /* behind the last segment */
  uint32_t entry;
  bool entry_found;
  const uint8_t *block;
} walk_t;

static fota_status_t take_block(walk_t *w, const uint8_t *data, uint32_t length) {
  if (length < 4 || fota_load_le32(data) != BLOCK_MAGIC) return FOTA_OK; /* padding */
  if (w->block != NULL || length != BLOCK_SIZE) return FOTA_IMAGE_TLV;
  if (fota_load_le32(data + 4) != (BLOCK_SIZE << 16 | 1)) return FOTA_IMAGE_TLV; /* format 1 */
  w->block = data;
  return FOTA_OK;
}

static bool holds_entry(const fota_segment_t *s, uint32_t entry) {
  const bool code = s->kind == FOTA_SEGMENT_IROM || s->kind == FOTA_SEGMENT_RTC ||
                    (s->kind == FOTA_SEGMENT_RAM && s->load >= RAM_START + RAM_TO_CODE);
  return code && entry % 2 == 0 && entry >= s->load && entry - s->load < s->length;
}

/* FOTA_IMAGE_SEGMENT if one of the segments before the one that ends at `w->offset` is in its way.
 */
static fota_status_t check_earlier(const uint8_t *slot, uint32_t before, const fota_segment_t *s) {
  fota_segment_t other;
  uint32_t at = FOTA_SEGMENTS_START;
  for (uint32_t i = 0; i < before; i++) {
    FOTA_TRY(fota_segment_next(slot, s->offset, &at, &other));
    if (collide(&other, s)) return FOTA_IMAGE_SEGMENT;
  }
  return FOTA_OK;
}

static fota_status_t walk_segments(const uint8_t *slot, uint32_t slot_size, walk_t *w) {
  for (uint32_t i = 0; i < w->count; i++) {
    fota_segment_t s;
    FOTA_TRY(fota_segment_next(slot, slot_size, &w->offset, &s));
    FOTA_TRY(check_earlier(slot, i, &s));
    if (s.kind == FOTA_SEGMENT_SKIPPED) FOTA_TRY(take_block(w, slot + s.offset, s.length));
    if (holds_entry(&s, w->entry)) w->entry_found = true;
    /* the application's descriptor is looked for at the start of the first one */
    if (i == 0 && (s.kind != FOTA_SEGMENT_DROM || s.length < DESCRIPTOR_SIZE)) {
      return FOTA_IMAGE_HEADER;
    }
  }
  if (!w->entry_found) return FOTA_IMAGE_SEGMENT;
  return w->block != NULL ? FOTA_OK : FOTA_IMAGE_TLV;
}

/* --- header and descriptor --- */

/* `limits`: least u16, most u16, where 0 and FFFF are no limit. */
static bool is_within(uint32_t value, const uint8_t *limits, uint32_t no_upper) {
  const uint32_t most = fota_load_le16(limits + 2);
  const bool unlimited = no_upper != 0 || most == 0 || most == 0xffff;
  return value >= fota_load_le16(limits) && (unlimited || value <= most);
}

static fota_status_t check_header(const uint8_t *h) {
  if (h[0] != MAGIC) return FOTA_IMAGE_MAGIC;
  if (fota_load_le16(h + HEADER_CHIP) != CHIP_ID) return FOTA_IMAGE_CHIP;
  if (h[HEADER_COUNT] - 1u >= FOTA_SEGMENTS_MAX || h[HEADER_HASHED] != 1) return FOTA_IMAGE_HEADER;
  const bool good = is_within(fota_chip.revision, h + HEADER_REVISION, fota_chip.no_upper & 1);
  return good ? FOTA_OK : FOTA_IMAGE_REVISION;
}

static fota_status_t check_descriptor(const uint8_t *d) {
  if (fota_load_le32(d) != (uint32_t)DESCRIPTOR_MAGIC) return FOTA_IMAGE_HEADER;
  if (d[DESCRIPTOR_PAGES] != 0 && d[DESCRIPTOR_PAGES] != PAGES_64K) return FOTA_IMAGE_HEADER;
  const bool good = is_within(fota_chip.block, d + DESCRIPTOR_BLOCK, fota_chip.no_upper & 2);
  return good ? FOTA_OK : FOTA_IMAGE_REVISION;
}

/* --- signature --- */

static void reverse32(uint8_t to[32], const uint8_t *from) {
  for (uint32_t i = 0; i < 32; i++)
    to[i] = from[31 - i];
}

/* True if the block signs by the key that hashes to `key_hash`: SHA-256 of its 91-byte
 * SubjectPublicKeyInfo. */
static bool is_by(const uint8_t *block, const uint8_t *key_hash) {
  static const uint8_t spki[SPKI_HEAD] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                          0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                          0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
  uint8_t key[SPKI_HEAD + 64];
  uint8_t digest[FOTA_SHA256_SIZE];
  fota_sha256_t sha;
  memcpy(key, spki, SPKI_HEAD);
  reverse32(key + SPKI_HEAD, block + SIGNATURE_KEY);
  reverse32(key + SPKI_HEAD + 32, block + SIGNATURE_KEY + 32);
  fota_sha256_init(&sha);
  fota_sha256_update(&sha, key, sizeof key);
  fota_sha256_final(&sha, digest);
  return memcmp(digest, key_hash, sizeof digest) == 0;
}

static bool is_scalar(const uint8_t value[32]) {
  uint8_t any = 0;
  for (uint32_t i = 0; i < 32; i++)
    any |= value[i];
  return any != 0 && memcmp(value, fota_p256_order, 32) < 0;
}

/* Finds the one block of KEYHASH's key; blocks of other keys and kinds are other people's. */
static fota_status_t find_signature(const uint8_t *sector, fota_image_t *image) {
  const uint8_t *found = NULL;
  for (uint32_t i = 0; i < SIGNATURES; i++) {
    const uint8_t *block = sector + i * SIGNATURE_SIZE;
    if (fota_load_le32(block) != SIGNATURE_HEAD || block[SIGNATURE_CURVE] != CURVE_P256) continue;
    if (!is_by(block, image->key_hash)) continue;
    if (found != NULL) return FOTA_IMAGE_TLV;
    found = block;
  }
  if (found == NULL) return FOTA_IMAGE_KEY;
  if (fota_load_le32(found + SIGNATURE_CRC) != fota_crc32(found, SIGNATURE_CRC)) {
    return FOTA_IMAGE_TLV;
  }
  image->hash = found + SIGNATURE_DIGEST;
  reverse32(image->rs, found + SIGNATURE_R);
  reverse32(image->rs + 32, found + SIGNATURE_S);
  return is_scalar(image->rs) && is_scalar(image->rs + 32) ? FOTA_OK : FOTA_IMAGE_DER;
}

fota_status_t fota_image_parse(const uint8_t *base, const fota_layout_t *layout,
                               fota_image_t *image) {
  const uint32_t slot_size = layout->slot_size;
  *image = (fota_image_t){.base = base};
  if (slot_size < FOTA_SEGMENTS_START + SEGMENT_HEAD + DESCRIPTOR_SIZE) return FOTA_IMAGE_SIZE;
  FOTA_TRY(check_header(base));
  walk_t w = {.count = base[HEADER_COUNT],
              .offset = FOTA_SEGMENTS_START,
              .entry = fota_load_le32(base + HEADER_ENTRY)};
  FOTA_TRY(walk_segments(base, slot_size, &w));
  FOTA_TRY(check_descriptor(base + FOTA_SEGMENTS_START + SEGMENT_HEAD));
  /* the checksum ends a line of 16 bytes, the hash is behind it; the sector begins a page */
  const uint32_t padded = align(align(w.offset + 1, 16) + HASH_SIZE, PAGE_SIZE);
  if (!fota_range_ok(padded, PAGE_SIZE, slot_size)) return FOTA_IMAGE_SIZE;
  image->hashed_size = padded;
  image->version = w.block + BLOCK_VERSION;
  image->sec_cnt = w.block + BLOCK_COUNTER;
  image->class_id = w.block + BLOCK_CLASS;
  image->key_hash = w.block + BLOCK_KEYHASH;
  if (fota_load_le32(image->sec_cnt) - 1 >= SEC_CNT_MAX) return FOTA_IMAGE_TLV;
  return find_signature(base + padded, image);
}
