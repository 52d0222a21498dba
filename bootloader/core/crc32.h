/* CRC-32/ISO-HDLC, as in zlib. */
#ifndef FOTA_CRC32_H
#define FOTA_CRC32_H

#include <stdint.h>

uint32_t fota_crc32(const void *data, uint32_t length);

#endif
