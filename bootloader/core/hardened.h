/* Hardening against faults (a skipped instruction, a flipped register), in one place.
 *
 * Three decisions are hardened, and only these: the signature is accepted, the security counter and
 * the rollback floor (an image reaches it, it is raised), and the jump. The means, used nowhere
 * else:
 *
 *  1. Verdicts are data, not branches. fota_compare() computes FOTA_OK from the bytes compared; no
 *     branch can be skipped to turn "different" into "equal".
 *  2. Verdicts are added up (`proof`) *before* they are branched on: a skipped branch leaves a
 *     wrong sum behind, a skipped call leaves no verdict to add. The sum starts with the address
 *     of the bytes that were hashed, so it is good for that slot only.
 *  3. Every decision is taken twice from the evidence, not from the first result; the second time
 *     directly before the jump. The MACs that a decision rests on are computed anew each time, or
 *     a skipped call (the one that hashes the key) would let an adversary on the bus foretell one.
 *  4. Defaults refuse: no slot, a counter of all ones.
 *  5. The port compares the sum a last time, from RAM, against the bank that is really mapped.
 *  6. Until then nothing but the bootloader executes: the MPU forbids both slots and RAM. A skipped
 *     prologue or epilogue, whose return goes to a stale address, ends in a fault and a reset.
 *  7. The floor is counted up under the proof of the confirmed image only, which is computed anew,
 *     twice, before each count: a count too many is for ever. Each count comes after its own proven
 *     reading of the counter, in a function of its own, so that one fault adds one count at most;
 *     eight are a step.
 *
 *  8. Where a skip was seen to make a function take its return address from a buffer that others
 *     fill, the buffer is cleared or closed off: words of a message under SHA-256, packets, the
 *     answer to Verify. A journal record's reason cannot be an address of code. A second comparison
 *     works on a copy made before the first (fota_launder), or the compiler, which knows that they
 *     are equal by then, would leave nothing of it.
 *
 * What this does not cover: two well-placed faults in one boot, and what the campaign has not
 * skipped. tests/campaign/campaign_glitch.py says which instructions it skips, README what it still
 * finds. */
#ifndef FOTA_HARDENED_H
#define FOTA_HARDENED_H

#include <stdint.h>

#include "status.h"

/* Verdicts in a complete proof: class, two counters, key, floor, signature; and again class, key,
 * floor and signature before the jump. */
enum { FOTA_PROOF_VERDICTS = 10 };

/* The sum that opens the jump to the image whose header the bootloader reads at `base`. */
#define FOTA_PROOF(base) ((uint32_t)(base) + (uint32_t)FOTA_PROOF_VERDICTS * (uint32_t)FOTA_OK)

/* The same value, about which the compiler knows nothing any more: a second check of it stays. */
static inline uint32_t fota_launder(uint32_t value) {
  __asm__ volatile("" : "+r"(value));
  return value;
}

/* Add a verdict to the proof, then leave unless it is FOTA_OK. The order matters (2). */
#define FOTA_PROVE(proof, expr)                         \
  do {                                                  \
    const fota_status_t status_ = fota_launder((expr)); \
    (proof) += status_;                                 \
    if (status_ != FOTA_OK) return status_;             \
  } while (0)

/* `verdict` if it is FOTA_OK, else the more telling `otherwise`. Never makes a constant FOTA_OK. */
static inline fota_status_t fota_verdict_or(fota_status_t verdict, fota_status_t otherwise) {
  fota_status_t result = fota_launder(verdict);
  if (verdict != FOTA_OK) result = otherwise;
  return result;
}

/* FOTA_OK if the `length` bytes are equal, another value if not. Constant time. */
FOTA_MUST_USE fota_status_t fota_compare(const uint8_t *a, const uint8_t *b, uint32_t length);

#endif
