#include "recovery/cbor_reader.h"

#include <stddef.h>
#include <string.h>

enum { IMMEDIATE = 24 }; /* numbers below this one stand in the head itself */

/* What is left of the message. */
typedef struct input {
  const uint8_t *at;
  uint32_t left;
} input_t;

/* One item, without what an array or map contains. */
typedef struct item {
  uint8_t type;
  uint32_t number;     /* value, length or count */
  const uint8_t *data; /* of a string; for others, what follows the head */
} item_t;

/* The number behind a head, in 1, 2 or 4 bytes; false if it is not there, or if a shorter head
 * would have done. */
static bool read_number(input_t *in, uint32_t info, uint32_t *number) {
  if (info > IMMEDIATE + 2) return false; /* eight bytes, or no definite length */
  const uint32_t extra = 1u << (info - IMMEDIATE);
  const uint32_t least = extra == 1 ? IMMEDIATE : 1u << (4 * extra);
  if (in->left < extra) return false;
  *number = 0;
  for (uint32_t i = 0; i < extra; i++)
    *number = *number << 8 | in->at[i];
  in->at += extra;
  in->left -= extra;
  return *number >= least;
}

static bool read_head(input_t *in, item_t *item) {
  if (in->left == 0) return false;
  const uint8_t head = in->at[0];
  const uint32_t info = head & 0x1f;
  in->at++;
  in->left--;
  item->type = head >> 5;
  item->number = info;
  if (info < IMMEDIATE) return true;
  return item->type != FOTA_CBOR_SIMPLE && read_number(in, info, &item->number);
}

static bool read_item(input_t *in, item_t *item) {
  if (!read_head(in, item)) return false;
  item->data = in->at;
  if (item->type == FOTA_CBOR_BYTES || item->type == FOTA_CBOR_TEXT) {
    if (item->number > in->left) return false;
    in->at += item->number;
    in->left -= item->number;
  }
  if (item->type == FOTA_CBOR_SIMPLE) {
    return item->number >= FOTA_CBOR_FALSE && item->number <= FOTA_CBOR_NULL;
  }
  return item->type != FOTA_CBOR_TAG;
}

/* Passes over what `outer` contains, whatever its depth. Every item takes a byte or more, so a
 * count that the rest of the message could not hold is refused at once. */
static bool skip_content(input_t *in, const item_t *outer) {
  item_t item = *outer;
  uint32_t pending = 0;
  for (;;) {
    if (item.type == FOTA_CBOR_ARRAY || item.type == FOTA_CBOR_MAP) {
      const uint32_t per_entry = item.type == FOTA_CBOR_MAP ? 2 : 1;
      if (item.number > in->left / per_entry) return false;
      pending += item.number * per_entry;
    }
    if (pending == 0) return true;
    pending--;
    if (pending > in->left || !read_item(in, &item)) return false;
  }
}

static bool is_named(const item_t *key, const char *name) {
  uint32_t i = 0;
  while (i < key->number && name[i] != '\0' && key->data[i] == (uint8_t)name[i])
    i++;
  return i == key->number && name[i] == '\0';
}

/* Keeps the value if the key is one of those wanted; false if it cannot be what is wanted. */
static bool keep(const item_t *key, const item_t *value, const fota_cbor_key_t *keys,
                 fota_cbor_value_t *values, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (!is_named(key, keys[i].name)) continue;
    if (values[i].data != NULL || value->type != keys[i].type) return false;
    values[i] = (fota_cbor_value_t){.number = value->number, .data = value->data};
  }
  return true;
}

bool fota_cbor_read_map(const uint8_t *message, uint32_t size, const fota_cbor_key_t *keys,
                        fota_cbor_value_t *values, uint32_t count) {
  input_t in = {.at = message, .left = size};
  item_t map;
  if (!read_item(&in, &map) || map.type != FOTA_CBOR_MAP) return false;
  memset(values, 0, count * sizeof *values);
  for (uint32_t entry = 0; entry < map.number; entry++) {
    item_t key;
    item_t value;
    if (!read_item(&in, &key) || key.type != FOTA_CBOR_TEXT) return false;
    if (!read_item(&in, &value) || !keep(&key, &value, keys, values, count)) return false;
    if (!skip_content(&in, &value)) return false;
  }
  return in.left == 0;
}
