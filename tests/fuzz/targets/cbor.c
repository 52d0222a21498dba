/* The reader of requests, with the keys of an upload. */
#include "fuzz.h"
#include "recovery/cbor_reader.h"

enum { KEYS = 4 };

static const fota_cbor_key_t keys[KEYS] = {{"off", FOTA_CBOR_UINT},
                                           {"data", FOTA_CBOR_BYTES},
                                           {"len", FOTA_CBOR_UINT},
                                           {"d", FOTA_CBOR_TEXT}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fota_cbor_value_t value[KEYS];
  if (!fota_cbor_read_map(data, (uint32_t)size, keys, value, KEYS)) return 0;
  for (int i = 0; i < KEYS; i++) {
    const fota_cbor_value_t *v = &value[i];
    if (v->data == NULL) continue;
    const uint32_t length = keys[i].type == FOTA_CBOR_UINT ? 0 : v->number;
    CHECK(v->data >= data && length <= (uint32_t)(data + size - v->data));
  }
  return 0;
}
