#include "der.h"

#include <string.h>

#include "bytes.h"

enum { DER_SEQUENCE = 0x30, DER_INTEGER = 0x02, SCALAR_SIZE = 32, DER_MAX = 72 };

/* The order of P-256. A signature has 1 <= r, s < n; what the element would say to others is
 * nowhere written, and an answer that is no verdict would stop the boot. */
const uint8_t fota_p256_order[SCALAR_SIZE] = {
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};

/* The length of the INTEGER at `der` with its head; 0 if it is not one that we accept. */
static uint32_t parse_scalar(const uint8_t *der, uint32_t left, uint8_t scalar[SCALAR_SIZE]) {
  if (left < 3 || der[0] != DER_INTEGER) return 0;
  uint32_t size = der[1];
  if (size == 0 || size > left - 2 || size > SCALAR_SIZE + 1) return 0;
  const uint32_t consumed = 2 + size;
  der += 2;
  if (der[0] >= 0x80 || (size == 1 && der[0] == 0)) return 0; /* negative, or zero */
  if (der[0] == 0 && size > 1) {
    if (der[1] < 0x80) return 0; /* not minimal */
    der++;
    size--;
  }
  if (size > SCALAR_SIZE) return 0;
  memset(scalar, 0, SCALAR_SIZE - size);
  memcpy(scalar + SCALAR_SIZE - size, der, size);
  return memcmp(scalar, fota_p256_order, SCALAR_SIZE) < 0 ? consumed : 0;
}

fota_status_t fota_der_signature(const uint8_t *der, uint32_t length, uint8_t rs[64]) {
  if (length < 2 || length > DER_MAX) return FOTA_IMAGE_DER;
  if (der[0] != DER_SEQUENCE || der[1] != length - 2) return FOTA_IMAGE_DER;
  const uint32_t r_size = parse_scalar(der + 2, length - 2, rs);
  if (r_size == 0) return FOTA_IMAGE_DER;
  const uint32_t left = length - 2 - r_size;
  const uint32_t s_size = parse_scalar(der + 2 + r_size, left, rs + SCALAR_SIZE);
  return s_size != 0 && s_size == left ? FOTA_OK : FOTA_IMAGE_DER;
}
