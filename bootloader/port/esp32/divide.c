/* Division, which the LX106 has no instruction for, and its libgcc no function. */
#include <stdint.h>

uint32_t __udivsi3(uint32_t n, uint32_t d);
uint32_t __umodsi3(uint32_t n, uint32_t d);

/* Bit by bit; by zero all ones and `n`. */
static uint32_t divide(uint32_t n, uint32_t d, uint32_t *rest) {
  uint32_t quotient = 0;
  *rest = 0;
  for (uint32_t bit = 32; bit-- > 0;) {
    const uint32_t out = *rest >> 31;
    *rest = *rest << 1 | (n >> bit & 1);
    if (out == 0 && *rest < d) continue;
    *rest -= d;
    quotient |= UINT32_C(1) << bit;
  }
  return quotient;
}

uint32_t __udivsi3(uint32_t n, uint32_t d) {
  uint32_t rest;
  return divide(n, d, &rest);
}

uint32_t __umodsi3(uint32_t n, uint32_t d) {
  uint32_t rest;
  (void)divide(n, d, &rest);
  return rest;
}
