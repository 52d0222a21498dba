/* The signature parser. What it accepts, written out again, is the input: one encoding each. */
#include "der.h"

#include <string.h>

#include "fuzz.h"

static size_t put_scalar(uint8_t *out, const uint8_t scalar[32]) {
  size_t skip = 0;
  while (skip < 31 && scalar[skip] == 0)
    skip++;
  const size_t sign = scalar[skip] >= 0x80 ? 1 : 0;
  const size_t length = 32 - skip + sign;
  out[0] = 0x02;
  out[1] = (uint8_t)length;
  out[2] = 0;
  memcpy(out + 2 + sign, scalar + skip, 32 - skip);
  return 2 + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t rs[64];
  uint8_t again[80];
  if (size > 255) return 0;
  if (fota_der_signature(data, (uint32_t)size, rs) != FOTA_OK) return 0;
  size_t length = 2;
  length += put_scalar(again + length, rs);
  length += put_scalar(again + length, rs + 32);
  again[0] = 0x30;
  again[1] = (uint8_t)(length - 2);
  CHECK(length == size && memcmp(again, data, size) == 0);
  return 0;
}
