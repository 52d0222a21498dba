/* What the host library of the ESP32-C3's parsers needs besides: tests bring chip and MD5. */
#include "port/esp32c3/partitions.h"
#include "port/esp32c3/segments.h"

fota_chip_t fota_chip;

void (*fota_host_md5)(const uint8_t *data, uint32_t length, uint8_t *digest);

void fota_md5(const uint8_t *data, uint32_t length, uint8_t digest[16]) {
  fota_host_md5(data, length, digest);
}
