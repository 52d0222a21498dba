#include "sample/console.h"

#include "sample/board.h"

void console_put(const char *text) {
  for (; *text != '\0'; text++)
    board_put(*text);
}

void console_put_number(uint32_t number) {
  char text[11];
  char *p = text + sizeof text - 1;
  *p = '\0';
  do {
    *--p = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  console_put(p);
}

void console_put_hex(const uint8_t *bytes, uint32_t length) {
  static const char digits[] = "0123456789abcdef";
  for (uint32_t i = 0; i < length; i++) {
    board_put(digits[bytes[i] >> 4]);
    board_put(digits[bytes[i] & 15]);
  }
}
