#include "port/esp32c3/partitions.h"

#include <string.h>

#include "bytes.h"
#include "port/esp32c3/memory.h"

enum {
  RECORD = 32,
  RECORDS = 96, /* 0xc00 bytes, the end included */
  MAGIC = 0x50aa,
  MAGIC_MD5 = 0xebeb,
  TYPE_APP = 0,
  TYPE_DATA = 1,
  TYPE_LOADER = 2, /* with TYPE_TABLE: what lies below the first partition, if named at all */
  TYPE_TABLE = 3,
  TYPE_FOTA = 0x40,
  SUBTYPE_OTA_0 = 0x10,
  SUBTYPE_OTADATA = 0,
  SUBTYPE_FOTA = 1,
  FIRST = TABLE_OFFSET + TABLE_SIZE,
  OTADATA_SIZE = 2 * PAGE_SIZE,
  SLOTS_MAX = 16,
};

typedef struct partition {
  uint32_t type, subtype, offset, size;
} partition_t;

static partition_t partition_at(const uint8_t *record) {
  return (partition_t){.type = record[2],
                       .subtype = record[3],
                       .offset = fota_load_le32(record + 4),
                       .size = fota_load_le32(record + 8)};
}

static bool is_app_good(uint32_t offset, uint32_t size) {
  return (offset % SLOT_ALIGNMENT | size % PAGE_SIZE) == 0;
}

static bool is_slot_good(uint32_t offset, uint32_t size) {
  return is_app_good(offset, size) && size <= SLOT_SIZE && size >= 2 * PAGE_SIZE;
}

/* not inlined: smaller so */
__attribute__((noinline)) static bool is_in_flash(uint32_t offset, uint32_t size, uint32_t first,
                                                  uint32_t flash_size) {
  return offset >= first && offset % PAGE_SIZE == 0 && size != 0 &&
         fota_range_ok(offset, size, flash_size);
}

/* Loader and table themselves may be named: they are where they are. */
static bool is_placed(const partition_t *p, uint32_t flash_size) {
  const bool fixed = (p->type == TYPE_LOADER || p->type == TYPE_TABLE) && p->subtype == 0;
  if (p->type == TYPE_APP && !is_app_good(p->offset, p->size)) return false;
  return is_in_flash(p->offset, p->size, fixed ? 0 : FIRST, flash_size);
}

static bool overlap(const partition_t *a, const partition_t *b) {
  return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

/* Takes what a partition says into `places`, if it is one that we need; false if it is there twice
 * or not as it has to be. */
static bool take(const partition_t *p, fota_places_t *places) {
  const uint32_t n = p->subtype - SUBTYPE_OTA_0;
  if (p->type == TYPE_APP && n < SLOTS_MAX) {
    if (n >= 2 || places->slot[n] != 0 || !is_slot_good(p->offset, p->size)) return false;
    places->slot[n] = p->offset;
    places->slot_size[n] = p->size;
  } else if (p->type == TYPE_DATA && p->subtype == SUBTYPE_OTADATA) {
    if (places->otadata != 0 || p->size < OTADATA_SIZE) return false;
    places->otadata = p->offset;
  } else if (p->type == TYPE_FOTA && p->subtype == SUBTYPE_FOTA) {
    if (places->store != 0 || p->size < STORE_SIZE) return false;
    places->store = p->offset;
  }
  return true;
}

/* Record `index` against the flash and the records before it. */
static bool check(const uint8_t *table, uint32_t index, uint32_t flash_size) {
  const partition_t p = partition_at(table + index * RECORD);
  if (!is_placed(&p, flash_size)) return false;
  for (uint32_t i = 0; i < index; i++) {
    const partition_t other = partition_at(table + i * RECORD);
    if (overlap(&p, &other)) return false;
  }
  return true;
}

static bool is_blank(const uint8_t *data, uint32_t length) {
  for (uint32_t i = 0; i < length; i++) {
    if (data[i] != 0xff) return false;
  }
  return true;
}

static bool is_md5_of(const uint8_t *table, uint32_t records) {
  uint8_t digest[16];
  const uint8_t *record = table + records * RECORD;
  fota_md5(table, records * RECORD, digest);
  return is_blank(record + 2, 14) && memcmp(digest, record + 16, sizeof digest) == 0;
}

static bool read_table(const uint8_t *table, uint32_t flash_size, fota_places_t *places) {
  uint32_t i = 0;
  for (; i < RECORDS && fota_load_le16(table + i * RECORD) == MAGIC; i++) {
    const partition_t p = partition_at(table + i * RECORD);
    if (!check(table, i, flash_size) || !take(&p, places)) return false;
  }
  if (i < RECORDS && fota_load_le16(table + i * RECORD) == MAGIC_MD5) {
    if (!is_md5_of(table, i)) return false;
    i++;
  }
  return i < RECORDS && is_blank(table + i * RECORD, RECORD);
}

fota_status_t fota_partitions_parse(const uint8_t *table, uint32_t flash_size,
                                    fota_places_t *places) {
  fota_places_t found = {0};
  const bool good = read_table(table, flash_size, &found) && found.slot[0] != 0 &&
                    found.slot[1] != 0 && found.store != 0 && found.otadata != 0;
  if (!good) return FOTA_PARTITION_TABLE;
  *places = found;
  return FOTA_OK;
}

fota_status_t fota_places_copy(const uint8_t *settings, uint32_t flash_size,
                               fota_places_t *places) {
  const uint8_t *copy = settings + PLACES_OFFSET;
  fota_places_t found = {.store = fota_load_le32(copy)};
  *places = (fota_places_t){0};
  bool good = is_in_flash(found.store, STORE_SIZE, FIRST, flash_size);
  for (uint32_t i = 0; i < 2; i++) {
    found.slot[i] = fota_load_le32(copy + 4 + 8 * i);
    found.slot_size[i] = fota_load_le32(copy + 8 + 8 * i);
    good = good && is_in_flash(found.slot[i], found.slot_size[i], FIRST, flash_size) &&
           is_slot_good(found.slot[i], found.slot_size[i]);
  }
  if (!good) return FOTA_PARTITION_TABLE;
  *places = found;
  return FOTA_OK;
}
