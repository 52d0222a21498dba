/* A proof: main() calls the code with every input up to the bound that its first lines state.
 * `Unwind` is what CBMC is told; it reports a loop that would need more. */
#ifndef PROVE_H
#define PROVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ANY(type) nondet_##type()
uint8_t nondet_uint8_t(void);
uint16_t nondet_uint16_t(void);
uint32_t nondet_uint32_t(void);
bool nondet_bool(void);

#define ASSUME(condition) __CPROVER_assume(condition)
#define PROVE(condition, claim) __CPROVER_assert(condition, claim)

/* `size` bytes of any content, and not one more. */
static inline uint8_t *any_bytes(size_t size) {
  uint8_t *bytes = malloc(size);
  __CPROVER_assume(bytes != NULL);
  return bytes;
}

#endif
