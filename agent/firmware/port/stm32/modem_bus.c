/* The modem on the external bus, at FMC bank 1. */
#include <string.h>

#include "modem.h"
#include "registers.h"

#define REGISTER(reg) REG(0x60000000 + (reg))

uint32_t fota_modem_get(uint32_t reg) {
  return REGISTER(reg);
}

void fota_modem_set(uint32_t reg, uint32_t value) {
  REGISTER(reg) = value;
}

void fota_modem_push(const uint8_t *from, size_t length) {
  REGISTER(MODEM_LENGTH) = length;
  for (size_t at = 0; at < length; at += 4) {
    uint32_t word = 0;
    memcpy(&word, from + at, length - at < 4 ? length - at : 4);
    REGISTER(MODEM_DATA) = word;
  }
}

void fota_modem_pull(uint8_t *to, size_t length) {
  REGISTER(MODEM_LENGTH) = length;
  for (size_t at = 0; at < length; at += 4) {
    const uint32_t word = REGISTER(MODEM_DATA);
    memcpy(to + at, &word, length - at < 4 ? length - at : 4);
  }
}
