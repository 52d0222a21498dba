/* Where things are in flash: by the partition table, or by the copy of it in the settings page. */
#ifndef FOTA_ESP32C3_PARTITIONS_H
#define FOTA_ESP32C3_PARTITIONS_H

#include <stdint.h>

#include "status.h"

/* Offsets in flash and sizes, bytes. */
typedef struct fota_places {
  uint32_t store; /* the partition `fota`; 0 = unknown */
  uint32_t slot[2];
  uint32_t slot_size[2];
  uint32_t otadata; /* 0 = unknown */
} fota_places_t;

/* Reads the 4096 bytes of the table (SPEC 7.4): ota_0, ota_1, otadata and `fota` have to be there,
 * and no further slot, by which the sequence numbers of the OTA data would count.
 *
 * FOTA_PARTITION_TABLE if it is missing or damaged, has a partition that leaves `flash_size`, lies
 * on the loader or on another one, or lacks what is needed. A table without MD5 is good. `places`
 * is written only with FOTA_OK. */
FOTA_MUST_USE fota_status_t fota_partitions_parse(const uint8_t *table, uint32_t flash_size,
                                                  fota_places_t *places);

/* Reads the copy in the settings: the OTA data stay unknown. FOTA_PARTITION_TABLE if it is not
 * there or not possible; then `places` is all zeros. */
FOTA_MUST_USE fota_status_t fota_places_copy(const uint8_t *settings, uint32_t flash_size,
                                             fota_places_t *places);

/* MD5 of the records: the port's, by ROM or in C. A checksum here, and no more. */
void fota_md5(const uint8_t *data, uint32_t length, uint8_t digest[16]);

#endif
