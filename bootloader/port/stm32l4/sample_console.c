/* STM32L476: the sample application's console, USART2 on PA2 and PA3. */
#include "port/stm32/sample_console.h"

#include "port/stm32l4/registers.h"

enum { BAUD_115200 = 35 /* 4 MHz / 115200 */ };

void console_start(void) {
  RCC_AHB2ENR |= AHB2_GPIOA;
  RCC_APB1ENR |= APB1_USART2;
  (void)RCC_APB1ENR;
  GPIOA_AFRL = 7u << 8 | 7u << 12; /* PA2, PA3 */
  GPIOA_MODER = (0xabffffffu & ~(15u << 4)) | 10u << 4;
  USART_BRR = BAUD_115200;
  USART_CR1 = USART_UE | USART_TE | USART_RE;
}
