/* SHA-256 (FIPS 180-4). */
#ifndef FOTA_SHA256_H
#define FOTA_SHA256_H

#include <stdint.h>

enum { FOTA_SHA256_SIZE = 32, FOTA_SHA256_BLOCK = 64 };

typedef struct fota_sha256 {
  uint32_t state[8];
  uint32_t length; /* bytes so far; a slot is far below the 512 MiB this allows */
  uint8_t block[FOTA_SHA256_BLOCK];
} fota_sha256_t;

void fota_sha256_init(fota_sha256_t *ctx);
void fota_sha256_update(fota_sha256_t *ctx, const void *data, uint32_t length);
void fota_sha256_final(fota_sha256_t *ctx, uint8_t digest[FOTA_SHA256_SIZE]);

/* Compress `count` blocks into `state`. Resolved at link time: core/sha256_block.c in C, or a
 * port's own, such as port/armv7m/sha256_block.S. `data` needs no alignment. */
void fota_sha256_blocks(uint32_t state[8], const uint8_t *data, uint32_t count);

extern const uint32_t fota_sha256_k[64]; /* the round constants, for fota_sha256_blocks() */

#endif
