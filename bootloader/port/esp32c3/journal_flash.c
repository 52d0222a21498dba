#include "port/esp32c3/journal_flash.h"

#include <stdbool.h>

#include "port/esp32c3/memory.h"
#include "port/esp32c3/rom.h"

#define IN_RAM __attribute__((section(".iram1.fota"), noinline)) /* ESP-IDF's name for it */

uint32_t fota_journal_place;
uint32_t fota_otadata_place;

/* mstatus.MIE, by their numbers: the compiler is told of no CSRs */
static inline uint32_t interrupts_off(void) {
  uint32_t saved;
  __asm__ volatile(".insn i 0x73, 7, %0, x8, 0x300" : "=r"(saved)::"memory"); /* csrrci */
  return saved & 8u;
}

static inline void interrupts_restore(uint32_t saved) {
  __asm__ volatile(".insn i 0x73, 2, x0, %0, 0x300" ::"r"(saved) : "memory"); /* csrrs */
}

IN_RAM fota_status_t fota_spi_read(uint32_t address, uint32_t *data, uint32_t length) {
  const uint32_t saved = interrupts_off();
  const uint32_t autoload = Cache_Suspend_ICache();
  const int32_t failed = esp_rom_spiflash_read(address, data, (int32_t)length);
  Cache_Resume_ICache(autoload);
  interrupts_restore(saved);
  return failed ? FOTA_FLASH_ECC : FOTA_OK;
}

/* Nothing here is write-protected: an address that one skipped instruction left behind would be the
 * loader's end. So place and length are looked at right before the ROM is called, in the registers
 * that are handed on, and handed on twice. */
#define BY_ROM                                                                                    \
  "ra", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", \
      "memory"

#define INLINE static inline __attribute__((always_inline)) /* flash is away meanwhile */

INLINE bool lies_in(uint32_t address, uint32_t length, uint32_t place) {
  const uint32_t offset = address - place;
  return place != 0 && offset <= 2 * PAGE_SIZE && length <= 2 * PAGE_SIZE - offset;
}

INLINE bool is_ours(uint32_t address, uint32_t length) {
  return lies_in(address, length, fota_journal_place) ||
         lies_in(address, length, fota_otadata_place);
}

INLINE int32_t rom_write(uint32_t address, const uint32_t *data, uint32_t length) {
  int32_t failed = -1;
  __asm__ volatile("" : "+r"(address), "+r"(length));
  if (!is_ours(address, length)) return failed;
  __asm__ volatile(
      "mv a0, %[address]\n\tmv a0, %[address]\n\tmv a1, %[data]\n\t"
      "mv a2, %[length]\n\tmv a2, %[length]\n\tcall esp_rom_spiflash_write\n\tmv %[failed], a0"
      : [failed] "=&r"(failed)
      : [address] "r"(address), [data] "r"(data), [length] "r"(length)
      : BY_ROM);
  return failed;
}

INLINE int32_t rom_erase(uint32_t sector) {
  int32_t failed = -1;
  __asm__ volatile("" : "+r"(sector));
  if (!is_ours(sector * PAGE_SIZE, PAGE_SIZE)) return failed;
  __asm__ volatile(
      "mv a0, %[sector]\n\tmv a0, %[sector]\n\t"
      "call esp_rom_spiflash_erase_sector\n\tmv %[failed], a0"
      : [failed] "=&r"(failed)
      : [sector] "r"(sector)
      : BY_ROM);
  return failed;
}

/* What the cache still holds of the sector is old afterwards. */
IN_RAM fota_status_t fota_spi_write(uint32_t address, const uint32_t *data, uint32_t length) {
  const uint32_t saved = interrupts_off();
  const uint32_t autoload = Cache_Suspend_ICache();
  int32_t failed = esp_rom_spiflash_unlock();
  if (!failed) failed = rom_write(address, data, length);
  Cache_Invalidate_ICache_All();
  Cache_Resume_ICache(autoload);
  interrupts_restore(saved);
  return failed ? FOTA_FLASH_PROGRAM : FOTA_OK;
}

IN_RAM fota_status_t fota_spi_erase(uint32_t address) {
  const uint32_t saved = interrupts_off();
  const uint32_t autoload = Cache_Suspend_ICache();
  int32_t failed = esp_rom_spiflash_unlock();
  if (!failed) failed = rom_erase(address / PAGE_SIZE);
  Cache_Invalidate_ICache_All();
  Cache_Resume_ICache(autoload);
  interrupts_restore(saved);
  return failed ? FOTA_FLASH_ERASE : FOTA_OK;
}

static uint32_t address_of(uint32_t offset) {
  return fota_journal_place + JOURNAL_OFFSET + offset / JOURNAL_PAGE * JOURNAL_STRIDE +
         offset % JOURNAL_PAGE;
}

static fota_status_t read(const void *context, uint32_t offset, void *data, uint32_t length) {
  (void)context;
  if (fota_journal_place == 0) return FOTA_FLASH_ECC;
  return fota_spi_read(address_of(offset), data, length);
}

static fota_status_t program(const void *context, uint32_t offset, const void *data,
                             uint32_t length) {
  (void)context;
  if (fota_journal_place == 0) return FOTA_FLASH_PROGRAM;
  return fota_spi_write(address_of(offset), data, length);
}

static fota_status_t erase(const void *context, uint32_t offset) {
  (void)context;
  if (fota_journal_place == 0) return FOTA_FLASH_ERASE;
  return fota_spi_erase(address_of(offset));
}

const fota_flash_t fota_journal_flash = {
    .page_size = JOURNAL_PAGE,
    .read = read,
    .program = program,
    .erase = erase,
};
