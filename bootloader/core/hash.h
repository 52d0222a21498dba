/* SHA-256 of what lies in memory, however much it is. */
#ifndef FOTA_HASH_H
#define FOTA_HASH_H

#include <stdint.h>

/* Digest of `length` bytes, 1 or more. Feeds the watchdog before each stretch of 64 KiB, so that a
 * slot of any size takes no longer between two feeds than the slowest port needs for one stretch.
 */
void fota_hash(const uint8_t *message, uint32_t length, uint8_t digest[32]);

#endif
