#include "sha256.h"

#include <string.h>

static const uint32_t initial_state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

const uint32_t fota_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void store_be32(uint8_t *p, uint32_t value) {
  for (int i = 3; i >= 0; i--) {
    p[i] = (uint8_t)value;
    value >>= 8;
  }
}

void fota_sha256_init(fota_sha256_t *ctx) {
  memcpy(ctx->state, initial_state, sizeof ctx->state);
  ctx->length = 0;
}

void fota_sha256_update(fota_sha256_t *ctx, const void *data, uint32_t length) {
  const uint8_t *p = data;
  while (length > 0) {
    const uint32_t used = ctx->length % FOTA_SHA256_BLOCK;
    uint32_t take = FOTA_SHA256_BLOCK - used;
    if (used == 0 && length >= FOTA_SHA256_BLOCK) { /* whole blocks straight from the source */
      take = length - length % FOTA_SHA256_BLOCK;
      fota_sha256_blocks(ctx->state, p, take / FOTA_SHA256_BLOCK);
    } else {
      if (take > length) take = length;
      memcpy(ctx->block + used, p, take);
      if (used + take == FOTA_SHA256_BLOCK) fota_sha256_blocks(ctx->state, ctx->block, 1);
    }
    ctx->length += take;
    p += take;
    length -= take;
  }
}

void fota_sha256_final(fota_sha256_t *ctx, uint8_t digest[FOTA_SHA256_SIZE]) {
  uint32_t used = ctx->length % FOTA_SHA256_BLOCK;
  ctx->block[used++] = 0x80;
  if (used > FOTA_SHA256_BLOCK - 8) { /* no room for the length: one block more */
    memset(ctx->block + used, 0, FOTA_SHA256_BLOCK - used);
    fota_sha256_blocks(ctx->state, ctx->block, 1);
    used = 0;
  }
  memset(ctx->block + used, 0, FOTA_SHA256_BLOCK - 4 - used);
  store_be32(ctx->block + FOTA_SHA256_BLOCK - 4, ctx->length << 3);
  fota_sha256_blocks(ctx->state, ctx->block, 1);
  for (int i = 0; i < 8; i++)
    store_be32(digest + 4 * i, ctx->state[i]);
}
