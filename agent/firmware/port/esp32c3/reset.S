/* Where the bootloader starts the firmware. Loaded segments are in place. */
  .option arch, +zicsr
  .section .iram1.vectors, "ax"
  .balign 256
  .type fota_trap, @function
fota_trap:
  tail  fota_chip_restart /* two instructions, which only the first vector has room for: none else is reached */
  .size fota_trap, . - fota_trap

  .section .text.fota_reset, "ax"
  .global fota_reset
  .type fota_reset, @function
fota_reset:
  csrci mstatus, 8        /* no interrupts; they only end a WFI */
  la    sp, linker_stack_top
  la    t0, fota_trap + 1
  csrw  mtvec, t0
  j     fota_begin
  .size fota_reset, . - fota_reset
