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
  const uint8_t *data; /* of a string */
} item_t;

/* The number in `extra` bytes behind the head; false if they are not there or a shorter head would
 * have done. */
static bool read_number(input_t *in, uint32_t extra, uint32_t least, uint32_t *number) {
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
  if (item->type == FOTA_CBOR_SIMPLE) return false; /* floats, and a break */
  if (info == IMMEDIATE) return read_number(in, 1, IMMEDIATE, &item->number);
  if (info == IMMEDIATE + 1) return read_number(in, 2, 0x100, &item->number);
  if (info == IMMEDIATE + 2) return read_number(in, 4, 0x10000, &item->number);
  return false;
}

static bool read_item(input_t *in, item_t *item) {
  if (!read_head(in, item)) return false;
  item->data = NULL;
  if (item->type == FOTA_CBOR_BYTES || item->type == FOTA_CBOR_TEXT) {
    if (item->number > in->left) return false;
    item->data = in->at;
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

static bool is_key(const item_t *key, const char *name) {
  return key->number == strlen(name) && memcmp(key->data, name, key->number) == 0;
}

static fota_cbor_field_t *find_field(const item_t *key, fota_cbor_field_t *fields, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (is_key(key, fields[i].key)) return &fields[i];
  }
  return NULL;
}

static bool keep(fota_cbor_field_t *field, const item_t *value) {
  if (field->found || value->type != field->type) return false;
  field->found = true;
  field->number = value->number;
  field->data = value->data;
  return true;
}

bool fota_cbor_read_map(const uint8_t *message, uint32_t size, fota_cbor_field_t *fields,
                        uint32_t count) {
  input_t in = {.at = message, .left = size};
  item_t map;
  if (!read_item(&in, &map) || map.type != FOTA_CBOR_MAP) return false;
  for (uint32_t i = 0; i < count; i++)
    fields[i].found = false;
  for (uint32_t entry = 0; entry < map.number; entry++) {
    item_t key;
    item_t value;
    if (!read_item(&in, &key) || key.type != FOTA_CBOR_TEXT || !read_item(&in, &value)) {
      return false;
    }
    fota_cbor_field_t *const field = find_field(&key, fields, count);
    if (field != NULL && !keep(field, &value)) return false;
    if (!skip_content(&in, &value)) return false;
  }
  return in.left == 0;
}
