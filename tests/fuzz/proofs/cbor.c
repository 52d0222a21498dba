/* Bound: messages of up to 9 bytes, any content; the four keys of an upload.
 * Sources: recovery/cbor_reader
 * Unwind: 10 fota_cbor_read_map.0:6 read_number.0:5 keep.0:5 is_named.0:6 */
#include "prove.h"
#include "recovery/cbor_reader.h"

enum { LONGEST = 9, KEYS = 4 };

int main(void) {
  static const fota_cbor_key_t keys[KEYS] = {{"off", FOTA_CBOR_UINT},
                                             {"data", FOTA_CBOR_BYTES},
                                             {"len", FOTA_CBOR_UINT},
                                             {"sha", FOTA_CBOR_BYTES}};
  fota_cbor_value_t value[KEYS];
  const uint32_t size = ANY(uint32_t);
  ASSUME(size <= LONGEST);
  const uint8_t *message = any_bytes(size);
  if (!fota_cbor_read_map(message, size, keys, value, KEYS)) return 0;
  for (int i = 0; i < KEYS; i++) {
    const bool string = keys[i].type == FOTA_CBOR_BYTES;
    if (value[i].data == NULL) continue;
    PROVE(__CPROVER_same_object(value[i].data, message), "a value lies in the message");
    PROVE((uint32_t)(value[i].data - message) + (string ? value[i].number : 0) <= size,
          "a string ends in the message");
  }
}
