/* Functions of the mask ROM, at the addresses of rom.ld. */
#ifndef FOTA_ESP32C3_ROM_H
#define FOTA_ESP32C3_ROM_H

#include <stdint.h>

void uart_tx_wait_idle(uint32_t uart);
void uart_div_modify(uint32_t uart, uint32_t sixteenths);
void ets_update_cpu_frequency(uint32_t mhz);
void rom_i2c_writeReg_Mask(uint32_t block, uint32_t host, uint32_t reg, uint32_t msb, uint32_t lsb,
                           uint32_t data);

/* 0 = done. The ROM takes the flash for 2 MiB until it is told otherwise, and refuses what lies
 * above. Addresses are offsets in flash; lengths are multiples of 4. */
int32_t esp_rom_spiflash_config_param(uint32_t id, uint32_t size, uint32_t block, uint32_t sector,
                                      uint32_t page, uint32_t status_mask);
int32_t esp_rom_spiflash_unlock(void);
int32_t esp_rom_spiflash_erase_sector(uint32_t sector);
int32_t esp_rom_spiflash_write(uint32_t address, const uint32_t *data, int32_t length);
int32_t esp_rom_spiflash_read(uint32_t address, uint32_t *data, int32_t length);

void Cache_Invalidate_ICache_All(void);
uint32_t Cache_Disable_ICache(void);
void Cache_Enable_ICache(uint32_t autoload);
uint32_t Cache_Suspend_ICache(void);
void Cache_Resume_ICache(uint32_t autoload);
void Cache_MMU_Init(void);
/* Maps `pages` pages of `size_kib` KiB; `fixed` would map all of them to the same one. */
int32_t Cache_Dbus_MMU_Set(uint32_t external, uint32_t address, uint32_t flash, uint32_t size_kib,
                           uint32_t pages, uint32_t fixed);

typedef struct md5 {
  uint32_t words[22];
} md5_t;
void MD5Init(md5_t *md5);
void MD5Update(md5_t *md5, const uint8_t *data, uint32_t length);
void MD5Final(uint8_t digest[16], md5_t *md5);

#endif
