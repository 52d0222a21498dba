/* Clocks and pins of the sample application's console, with the core at 4 MHz as after reset. */
#ifndef FOTA_STM32_SAMPLE_CONSOLE_H
#define FOTA_STM32_SAMPLE_CONSOLE_H

void console_start(void);

#endif
