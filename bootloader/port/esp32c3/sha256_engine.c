/* fota_sha256_blocks() by the SHA engine: about 0.7 instructions per byte. The engine keeps its
 * state as the bytes of the digest stand in memory, so words are turned over on the way. It is
 * always told to go on from a state, never to begin: the first one comes from sha256.c as well. */
#include "port/esp32c3/registers.h"
#include "sha256.h"

static uint32_t turn(uint32_t x) {
  return x << 24 | (x & 0xff00u) << 8 | (x >> 8 & 0xff00u) | x >> 24;
}

static uint32_t load_le32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void wait(void) {
  while (SHA_BUSY != 0) {
  }
}

static void feed_bytes(const uint8_t *data) {
  for (uint32_t i = 0; i < 16; i++)
    SHA_MESSAGE[i] = load_le32(data + 4 * i);
}

static void feed_words(const uint32_t *words) {
  for (uint32_t i = 0; i < 16; i += 4) {
    SHA_MESSAGE[i] = words[i];
    SHA_MESSAGE[i + 1] = words[i + 1];
    SHA_MESSAGE[i + 2] = words[i + 2];
    SHA_MESSAGE[i + 3] = words[i + 3];
  }
}

void fota_sha256_blocks(uint32_t state[8], const uint8_t *data, uint32_t count) {
  SHA_MODE = SHA_MODE_256;
  for (uint32_t i = 0; i < 8; i++)
    SHA_STATE[i] = turn(state[i]);
  for (; count > 0; count--, data += FOTA_SHA256_BLOCK) {
    if ((uintptr_t)data % 4 == 0) {
      feed_words((const uint32_t *)(uintptr_t)data);
    } else {
      feed_bytes(data);
    }
    SHA_CONTINUE = 1;
    wait();
  }
  for (uint32_t i = 0; i < 8; i++)
    state[i] = turn(SHA_STATE[i]);
}
