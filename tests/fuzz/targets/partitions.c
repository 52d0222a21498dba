/* The reader of partition tables, and of their copy in the settings page. Input: size of flash in
 * MiB, then the table, up to its end. MD5 is here whatever fota_md5 below says. */
#include "port/esp32c3/partitions.h"

#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "port/esp32c3/memory.h"

enum { SETTINGS = 256 };

/* 16 bytes that depend on every byte: who searches for inputs shall find them. */
void fota_md5(const uint8_t *data, uint32_t length, uint8_t digest[16]) {
  memset(digest, 0, 16);
  for (uint32_t i = 0; i < length; i++)
    digest[i % 16] ^= data[i];
}

static void check_place(uint32_t offset, uint32_t size, uint32_t flash) {
  CHECK(offset >= TABLE_OFFSET + TABLE_SIZE && offset % PAGE_SIZE == 0);
  CHECK(offset <= flash && size <= flash - offset);
}

static void check_places(const fota_places_t *p, uint32_t flash) {
  check_place(p->store, STORE_SIZE, flash);
  for (uint32_t i = 0; i < 2; i++) {
    check_place(p->slot[i], p->slot_size[i], flash);
    CHECK(p->slot[i] % SLOT_ALIGNMENT == 0 && p->slot_size[i] <= SLOT_SIZE);
    CHECK(p->slot_size[i] >= 2 * PAGE_SIZE && p->slot_size[i] % PAGE_SIZE == 0);
  }
}

/* A table's: what an update writes lies on nothing else. */
static void check_apart(const fota_places_t *p) {
  const uint32_t start[] = {p->store, p->slot[0], p->slot[1], p->otadata};
  const uint32_t size[] = {STORE_SIZE, p->slot_size[0], p->slot_size[1], 2 * PAGE_SIZE};
  for (uint32_t i = 0; i < 4; i++) {
    for (uint32_t j = 0; j < i; j++)
      CHECK(start[i] >= start[j] + size[j] || start[j] >= start[i] + size[i]);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0 || size > 1 + TABLE_SIZE) return 0;
  const uint32_t flash = (uint32_t)(data[0] % 17) << 20;
  uint8_t *table = malloc(TABLE_SIZE);
  memset(table, 0xff, TABLE_SIZE);
  memcpy(table, data + 1, size - 1);
  const fota_places_t before = {.store = 1};
  fota_places_t places = before;
  if (fota_partitions_parse(table, flash, &places) == FOTA_OK) {
    check_places(&places, flash);
    check_place(places.otadata, 2 * PAGE_SIZE, flash);
    check_apart(&places);
  } else {
    CHECK(memcmp(&places, &before, sizeof places) == 0);
  }
  uint8_t *settings = malloc(SETTINGS);
  memcpy(settings, table, SETTINGS);
  if (fota_places_copy(settings, flash, &places) == FOTA_OK) {
    check_places(&places, flash);
    CHECK(places.otadata == 0);
  } else {
    CHECK(memcmp(&places, &(fota_places_t){0}, sizeof places) == 0);
  }
  free(settings);
  free(table);
  return 0;
}
