/* Bound: none. One item more, wherever the reader stands in a message of up to 1,020 bytes: what it
 * yields lies in the message, and the reader moves on. It looks at messages in no other way.
 * Sources:
 * Unwind: 8 */
#include "prove.h"
#include "recovery/cbor_reader.c" /* for its parts */

enum { LONGEST = 1020 };

int main(void) {
  static const fota_cbor_key_t keys[2] = {{"off", FOTA_CBOR_UINT}, {"sha", FOTA_CBOR_BYTES}};
  fota_cbor_value_t values[2] = {{0}, {0}};
  const uint32_t size = ANY(uint32_t);
  const uint32_t at = ANY(uint32_t);
  ASSUME(size <= LONGEST && at <= size);
  const uint8_t *message = any_bytes(size);
  input_t in = {.at = message + at, .left = size - at};
  item_t item;
  if (!read_item(&in, &item)) return 0;
  const uint32_t now = (uint32_t)(in.at - message);
  PROVE(__CPROVER_same_object(in.at, message), "the reader stays in the message");
  PROVE(now > at && now <= size && in.left == size - now, "it moves on, and not too far");
  const bool string = item.type == FOTA_CBOR_BYTES || item.type == FOTA_CBOR_TEXT;
  PROVE(!string || __CPROVER_r_ok(item.data, item.number), "a string lies in the message");
  PROVE(item.type != FOTA_CBOR_TAG, "tags are refused");
  if (item.type != FOTA_CBOR_TEXT) return 0;
  const item_t value = {.type = ANY(uint8_t), .number = ANY(uint32_t), .data = in.at};
  (void)keep(&item, &value, keys, values, 2); /* reads the key */
}
