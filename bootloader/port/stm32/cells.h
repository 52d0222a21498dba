/* What STM32 families share: the core's registers and the peripheral cells of the same version. A
 * port's registers.h says where they lie (USART_BASE, RNG_BASE, GPIO_BASE) and includes this. */
#ifndef FOTA_STM32_CELLS_H
#define FOTA_STM32_CELLS_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define BIT(n) (1u << (n))

#define GPIOA_MODER REG(GPIO_BASE + 0x000)
#define GPIOA_PUPDR REG(GPIO_BASE + 0x00c)
#define GPIOA_AFRL REG(GPIO_BASE + 0x020)
#define GPIOA_AFRH REG(GPIO_BASE + 0x024)
#define GPIOB_MODER REG(GPIO_BASE + 0x400)
#define GPIOB_OTYPER REG(GPIO_BASE + 0x404)
#define GPIOB_BSRR REG(GPIO_BASE + 0x418)
#define GPIOB_AFRH REG(GPIO_BASE + 0x424)

#define USART_CR1 REG(USART_BASE + 0x00)
#define USART_CR3 REG(USART_BASE + 0x08)
#define USART_BRR REG(USART_BASE + 0x0c)
#define USART_ISR REG(USART_BASE + 0x1c)
#define USART_RDR REG(USART_BASE + 0x24)
#define USART_TDR REG(USART_BASE + 0x28)
#define USART_UE BIT(0)
#define USART_RE BIT(2)
#define USART_TE BIT(3)
#define USART_RXNE BIT(5)
#define USART_TC BIT(6)
#define USART_TXE BIT(7)

#define I2C1_CR1 REG(0x40005400)
#define I2C1_CR2 REG(0x40005404)
#define I2C1_TIMINGR REG(0x40005410)
#define I2C1_ISR REG(0x40005418)
#define I2C1_ICR REG(0x4000541c)
#define I2C1_RXDR REG(0x40005424)
#define I2C1_TXDR REG(0x40005428)
#define I2C_PE BIT(0)
#define I2C_RD_WRN BIT(10)
#define I2C_START BIT(13)
#define I2C_AUTOEND BIT(25)
#define I2C_TXIS BIT(1)
#define I2C_RXNE BIT(2)
#define I2C_NACKF BIT(4)
#define I2C_STOPF BIT(5)
#define I2C_BERR BIT(8)
#define I2C_ARLO BIT(9)
#define I2C_BUSY BIT(15)
#define I2C_FLAGS 0x3f38u       /* every flag that ICR clears */
#define I2C_100_KHZ 0x30420f13u /* TIMINGR with a 16 MHz kernel clock */
#define I2C_400_KHZ 0x10320309u

#define RNG_CR REG(RNG_BASE + 0x00)
#define RNG_SR REG(RNG_BASE + 0x04)
#define RNG_DR REG(RNG_BASE + 0x08)
#define RNG_RNGEN BIT(2)
#define RNG_DRDY BIT(0)
#define RNG_FAULT (BIT(1) | BIT(2) | BIT(5) | BIT(6)) /* CECS, SECS, CEIS, SEIS */

#define IWDG_KR REG(0x40003000)
#define IWDG_PR REG(0x40003004)
#define IWDG_RLR REG(0x40003008)
#define IWDG_SR REG(0x4000300c)

#define SYST_CSR REG(0xe000e010)
#define SYST_RVR REG(0xe000e014)
#define SYST_CVR REG(0xe000e018)
#define SYST_ENABLE BIT(0)
#define SYST_ON 7u /* core clock, pend on zero, run */
#define SCB_ICSR REG(0xe000ed04)
#define SCB_VTOR REG(0xe000ed08)
#define SCB_AIRCR REG(0xe000ed0c)
#define SCB_DEMCR REG(0xe000edfc)
#define MPU_CTRL REG(0xe000ed94)
#define MPU_RBAR REG(0xe000ed9c)
#define MPU_ON 7u /* also in NMI and HardFault; what no region covers is as without MPU */
#define DWT_CTRL REG(0xe0001000)
#define DWT_CYCCNT REG(0xe0001004)
#define ICSR_PENDSTCLR BIT(25)
#define ICSR_PENDSTSET BIT(26)
#define AIRCR_RESET 0x05fa0004u
#define DEMCR_TRCENA BIT(24)

static inline void barrier(void) {
  __asm__ volatile("dsb\n\tisb" ::: "memory");
}

#endif
