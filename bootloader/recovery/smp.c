#include "recovery/smp.h"

#include <stddef.h>
#include <string.h>

#include "bytes.h"
#include "image.h"
#include "port.h"
#include "recovery/big_endian.h"
#include "recovery/cbor_reader.h"
#include "recovery/cbor_writer.h"
#include "recovery/frame.h"

enum {
  HEADER = 8,
  OP_READ = 0,
  OP_WRITE = 2,
  OP_RESPONSE = 1,       /* what the answer's op has on top */
  OP_NOT_REQUEST = 0xf5, /* bits that a request of version 0 or 1 has clear */
};

/* How an answer says that it could not be: SMP's own numbers. */
typedef enum rc {
  RC_OK = 0,
  RC_UNKNOWN = 1,
  RC_INVALID = 3,
  RC_SIZE = 7,
  RC_NOT_SUPPORTED = 8,
} rc_t;

typedef struct request {
  const uint8_t *body;
  uint32_t size;
} request_t;

static void put_number(fota_cbor_out_t *out, const char *key, uint32_t number) {
  fota_cbor_put_key(out, key);
  fota_cbor_put_head(out, FOTA_CBOR_UINT, number);
}

/* --- group 0: the system --- */

static rc_t echo(const request_t *request, fota_cbor_out_t *out) {
  static const fota_cbor_key_t key = {"d", FOTA_CBOR_TEXT};
  fota_cbor_value_t text;
  if (!fota_cbor_read_map(request->body, request->size, &key, &text, 1)) return RC_INVALID;
  if (text.data == NULL) return RC_INVALID;
  fota_cbor_put_head(out, FOTA_CBOR_MAP, 1);
  fota_cbor_put_key(out, "r");
  fota_cbor_put_string(out, FOTA_CBOR_TEXT, text.data, text.number);
  return RC_OK;
}

static rc_t reset(fota_smp_t *smp, fota_cbor_out_t *out) {
  smp->reset = true;
  fota_cbor_put_head(out, FOTA_CBOR_MAP, 0);
  return RC_OK;
}

static rc_t parameters(fota_cbor_out_t *out) {
  fota_cbor_put_head(out, FOTA_CBOR_MAP, 2);
  put_number(out, "buf_size", FOTA_FRAME_SIZE);
  put_number(out, "buf_count", 1);
  return RC_OK;
}

/* --- group 1: images --- */

static uint32_t put_decimal(char *text, uint32_t number) {
  uint32_t size = 0;
  for (uint32_t rest = number; size == 0 || rest != 0; rest /= 10)
    size++;
  for (uint32_t i = size; i > 0; i--) {
    text[i - 1] = (char)('0' + number % 10);
    number /= 10;
  }
  return size;
}

/* "1.2.3", and ".4" if there is a build number. */
static void put_version(fota_cbor_out_t *out, const uint8_t *version) {
  const uint32_t part[4] = {version[0], version[1], fota_load_le16(version + 2),
                            fota_load_le32(version + 4)};
  char text[4 * 11];
  uint32_t size = 0;
  for (uint32_t i = 0; i < 3 || (i == 3 && part[3] != 0); i++) {
    if (i != 0) text[size++] = '.';
    size += put_decimal(text + size, part[i]);
  }
  fota_cbor_put_key(out, "version");
  fota_cbor_put_string(out, FOTA_CBOR_TEXT, text, size);
}

static void put_flag(fota_cbor_out_t *out, const char *key, bool value) {
  fota_cbor_put_key(out, key);
  fota_cbor_put_bool(out, value);
}

/* What the image says of itself; nothing here is verified. */
static void put_image(fota_cbor_out_t *out, uint8_t slot, const fota_image_t *image,
                      const fota_record_t *record) {
  fota_cbor_put_head(out, FOTA_CBOR_MAP, 5);
  put_number(out, "slot", fota_slot_index(slot));
  put_version(out, image->version);
  fota_cbor_put_key(out, "hash");
  fota_cbor_put_string(out, FOTA_CBOR_BYTES, image->hash, 32);
  put_flag(out, "pending", record->candidate == slot && record->state == FOTA_STATE_STAGED);
  put_flag(out, "confirmed", record->confirmed == slot);
}

static bool parses(uint8_t slot, fota_image_t *image) {
  (void)fota_port_ecc_fault(); /* forget older faults */
  const fota_status_t status =
      fota_image_parse(fota_layout.slot[fota_slot_index(slot)], &fota_layout, image);
  return !fota_port_ecc_fault() && status == FOTA_OK;
}

