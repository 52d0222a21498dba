/* Where the bootloader starts the sample application. Loaded segments are in place. */
  .option arch, +zicsr
  .section .iram1.vectors, "ax"
  .balign 256
  .type app_trap, @function
app_trap:
  tail  board_restart   /* two instructions, which only the first vector has room for: none else is reached */
  .size app_trap, . - app_trap

  .section .text.app_reset, "ax"
  .global app_reset
  .type app_reset, @function
app_reset:
  csrci mstatus, 8
  la    sp, linker_stack_top
  la    t0, app_trap + 1
  csrw  mtvec, t0
  j     app_start
  .size app_reset, . - app_reset
