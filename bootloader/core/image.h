/* An image in a slot (SPEC 2), parsed strictly. Nothing here is trusted before the signature is.
 *
 * Which form it has is chosen when the bootloader is linked: core/image.c is MCUboot's, a port may
 * bring another. */
#ifndef FOTA_IMAGE_H
#define FOTA_IMAGE_H

#include <stdint.h>

#include "layout.h"
#include "status.h"

enum { FOTA_IMAGE_HEADER_SIZE = 0x200, FOTA_IMAGE_VERSION = 20 };

typedef struct fota_image {
  const uint8_t *base;     /* the first byte of the slot */
  uint32_t hashed_size;    /* from there: what the signature covers */
  const uint8_t *version;  /* 8 bytes: major u8, minor u8, revision u16, build u32 */
  const uint8_t *sec_cnt;  /* u32, security counter */
  const uint8_t *class_id; /* 16 bytes */
  const uint8_t *hash;     /* 32 bytes */
  const uint8_t *key_hash; /* 32 bytes */
  const uint8_t *der;      /* signature, as it stands there; MCUboot's form only */
  uint8_t rs[64];          /* signature, raw r || s */
} fota_image_t;

/* Parses the slot at `base`. Every pointer in `image` lies inside the slot when this returns
 * FOTA_OK; otherwise the status names the first thing that was wrong. Does not hash the image. */
FOTA_MUST_USE fota_status_t fota_image_parse(const uint8_t *base, const fota_layout_t *layout,
                                             fota_image_t *image);

#endif
