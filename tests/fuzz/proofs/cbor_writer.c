/* Bound: none. One item more, whatever was written before, into buffers of up to 64 bytes; strings
 * of up to 80. Sources: recovery/cbor_writer Unwind: 9 */
#include "recovery/cbor_writer.h"

#include "prove.h"

enum { LARGEST = 64, LONGEST = 80 };

static bool sound(const fota_cbor_out_t *out) {
  return out->size <= out->room && __CPROVER_w_ok(out->bytes, out->room);
}

int main(void) {
  const uint32_t room = ANY(uint32_t);
  const uint32_t length = ANY(uint32_t);
  ASSUME(room <= LARGEST && length <= LONGEST);
  fota_cbor_out_t out = {
      .bytes = any_bytes(room), .room = room, .size = ANY(uint32_t), .full = ANY(bool)};
  const uint8_t type = ANY(uint8_t);
  ASSUME(sound(&out) && type <= 7);
  if (ANY(bool)) {
    fota_cbor_put_string(&out, type, any_bytes(length), length);
  } else if (ANY(bool)) {
    fota_cbor_put_head(&out, type, ANY(uint32_t));
  } else if (ANY(bool)) {
    fota_cbor_put_key(&out, "version");
  } else {
    fota_cbor_put_bool(&out, ANY(bool));
  }
  PROVE(sound(&out) && out.room == room, "the buffer stays sound");
}
