/* Numbers in network order, as SMP and CBOR have them. */
#ifndef FOTA_BIG_ENDIAN_H
#define FOTA_BIG_ENDIAN_H

#include <stdint.h>

static inline uint32_t load_be16(const uint8_t *p) {
  return (uint32_t)p[0] << 8 | p[1];
}

static inline void store_be16(uint8_t *p, uint32_t value) {
  p[0] = (uint8_t)(value >> 8);
  p[1] = (uint8_t)value;
}

#endif
