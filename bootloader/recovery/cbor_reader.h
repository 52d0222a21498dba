/* The CBOR that SMP requests are made of (RFC 8949), read strictly and without recursion:
 * definite lengths, shortest heads, values below 2^32, no tags, no floats. */
#ifndef FOTA_CBOR_READER_H
#define FOTA_CBOR_READER_H

#include <stdbool.h>
#include <stdint.h>

/* Major types. */
enum {
  FOTA_CBOR_UINT = 0,
  FOTA_CBOR_NEGATIVE = 1,
  FOTA_CBOR_BYTES = 2,
  FOTA_CBOR_TEXT = 3,
  FOTA_CBOR_ARRAY = 4,
  FOTA_CBOR_MAP = 5,
  FOTA_CBOR_TAG = 6,
  FOTA_CBOR_SIMPLE = 7,
};

enum { FOTA_CBOR_FALSE = 20, FOTA_CBOR_TRUE = 21, FOTA_CBOR_NULL = 22 };

/* A field that the caller looks for in a map, and its value. */
typedef struct fota_cbor_key {
  char name[7];
  uint8_t type; /* major type that the value must have */
} fota_cbor_key_t;

typedef struct fota_cbor_value {
  uint32_t number;     /* the integer; of a string, its length in bytes */
  const uint8_t *data; /* of a string; NULL if the key was not there, never if it was */
} fota_cbor_value_t;

/* Reads a message that is one map with text keys and nothing after it. Unknown keys are passed
 * over. False if it is not, or if a wanted key stands twice or has a value of another type; then
 * the values are of no use. */
bool fota_cbor_read_map(const uint8_t *message, uint32_t size, const fota_cbor_key_t *keys,
                        fota_cbor_value_t *values, uint32_t count);

#endif
