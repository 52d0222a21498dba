/* Where the mask ROM starts us, and where traps go. .data has its values: the ROM loaded them. */
  .option arch, +zicsr
  .section .text.startup, "ax"
  .balign 256             /* a table of vectors; nothing is enabled, so only the first is reached */
  .type fota_trap, @function
fota_trap:
  j     fota_chip_restart
  .size fota_trap, . - fota_trap

  .global fota_reset
  .type fota_reset, @function
fota_reset:
  csrci mstatus, 8        /* no interrupts; they only end a WFI */
  la    sp, linker_stack_top
  la    t0, fota_trap + 1 /* vectored: the core knows nothing else */
  csrw  mtvec, t0
  la    t0, linker_bss_start
  la    t1, linker_bss_end
1:
  sw    zero, 0(t0)
  addi  t0, t0, 4
  bltu  t0, t1, 1b
  j     fota_start
  .size fota_reset, . - fota_reset

/* fota_enter(entry, stack, vectors): the jump. An application finds what the ROM would leave. */
  .global fota_enter
  .type fota_enter, @function
fota_enter:
  csrw  mtvec, a2
  mv    sp, a1
  li    gp, 0
  li    ra, 0
  jr    a0
  j     fota_chip_restart
  .size fota_enter, . - fota_enter
