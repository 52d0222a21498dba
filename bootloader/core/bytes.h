/* Bytes from outside: bounds that cannot wrap, loads that need no alignment. */
#ifndef FOTA_BYTES_H
#define FOTA_BYTES_H

#include <stdbool.h>
#include <stdint.h>

__attribute__((always_inline)) static inline uint32_t fota_load_le16(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

__attribute__((always_inline)) static inline uint32_t fota_load_le32(const uint8_t *p) {
  return fota_load_le16(p) | fota_load_le16(p + 2) << 16;
}

__attribute__((always_inline)) static inline void fota_copy4(void *to, const void *from) {
  __builtin_memcpy(to, from, 4);
}

/* True if [offset, offset + length) lies inside [0, size). */
static inline bool fota_range_ok(uint32_t offset, uint32_t length, uint32_t size) {
  return offset <= size && length <= size - offset;
}

#endif
