#include "recovery/cbor_writer.h"

#include <string.h>

#include "recovery/cbor_reader.h"

static void put(fota_cbor_out_t *out, const void *data, uint32_t length) {
  if (out->full || length > out->room - out->size) {
    out->full = true;
    return;
  }
  memcpy(out->bytes + out->size, data, length);
  out->size += length;
}

void fota_cbor_put_head(fota_cbor_out_t *out, uint8_t type, uint32_t number) {
  uint8_t head[5] = {0};
  const uint32_t extra = number < 24 ? 0 : number < 0x100 ? 1 : number < 0x10000 ? 2 : 4;
  const uint32_t info = extra == 0 ? number : extra == 1 ? 24 : extra == 2 ? 25 : 26;
  head[0] = (uint8_t)((uint32_t)type << 5 | info);
  for (uint32_t i = 0; i < extra; i++)
    head[1 + i] = (uint8_t)(number >> (8 * (extra - 1 - i)));
  put(out, head, 1 + extra);
}

void fota_cbor_put_string(fota_cbor_out_t *out, uint8_t type, const void *data, uint32_t length) {
  fota_cbor_put_head(out, type, length);
  put(out, data, length);
}

void fota_cbor_put_key(fota_cbor_out_t *out, const char *key) {
  uint32_t length = 0;
  while (key[length] != '\0')
    length++;
  fota_cbor_put_string(out, FOTA_CBOR_TEXT, key, length);
}

void fota_cbor_put_bool(fota_cbor_out_t *out, bool value) {
  fota_cbor_put_head(out, FOTA_CBOR_SIMPLE, value ? FOTA_CBOR_TRUE : FOTA_CBOR_FALSE);
}
