#include "crc32.h"

/* Bit by bit: a table would cost more flash than the few short records here cost time. */
uint32_t fota_crc32(const void *data, uint32_t length) {
  const uint8_t *p = data;
  uint32_t crc = ~0u;
  for (uint32_t i = 0; i < length; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++)
      crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}
