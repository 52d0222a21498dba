#include "hash.h"

#include "port.h"
#include "sha256.h"

enum { STRETCH = 65536 };

/* One index for what was read and for what is left: a stretch that is not counted is read twice,
 * and makes another digest. */
void fota_hash(const uint8_t *message, uint32_t length, uint8_t digest[32]) {
  fota_sha256_t sha;
  fota_sha256_init(&sha);
  for (uint32_t done = 0; done < length;) {
    const uint32_t left = length - done;
    const uint32_t part = left < STRETCH ? left : STRETCH;
    fota_port_feed();
    fota_sha256_update(&sha, message + done, part);
    done += part;
  }
  fota_sha256_final(&sha, digest);
}
