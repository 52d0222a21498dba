/* fota_sha256_blocks() for ARMv7-M: about 33 instructions per byte. core/sha256_block.c says what
 * it computes. Three identities save instructions:
 *   S1(e) = ror(e ^ ror(e, 5) ^ ror(e, 19), 6), S0(a) = ror(a ^ ror(a, 11) ^ ror(a, 20), 2):
 *   the outer rotation rides on the addition;
 *   maj(a, b, c) = ((a ^ b) & (b ^ c)) ^ b, and this round's a ^ b is the next round's b ^ c.
 * Unaligned LDR is used on `data`; the core allows it after reset. */
  .syntax unified
  .cpu cortex-m4
  .thumb

/* Message word t into \w16 (which holds w[t-16]); r3 points at w[t-16] of the first of four.
 * \w15 receives w[t-15], which is the next word's w[t-16]. */
.macro WORD k, w16, w15, w2
  ldr   \w15, [r3, #(4 + 4 * \k)]
  ror   r0, \w15, #7
  eor   r0, r0, \w15, ror #18
  eor   r0, r0, \w15, lsr #3
  adds  \w16, \w16, r0
  ldr   r0, [r3, #(36 + 4 * \k)]
  adds  \w16, \w16, r0
  ror   r0, \w2, #17
  eor   r0, r0, \w2, ror #19
  eor   r0, r0, \w2, lsr #10
  adds  \w16, \w16, r0
  str   \w16, [r3, #(64 + 4 * \k)]
.endm

/* One round: r3 = words, r2 = constants, \x = b ^ c on entry, \y = a ^ b on exit. */
.macro ROUND k, a, b, c, d, e, f, g, h, x, y
  ldr   r0, [r3, #(4 * \k)]
  ldr   r1, [r2, #(4 * \k)]
  add   \h, r0
  add   \h, r1
  eor   r0, \f, \g
  and   r0, r0, \e
  eor   r0, r0, \g
  add   \h, r0
  eor   r0, \e, \e, ror #5
  eor   r0, r0, \e, ror #19
  add   \h, \h, r0, ror #6
  add   \d, \h
  eor   r0, \a, \a, ror #11
  eor   r0, r0, \a, ror #20
  add   \h, \h, r0, ror #2
  eor   \y, \a, \b
  and   \x, \x, \y
  eor   \x, \x, \b
  add   \h, \x
.endm

/* Stack: 64 words of schedule, then state, data, count as given. */
  .set STATE, 256
  .set DATA, 260
  .set COUNT, 264

  .section .text.fota_sha256_blocks, "ax", %progbits
  .global fota_sha256_blocks
  .type fota_sha256_blocks, %function
  .thumb_func
fota_sha256_blocks:
  push  {r0-r2, r4-r11, lr}
  sub   sp, sp, #256
.Lblock:
  ldr   r1, [sp, #DATA]
  mov   r3, sp
  add   r2, sp, #64
.Lload:
  .rept 4
  ldr   r0, [r1], #4
  rev   r0, r0
  str   r0, [r3], #4
  .endr
  cmp   r3, r2
  bne   .Lload
  str   r1, [sp, #DATA]

  mov   r3, sp
  add   r2, sp, #192
  ldr   r4, [r3]
  ldr   r6, [r3, #56]
  ldr   r7, [r3, #60]
.Lschedule:
  WORD  0, r4, r5, r6
  WORD  1, r5, r6, r7
  WORD  2, r6, r7, r4
  WORD  3, r7, r4, r5
  adds  r3, r3, #16
  cmp   r3, r2
  bne   .Lschedule

  ldr   r0, [sp, #STATE]
  ldm   r0, {r4-r11}
  ldr   r2, =fota_sha256_k
  mov   r3, sp
  eor   r12, r5, r6
.Lround:
  ROUND 0, r4, r5, r6, r7, r8, r9, r10, r11, r12, lr
  ROUND 1, r11, r4, r5, r6, r7, r8, r9, r10, lr, r12
  ROUND 2, r10, r11, r4, r5, r6, r7, r8, r9, r12, lr
  ROUND 3, r9, r10, r11, r4, r5, r6, r7, r8, lr, r12
  push  {r4-r7}        /* four rounds have moved everybody by four places: change the halves */
  mov   r4, r8
  mov   r5, r9
  mov   r6, r10
  mov   r7, r11
  pop   {r8-r11}
  adds  r2, r2, #16
  adds  r3, r3, #16
  add   r0, sp, #256
  cmp   r3, r0
  bne   .Lround

  ldr   r0, [sp, #STATE]
  ldm   r0, {r1-r3, r12}
  add   r4, r1
  add   r5, r2
  add   r6, r3
  add   r7, r12
  stmia r0!, {r4-r7}
  ldm   r0, {r1-r3, r12}
  add   r8, r1
  add   r9, r2
  add   r10, r3
  add   r11, r12
  stm   r0, {r8-r11}
  ldr   r0, [sp, #COUNT]
  subs  r0, r0, #1
  str   r0, [sp, #COUNT]
  bne   .Lblock

  str   r0, [sp, #32]   /* r0 = 0, where a skipped ADD would find words of the message: PC */
  add   sp, sp, #268
  pop   {r4-r11, pc}
  .pool
  .size fota_sha256_blocks, . - fota_sha256_blocks
