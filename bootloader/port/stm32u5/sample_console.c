/* STM32U575/U585: the sample application's console, USART1 on PA9 and PA10. */
#include "port/stm32/sample_console.h"

#include "port/stm32u5/registers.h"

enum { BAUD_115200 = 35 /* 4 MHz / 115200 */ };

void console_start(void) {
  RCC_AHB2ENR |= AHB2_GPIOA;
  RCC_APB2ENR |= APB2_USART1;
  (void)RCC_APB2ENR;
  GPIOA_AFRH = 7u << 4 | 7u << 8; /* PA9, PA10 */
  GPIOA_MODER = (0xabffffffu & ~(15u << 18)) | 10u << 18;
  USART_BRR = BAUD_115200;
  USART_CR1 = USART_UE | USART_TE | USART_RE;
}
