/* What Espressif's tools look for at the start of an application's image (SPEC 7.1): magic,
 * version, name. For applications whose build does not make it: ESP-IDF's does. */
#ifndef FOTA_ESP32C3_DESCRIPTOR_H
#define FOTA_ESP32C3_DESCRIPTOR_H

#include <stdint.h>

typedef struct fota_descriptor {
  uint32_t magic;
  uint32_t secure_version;
  uint32_t reserved[2];
  char version[32];
  char project[32];
  char time[16];
  char date[16];
  char idf[32];
  uint8_t elf_sha256[32];
  uint16_t block_least, block_most;
  uint8_t mmu_page; /* log2 */
  uint8_t unused[75];
} fota_descriptor_t;
_Static_assert(sizeof(fota_descriptor_t) == 256, "SPEC 7.1");

/* Once in a program; the linker script puts its section in front. */
#define FOTA_DESCRIPTOR(name, number)                                                            \
  __attribute__((section(".flash.appdesc"), used)) static const fota_descriptor_t descriptor = { \
      .magic = 0xabcd5432, .version = number, .project = name, .mmu_page = 16}

#endif
