/* Text on the console of the sample application. */
#ifndef FOTA_SAMPLE_CONSOLE_H
#define FOTA_SAMPLE_CONSOLE_H

#include <stdint.h>

void console_put(const char *text);
void console_put_number(uint32_t number);
void console_put_hex(const uint8_t *bytes, uint32_t length);

#endif
