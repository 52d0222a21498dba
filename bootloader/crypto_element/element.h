/* A crypto element, as the bootloader needs it: who answers is proved by MACs, never believed.
 *
 * One session: open, any of the others, close. Every function is bounded in time. A status of
 * module CE (or RN) tells of the element or the bus and is never a verdict on an image. */
#ifndef FOTA_ELEMENT_H
#define FOTA_ELEMENT_H

#include <stdint.h>

#include "status.h"

enum { FOTA_COUNTER_FLOOR = 0, FOTA_COUNTER_EPOCH = 1 };

/* What a claim of the element rests on: our nonce and its MAC over claim and nonce. */
typedef struct fota_evidence {
  uint8_t nonce[32];
  uint8_t mac[32];
} fota_evidence_t;

/* What is to be verified. */
typedef struct fota_claim {
  uint32_t root; /* the locked public key: 0 = root A, 1 = root B */
  uint8_t digest[32];
  const uint8_t *rs; /* 64 bytes, raw r || s */
} fota_claim_t;

/* Wakes the element that the settings page pairs with. */
FOTA_MUST_USE fota_status_t fota_element_open(void);

/* Puts it to sleep; what it had in SRAM is gone. */
void fota_element_close(void);

/* Reads a monotonic counter with proof of freshness and origin; `*value` counts only with FOTA_OK.
 */
FOTA_MUST_USE fota_status_t fota_element_counter(uint32_t counter, uint32_t *value);

/* Adds one to a counter. Not authenticated: read the counter afterwards. */
FOTA_MUST_USE fota_status_t fota_element_increment(uint32_t counter);

/* Has the signature verified. FOTA_IMAGE_SIGNATURE if it is bad; collects the evidence if not. */
FOTA_MUST_USE fota_status_t fota_element_verify(const fota_claim_t *claim,
                                                fota_evidence_t *evidence);

/* Computes from scratch whether the evidence proves the claim. FOTA_ELEMENT_FORGED if not. */
FOTA_MUST_USE fota_status_t fota_element_proves(const fota_claim_t *claim,
                                                const fota_evidence_t *evidence);

#endif
