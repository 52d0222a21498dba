/* Bound: tables of up to four records and an end, flash of up to 16 MiB; any copy in settings.
 * Sources: port/esp32c3/partitions
 * Unwind: 5 is_blank.0:33 memcmp.0:17 fota_md5.0:17 */
#include "port/esp32c3/partitions.h"

#include "port/esp32c3/memory.h"
#include "prove.h"

enum { RECORD = 32, MOST = 4, SETTINGS = 256 };

/* Any function of the bytes will do for what is proved here. */
void fota_md5(const uint8_t *data, uint32_t length, uint8_t digest[16]) {
  PROVE(length == 0 || __CPROVER_r_ok(data, length), "the sum is taken of records");
  PROVE(__CPROVER_w_ok(digest, 16), "room for the sum");
  for (uint32_t i = 0; i < 16; i++)
    digest[i] = ANY(uint8_t);
}

static bool lies_in(uint32_t offset, uint32_t size, uint32_t flash) {
  return offset >= TABLE_OFFSET + TABLE_SIZE && offset % PAGE_SIZE == 0 && offset <= flash &&
         size <= flash - offset;
}

static bool apart(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size) {
  return a >= b + b_size || b >= a + a_size;
}

static void check_slots(const fota_places_t *p, uint32_t flash) {
  PROVE(lies_in(p->store, STORE_SIZE, flash), "the store lies in flash, behind the loader");
  for (uint32_t i = 0; i < 2; i++) {
    PROVE(lies_in(p->slot[i], p->slot_size[i], flash), "a slot lies in flash, behind the loader");
    PROVE(p->slot[i] % SLOT_ALIGNMENT == 0, "a slot begins with a page of the MMU");
    PROVE(p->slot_size[i] >= 2 * PAGE_SIZE && p->slot_size[i] <= SLOT_SIZE, "and has its size");
    PROVE(p->slot_size[i] % PAGE_SIZE == 0, "in whole sectors");
  }
}

static void check_table(uint32_t flash) {
  const uint8_t *table = any_bytes(TABLE_SIZE);
  ASSUME(table[MOST * RECORD] != 0xaa);
  fota_places_t places = {.store = 1};
  if (fota_partitions_parse(table, flash, &places) != FOTA_OK) {
    PROVE(places.store == 1 && places.slot[0] == 0, "what is refused leaves nothing");
    return;
  }
  check_slots(&places, flash);
  PROVE(lies_in(places.otadata, 2 * PAGE_SIZE, flash), "OTA data lie in flash, behind the loader");
  const uint32_t *slot = places.slot, *size = places.slot_size;
  PROVE(apart(slot[0], size[0], slot[1], size[1]), "the slots lie apart");
  for (uint32_t i = 0; i < 2; i++) {
    PROVE(apart(slot[i], size[i], places.store, STORE_SIZE), "a slot lies not on the store");
    PROVE(apart(slot[i], size[i], places.otadata, 2 * PAGE_SIZE), "a slot lies not on OTA data");
  }
  PROVE(apart(places.store, STORE_SIZE, places.otadata, 2 * PAGE_SIZE), "nor do these");
}

static void check_copy(uint32_t flash) {
  fota_places_t places;
  if (fota_places_copy(any_bytes(SETTINGS), flash, &places) == FOTA_OK) {
    check_slots(&places, flash);
    PROVE(places.otadata == 0, "the copy knows of no OTA data");
  } else {
    PROVE(places.store == 0 && places.slot_size[0] == 0, "what is refused leaves nothing");
  }
}

int main(void) {
  const uint32_t flash = ANY(uint32_t);
  ASSUME(flash <= 16u << 20); /* the most that a header can say */
  check_table(flash);
  check_copy(flash);
}
