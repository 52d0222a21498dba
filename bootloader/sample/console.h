/* The console of the sample application, 115200 baud with the core at 4 MHz. */
#ifndef FOTA_SAMPLE_CONSOLE_H
#define FOTA_SAMPLE_CONSOLE_H

#include <stdint.h>

void console_start(void); /* the port's: clocks, pins, baud rate */
void console_put(const char *text);
void console_put_number(uint32_t number);
void console_put_hex(const uint8_t *bytes, uint32_t length);
int console_get(void); /* the next byte received, or -1 */

#endif
