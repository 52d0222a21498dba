/* Bound: messages of up to 64 bytes, any content; what it calls by its contract.
 * Sources: recovery/smp
 * Unwind: 12 */
#include "recovery/smp.h"

#include "image.h"
#include "port.h"
#include "prove.h"
#include "recovery/cbor_reader.h"
#include "recovery/cbor_writer.h"

enum { LONGEST = 64 };

static uint8_t slot[FOTA_IMAGE_HEADER_SIZE + 64];
const fota_layout_t fota_layout = {.slot = {slot, slot}, .slot_size = sizeof slot};

bool fota_port_ecc_fault(void) {
  return ANY(bool);
}

/* Contract, proved by image.c. */
fota_status_t fota_image_parse(const uint8_t *base, const fota_layout_t *layout,
                               fota_image_t *image) {
  (void)layout;
  image->base = base;
  image->version = base;
  image->hash = base + sizeof slot - 32;
  return ANY(bool) ? FOTA_OK : FOTA_IMAGE_TLV;
}

/* Contract, proved by cbor.c: what is found lies in the message. */
bool fota_cbor_read_map(const uint8_t *message, uint32_t size, const fota_cbor_key_t *keys,
                        fota_cbor_value_t *values, uint32_t count) {
  PROVE(__CPROVER_r_ok(message, size), "the whole body is read, and not more");
  for (uint32_t i = 0; i < count; i++) {
    const bool string = keys[i].type == FOTA_CBOR_BYTES || keys[i].type == FOTA_CBOR_TEXT;
    const uint32_t at = ANY(uint32_t);
    const uint32_t number = ANY(uint32_t);
    ASSUME(at <= size && (!string || number <= size - at));
    values[i] = (fota_cbor_value_t){.number = number, .data = ANY(bool) ? message + at : NULL};
  }
  return ANY(bool);
}

/* Contracts, proved by cbor_writer.c: what is written lies in the buffer, or nothing is. */
static void write_some(fota_cbor_out_t *out) {
  const uint32_t more = ANY(uint32_t);
  PROVE(out->size <= out->room && __CPROVER_w_ok(out->bytes, out->room), "a sound buffer");
  ASSUME(more <= out->room - out->size);
  out->size += more;
  out->full = out->full || ANY(bool);
}

void fota_cbor_put_head(fota_cbor_out_t *out, uint8_t type, uint32_t number) {
  (void)number;
  PROVE(type <= 7, "a major type");
  write_some(out);
}

void fota_cbor_put_string(fota_cbor_out_t *out, uint8_t type, const void *data, uint32_t length) {
  PROVE(type <= 7 && __CPROVER_r_ok(data, length), "a whole string");
  write_some(out);
}

void fota_cbor_put_key(fota_cbor_out_t *out, const char *key) {
  PROVE(__CPROVER_r_ok(key, 2), "a key");
  write_some(out);
}

void fota_cbor_put_bool(fota_cbor_out_t *out, bool value) {
  (void)value;
  write_some(out);
}

/* Contracts, proved by upload.c. */
fota_status_t fota_upload_begin(fota_upload_t *upload, uint32_t length, const uint8_t *digest) {
  PROVE(digest == NULL || __CPROVER_r_ok(digest, 32), "a whole digest");
  upload->length = length;
  upload->offset = 0;
  return ANY(bool) ? FOTA_OK : FOTA_IMAGE_SIZE;
}

fota_status_t fota_upload_write(fota_upload_t *upload, const uint8_t *data, uint32_t size) {
  PROVE(__CPROVER_r_ok(data, size), "the piece lies in the message");
  upload->offset = ANY(uint32_t);
  return ANY(uint32_t);
}

int main(void) {
  static fota_smp_t smp;
  static fota_journal_t journal;
  const uint32_t size = ANY(uint32_t);
  ASSUME(size <= LONGEST);
  __CPROVER_havoc_object(slot);
  __CPROVER_havoc_object(&journal);
  smp.upload.length = ANY(uint32_t);
  smp.upload.offset = ANY(uint32_t);
  smp.upload.has_digest = ANY(bool);
  smp.upload.journal = &journal;
  const uint32_t answer = fota_smp_answer(&smp, any_bytes(size), size);
  PROVE(answer == 0 || (answer >= 8 && answer <= FOTA_SMP_RESPONSE_SIZE), "the answer fits");
  PROVE(size >= 8 || answer == 0, "less than a header is not answered");
}
