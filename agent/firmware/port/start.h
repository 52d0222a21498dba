/* From the chip's start to the program. */
#ifndef FOTA_FIRMWARE_START_H
#define FOTA_FIRMWARE_START_H

#include <stdnoreturn.h>

/* Clocks, console, time, the element's bus. The bootloader has left the chip as after a reset. */
void fota_firmware_start(void);

/* Runs the program, on the stack of the linker script; memory is set up. */
noreturn void fota_run(void);

#endif
