/* The portable compression function. A port may link a faster one instead. */
#include "sha256.h"

static uint32_t rotate(uint32_t x, unsigned n) {
  return x >> n | x << (32 - n);
}

static uint32_t load_be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void schedule(uint32_t w[64], const uint8_t *data) {
  for (int t = 0; t < 16; t++)
    w[t] = load_be32(data + 4 * t);
  for (int t = 16; t < 64; t++) {
    const uint32_t x = w[t - 15];
    const uint32_t y = w[t - 2];
    w[t] = w[t - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[t - 7] +
           (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
  }
}

static void compress(uint32_t state[8], const uint8_t *data) {
  uint32_t w[64];
  uint32_t v[8]; /* a..h */
  schedule(w, data);
  for (int i = 0; i < 8; i++)
    v[i] = state[i];
  for (int t = 0; t < 64; t++) {
    const uint32_t a = v[0], e = v[4];
    const uint32_t choose = (e & v[5]) ^ (~e & v[6]);
    const uint32_t majority = (a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]);
    const uint32_t t1 =
        v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choose + fota_sha256_k[t] + w[t];
    const uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
    for (int i = 7; i > 0; i--)
      v[i] = v[i - 1];
    v[4] += t1;
    v[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++)
    state[i] += v[i];
}

void fota_sha256_blocks(uint32_t state[8], const uint8_t *data, uint32_t count) {
  for (; count > 0; count--, data += FOTA_SHA256_BLOCK)
    compress(state, data);
}
