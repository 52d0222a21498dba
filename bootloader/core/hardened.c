#include "hardened.h"

fota_status_t fota_compare(const uint8_t *a, const uint8_t *b, uint32_t length) {
  /* a copy that the compiler does not know to equal `i` behind the loop */
  const uint32_t end = fota_launder(length);
  uint32_t difference = 0;
  uint32_t i = 0;
  while (i < length) {
    difference |= (uint32_t)a[i] ^ b[i];
    i++;
  }
  /* An index that did not get to the end is a difference too. */
  return FOTA_OK ^ (fota_launder(difference) | (fota_launder(i) ^ end));
}
