/* Segments of an image in Espressif's form: what may be mapped or loaded, and where (SPEC 7.1). */
#ifndef FOTA_ESP32C3_SEGMENTS_H
#define FOTA_ESP32C3_SEGMENTS_H

#include <stdint.h>

#include "status.h"

enum { FOTA_SEGMENTS_START = 24, FOTA_SEGMENTS_MAX = 16 };

typedef enum fota_segment_kind {
  FOTA_SEGMENT_SKIPPED, /* load address 0: padding, or the FOTA block */
  FOTA_SEGMENT_DROM,    /* mapped as data */
  FOTA_SEGMENT_IROM,    /* mapped as code */
  FOTA_SEGMENT_RAM,     /* loaded */
  FOTA_SEGMENT_RTC,     /* loaded, but for a wake from deep sleep */
} fota_segment_kind_t;

typedef struct fota_segment {
  fota_segment_kind_t kind;
  uint32_t load;   /* address */
  uint32_t offset; /* of its bytes in the slot */
  uint32_t length; /* bytes, a multiple of 4 */
} fota_segment_t;

/* Reads the segment whose head is at `*offset` in the slot, and moves `*offset` behind it.
 *
 * FOTA_IMAGE_SIZE if it leaves the slot, FOTA_IMAGE_SEGMENT if it is misaligned, wraps, leaves its
 * region or lies where the loader does. `segment` is written only with FOTA_OK. */
FOTA_MUST_USE fota_status_t fota_segment_next(const uint8_t *slot, uint32_t slot_size,
                                              uint32_t *offset, fota_segment_t *segment);

/* What images are held against: the chip's eFuses. The port's to fill, the tests' to choose. */
typedef struct fota_chip {
  uint32_t revision; /* major * 100 + minor */
  uint32_t block;    /* version of the factory's calibration, the same way */
  uint32_t no_upper; /* bit 0: no upper limit of the revision counts, bit 1: of the block */
} fota_chip_t;
extern fota_chip_t fota_chip;

#endif
