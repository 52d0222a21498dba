/* A file that arrives in pieces goes into the slot that is not the confirmed one; when it is whole,
 * the journal asks for a trial of it. Whether it is any good, the next boot decides. */
#ifndef FOTA_UPLOAD_H
#define FOTA_UPLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "journal.h"
#include "status.h"

/* All zero but `journal` = nothing has arrived. */
typedef struct fota_upload {
  fota_journal_t *journal; /* open */
  uint32_t length;         /* of the file, bytes; 0 = no upload */
  uint32_t offset;         /* bytes that have arrived; = length: complete, and requested */
  uint32_t word[4];        /* the 16 bytes that are being filled, programmed at once */
  fota_flash_t flash;      /* the slot */
  uint8_t slot;
  bool has_digest;
  uint8_t digest[32]; /* SHA-256 that the sender says the file has */
} fota_upload_t;

/* Forgets what was before. `digest` may be NULL. FOTA_IMAGE_SIZE if a slot has no room. */
FOTA_MUST_USE fota_status_t fota_upload_begin(fota_upload_t *upload, uint32_t length,
                                              const uint8_t *digest);

/* Writes the next `size` bytes; each page is erased when its first byte arrives. With the last one,
 * compares the digest with what is in flash, and stages the slot in the journal.
 *
 * FOTA_IMAGE_SIZE if that is more than was announced: nothing is written. FOTA_IMAGE_HASH, or what
 * flash or journal say: the upload is over, to be begun anew. */
FOTA_MUST_USE fota_status_t fota_upload_write(fota_upload_t *upload, const uint8_t *data,
                                              uint32_t size);

#endif
