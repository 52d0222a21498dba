/* What differs between chips, as data: every port defines one fota_layout. */
#ifndef FOTA_LAYOUT_H
#define FOTA_LAYOUT_H

#include <stdint.h>

/* Slots by number (SPEC 1.1): far apart, and "no slot" is none of the easy values. */
enum { FOTA_SLOT_A = 0x5a, FOTA_SLOT_B = 0xa5, FOTA_SLOT_NONE = 0xc3 };

/* For arrays with an entry for each slot: A first. */
static inline uint32_t fota_slot_index(uint8_t slot) {
  return slot == FOTA_SLOT_B;
}

typedef struct fota_layout {
  const uint8_t *slot[2]; /* where the bootloader reads the slots, A first */
  uint32_t slot_size;     /* bytes */
  uint32_t run_address;   /* where the slot that boots is mapped */
  uint32_t ram_low;       /* an initial stack pointer lies in (ram_low, ram_high] */
  uint32_t ram_high;
} fota_layout_t;

extern const fota_layout_t fota_layout;

#endif