static rc_t images(const fota_smp_t *smp, fota_cbor_out_t *out) {
  static const uint8_t slots[2] = {FOTA_SLOT_A, FOTA_SLOT_B};
  fota_image_t image;
  uint32_t count = 0;
  for (int i = 0; i < 2; i++)
    count += parses(slots[i], &image);
  fota_cbor_put_head(out, FOTA_CBOR_MAP, 1);
  fota_cbor_put_key(out, "images");
  fota_cbor_put_head(out, FOTA_CBOR_ARRAY, count);
  for (int i = 0; i < 2; i++) {
    if (parses(slots[i], &image)) put_image(out, slots[i], &image, &smp->upload.journal->record);
  }
  return RC_OK;
}

/* What "off" and "match" of the answer are to be. The digest of a file that does not match was
 * compared too late for the sender to mind anything else. */
static void put_progress(const fota_upload_t *u, bool mismatch, uint32_t end,
                         fota_cbor_out_t *out) {
  const bool complete = u->length != 0 && u->offset == u->length;
  const bool compared = mismatch || (complete && u->has_digest);
  fota_cbor_put_head(out, FOTA_CBOR_MAP, compared ? 2 : 1);
  put_number(out, "off", mismatch ? end : u->offset);
  if (compared) put_flag(out, "match", !mismatch);
}

/* A piece that is not the next one is not an error: the answer tells which one is. */
static rc_t upload(fota_upload_t *u, const request_t *request, fota_cbor_out_t *out) {
  enum { OFF, DATA, LEN, SHA, KEYS };
  static const fota_cbor_key_t keys[KEYS] = {{"off", FOTA_CBOR_UINT},
                                             {"data", FOTA_CBOR_BYTES},
                                             {"len", FOTA_CBOR_UINT},
                                             {"sha", FOTA_CBOR_BYTES}};
  fota_cbor_value_t v[KEYS];
  fota_status_t status = FOTA_OK;
  if (!fota_cbor_read_map(request->body, request->size, keys, v, KEYS)) return RC_INVALID;
  const uint32_t off = v[OFF].number;
  const bool first = off == 0;
  if (v[OFF].data == NULL || v[DATA].data == NULL) return RC_INVALID;
  if ((first && v[LEN].data == NULL) || (v[SHA].data != NULL && v[SHA].number != 32)) {
    return RC_INVALID;
  }
  if (first) status = fota_upload_begin(u, v[LEN].number, v[SHA].data);
  if (status == FOTA_OK && off == u->offset && u->length != 0) {
    status = fota_upload_write(u, v[DATA].data, v[DATA].number);
  }
  const bool mismatch = status == FOTA_IMAGE_HASH;
  if (status != FOTA_OK && !mismatch) return status == FOTA_IMAGE_SIZE ? RC_INVALID : RC_UNKNOWN;
  put_progress(u, mismatch, off + v[DATA].number, out);
  return RC_OK;
}

/* --- dispatch --- */

#define COMMAND(op, group, id) ((uint32_t)(op) << 24 | (uint32_t)(group) << 8 | (uint32_t)(id))

static rc_t run(fota_smp_t *smp, uint32_t command, const request_t *request, fota_cbor_out_t *out) {
  switch (command) {
    case COMMAND(OP_WRITE, 0, 0):
      return echo(request, out);
    case COMMAND(OP_WRITE, 0, 5):
      return reset(smp, out);
    case COMMAND(OP_READ, 0, 6):
      return parameters(out);
    case COMMAND(OP_READ, 1, 0):
      return images(smp, out);
    case COMMAND(OP_WRITE, 1, 1):
      return upload(&smp->upload, request, out);
    default:
      return RC_NOT_SUPPORTED;
  }
}

uint32_t fota_smp_answer(fota_smp_t *smp, const uint8_t *message, uint32_t size) {
  if (size < HEADER || (message[0] & OP_NOT_REQUEST) != 0) return 0;
  const request_t request = {.body = message + HEADER, .size = size - HEADER};
  if (load_be16(message + 2) != request.size) return 0;
  fota_cbor_out_t out = {.bytes = smp->response + HEADER, .room = FOTA_SMP_RESPONSE_SIZE - HEADER};
  const uint32_t op = message[0] & 7;
  rc_t rc = run(smp, COMMAND(op, load_be16(message + 4), message[7]), &request, &out);
  if (rc == RC_OK && out.full) rc = RC_SIZE;
  if (rc != RC_OK) {
    out.size = 0;
    out.full = false;
    fota_cbor_put_head(&out, FOTA_CBOR_MAP, 1);
    put_number(&out, "rc", rc);
  }
  memcpy(smp->response, message, HEADER);
  smp->response[0] |= OP_RESPONSE;
  store_be16(smp->response + 2, out.size);
  return HEADER + out.size;
}
