/* Writes the CBOR of SMP responses into a fixed buffer: definite lengths, shortest heads. */
#ifndef FOTA_CBOR_WRITER_H
#define FOTA_CBOR_WRITER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fota_cbor_out {
  uint8_t *bytes;
  uint32_t room; /* size of the buffer */
  uint32_t size; /* written so far */
  bool full;     /* something did not fit: what was written is of no use */
} fota_cbor_out_t;

/* The head of an item; `type` as in cbor_reader.h. After it, a map takes `number` pairs of items,
 * an array `number` items. */
void fota_cbor_put_head(fota_cbor_out_t *out, uint8_t type, uint32_t number);

/* A whole string, of type FOTA_CBOR_BYTES or FOTA_CBOR_TEXT. */
void fota_cbor_put_string(fota_cbor_out_t *out, uint8_t type, const void *data, uint32_t length);

/* The key of a map's entry. */
void fota_cbor_put_key(fota_cbor_out_t *out, const char *key);

void fota_cbor_put_bool(fota_cbor_out_t *out, bool value);

#endif
