/* What this board's flash has where, found once in a boot. */
#ifndef FOTA_ESP32C3_PLACES_H
#define FOTA_ESP32C3_PLACES_H

#include "port/esp32c3/partitions.h"

extern fota_places_t fota_places;

/* Copies the settings page, reads the partition table, maps both slots for reading.
 * FOTA_PARTITION_TABLE if it took the places from the copy in the settings. */
FOTA_MUST_USE fota_status_t fota_places_find(void);

#endif
