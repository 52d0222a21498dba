#include "port/esp32c3/places.h"

#include <string.h>

#include "bytes.h"
#include "layout.h"
#include "port/esp32c3/journal_flash.h"
#include "port/esp32c3/memory.h"
#include "port/esp32c3/registers.h"
#include "port/esp32c3/rom.h"
#include "settings.h"

/* fota_layout and fota_port_settings, which the linker script names so: they are found here, and
 * the core does not change them. Each byte of the settings is read from flash once in a boot. */
fota_layout_t fota_layout_found;
uint8_t fota_settings_copy[FOTA_SETTINGS_SIZE];
fota_places_t fota_places;

enum { MIB = 1 << 20, SIZE_FIELD = 3, SIZE_LARGEST = 4 };
#define ROM_FLASH_CHIP (*(const uint32_t *const *)0x3fcdfff0) /* id, size, block, ... */

void fota_md5(const uint8_t *data, uint32_t length, uint8_t digest[16]) {
  md5_t md5;
  MD5Init(&md5);
  MD5Update(&md5, data, length);
  MD5Final(digest, &md5);
}

/* Maps flash as data. Code stays shut: nothing executes but what is in RAM (SHUT_IBUS), until the
 * jump. */
static void map(uint32_t address, uint32_t flash, uint32_t size) {
  const uint32_t autoload = Cache_Disable_ICache();
  Cache_Invalidate_ICache_All();
  Cache_Dbus_MMU_Set(0, address, flash, MMU_PAGE / 1024, (size + MMU_PAGE - 1) / MMU_PAGE, 0);
  Cache_Enable_ICache(autoload);
  EXTMEM_CTRL1 = CTRL1_SHUT_IBUS;
}

/* As the header of the image in front says: this very bootloader's. */
static uint32_t flash_size(const uint8_t *header) {
  const uint32_t field = header[SIZE_FIELD] >> 4;
  return (uint32_t)MIB << (field < SIZE_LARGEST ? field : SIZE_LARGEST);
}

fota_status_t fota_places_find(void) {
  const uint8_t *flash = (const uint8_t *)WINDOW;
  Cache_MMU_Init();
  map(WINDOW, 0, MMU_PAGE);
  const uint32_t size = flash_size(flash);
  /* the ROM knows 2 MiB, and refuses what lies above */
  (void)esp_rom_spiflash_config_param(ROM_FLASH_CHIP[0], size, 0x10000, PAGE_SIZE, 256, 0xffff);
  memcpy(fota_settings_copy, flash + SETTINGS_OFFSET, sizeof fota_settings_copy);
  fota_status_t status = fota_partitions_parse(flash + TABLE_OFFSET, size, &fota_places);
  if (status != FOTA_OK && fota_places_copy(fota_settings_copy, size, &fota_places) != FOTA_OK) {
    fota_places = (fota_places_t){0};
  }
  fota_journal_place = fota_places.store;
  fota_otadata_place = fota_places.otadata;
  const uint32_t *sizes = fota_places.slot_size;
  fota_layout_found.slot[0] = (const uint8_t *)SLOT_ADDRESS;
  fota_layout_found.slot[1] = (const uint8_t *)INACTIVE_SLOT_ADDRESS;
  fota_layout_found.slot_size = sizes[0] < sizes[1] ? sizes[0] : sizes[1];
  if (fota_layout_found.slot_size != 0) {
    map(SLOT_ADDRESS, fota_places.slot[0], sizes[0]);
    map(INACTIVE_SLOT_ADDRESS, fota_places.slot[1], sizes[1]);
  }
  return status;
}
