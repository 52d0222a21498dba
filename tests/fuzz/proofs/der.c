/* Bound: none. Every signature of every length.
 * Sources: core/der
 * Unwind: 34 */
#include "der.h"

#include "prove.h"

int main(void) {
  const uint32_t length = ANY(uint32_t);
  const uint32_t there = length <= 73 ? length : 73; /* a longer one is refused unread */
  const uint8_t *der = any_bytes(there);
  uint8_t *rs = any_bytes(64);
  const fota_status_t status = fota_der_signature(der, length, rs);
  PROVE(status == FOTA_OK || status == FOTA_IMAGE_DER, "a status of its own");
  PROVE(status != FOTA_OK || (length >= 8 && length <= 72), "the length of what is accepted");
}
