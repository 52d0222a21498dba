/* SPI flash by ROM calls, and the journal in it; used by the bootloader and, linked again, by
 * applications. */
#ifndef FOTA_ESP32C3_JOURNAL_FLASH_H
#define FOTA_ESP32C3_JOURNAL_FLASH_H

#include "flash.h"

extern const fota_flash_t fota_journal_flash;

/* Offset in flash of the partition `fota`; 0 = unknown, and then the journal cannot be read. */
extern uint32_t fota_journal_place;

/* Offset of the OTA data; 0 = unknown, and in an application, which has its own way to them. One
 * that writes elsewhere by this driver says here where, before each call: the agent's firmware. */
extern uint32_t fota_otadata_place;

/* The journal as an application sees it that runs in slot `running`: the boot report says where it
 * is. */
const fota_flash_t *fota_journal_of(uint8_t running);

/* Addresses are offsets in flash; `length` is a multiple of 4. With the cache suspended and
 * interrupts off, so the code is in RAM. FOTA_FLASH_PROGRAM and FOTA_FLASH_ERASE if the ROM says
 * no, or it is neither in the journal's two sectors nor in those of the OTA data. */
FOTA_MUST_USE fota_status_t fota_spi_read(uint32_t address, uint32_t *data, uint32_t length);
FOTA_MUST_USE fota_status_t fota_spi_write(uint32_t address, const uint32_t *data, uint32_t length);
FOTA_MUST_USE fota_status_t fota_spi_erase(uint32_t address); /* the sector of 4096 bytes there */

#endif
