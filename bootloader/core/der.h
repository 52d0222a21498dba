/* Strict DER of an ECDSA-P256 signature. */
#ifndef FOTA_DER_H
#define FOTA_DER_H

#include <stdint.h>

#include "status.h"

/* Writes r || s (32 bytes each, big endian) of SEQUENCE { INTEGER r, INTEGER s }.
 *
 * Exactly one encoding of a pair is accepted: minimal, positive, at most 256 bits each, nothing
 * after it. FOTA_IMAGE_DER otherwise. The range 1..n-1 is the verifier's to check. */
FOTA_MUST_USE fota_status_t fota_der_signature(const uint8_t *der, uint32_t length, uint8_t rs[64]);

extern const uint8_t fota_p256_order[32]; /* big endian; r and s are below it, and not zero */

#endif
