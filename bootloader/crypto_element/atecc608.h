/* ATECC608 packets: how this element says what element.h asks for. */
#ifndef FOTA_ATECC608_H
#define FOTA_ATECC608_H

#include <stdint.h>

#include "status.h"

/* A command's four parameter bytes as they go over the bus and into MACs: opcode, mode, param 2. */
#define ATECC_COMMAND(opcode, mode, param2) \
  ((uint32_t)(opcode) | (uint32_t)(mode) << 8 | (uint32_t)(param2) << 16)

/* Bytes of data that go with a command, and of the answer if all is well. */
#define ATECC_SIZES(data, answer) ((uint32_t)(data) << 8 | (uint32_t)(answer))

enum {
  ATECC_SLOT_MAC_KEY = 4,
  ATECC_SLOT_IO_KEY = 6,
  ATECC_SLOT_ROOT_A = 15,
  ATECC_SLOT_ROOT_B = 14,
};

/* CRC-16, polynomial 0x8005, bits of each byte LSB first, register shifted left. */
uint32_t atecc_crc(const uint8_t *data, uint32_t length);

/* Sends a command with its data to the open element, and waits for the answer. `sizes`:
 * ATECC_SIZES. */
FOTA_MUST_USE fota_status_t atecc_run(uint32_t command, uint32_t sizes, const uint8_t *data,
                                      uint8_t *answer);

#endif
