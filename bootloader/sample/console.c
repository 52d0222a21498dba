#include "sample/console.h"

#include "registers.h"

static void put_byte(char byte) {
  while ((USART_ISR & USART_TXE) == 0) {
  }
  USART_TDR = (uint8_t)byte;
}

void console_put(const char *text) {
  for (; *text != '\0'; text++)
    put_byte(*text);
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
    put_byte(digits[bytes[i] >> 4]);
    put_byte(digits[bytes[i] & 15]);
  }
}

int console_get(void) {
  return USART_ISR & USART_RXNE ? (int)(USART_RDR & 0xff) : -1;
}
