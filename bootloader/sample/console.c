#include "sample/console.h"

#include "port/stm32l4/registers.h"

enum { BAUD_115200 = 35 /* 4 MHz / 115200 */ };

void console_start(void) {
  RCC_AHB2ENR |= AHB2_GPIOA;
  RCC_APB1ENR |= APB1_USART2;
  (void)RCC_APB1ENR;
  GPIOA_AFRL = 7u << 8 | 7u << 12; /* PA2, PA3 */
  GPIOA_MODER = (0xabffffffu & ~(15u << 4)) | 10u << 4;
  USART2_BRR = BAUD_115200;
  USART2_CR1 = USART_UE | USART_TE | USART_RE;
}

static void put_byte(char byte) {
  while ((USART2_ISR & USART_TXE) == 0) {
  }
  USART2_TDR = (uint8_t)byte;
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
  return USART2_ISR & USART_RXNE ? (int)(USART2_RDR & 0xff) : -1;
}
