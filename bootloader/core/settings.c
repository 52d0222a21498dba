#include "settings.h"

#include "crc32.h"

static bool between(uint32_t low, uint32_t value, uint32_t high) {
  return low <= value && value <= high;
}

fota_status_t fota_settings_check(const uint8_t *settings) {
  const bool good =
      fota_load_le32(settings) == FOTA_SETTINGS_MAGIC &&
      fota_load_le32(settings + 4) == (FOTA_SETTINGS_SIZE << 16 | 1) && /* format 1 */
      between(1, settings[FOTA_SETTINGS_TRIES], 15) &&
      between(1, settings[FOTA_SETTINGS_WATCHDOG_S], 30) &&
      between(0, settings[FOTA_SETTINGS_WATCHDOG_ALWAYS], 1) &&
      fota_load_le32(settings + FOTA_SETTINGS_CRC) == fota_crc32(settings, FOTA_SETTINGS_CRC);
  return good ? FOTA_OK : FOTA_SETTINGS;
}
