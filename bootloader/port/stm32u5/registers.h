/* STM32U575/U585 registers that this port uses (RM0456; names as in CMSIS), and nothing more.
 * TrustZone is off (OPTR.TZEN = 0): everything goes through the non-secure registers and addresses.
 */
#ifndef FOTA_STM32U5_REGISTERS_H
#define FOTA_STM32U5_REGISTERS_H

#define USART_BASE 0x40013800 /* USART1 */
#define RNG_BASE 0x420c0800
#define GPIO_BASE 0x42020000
#include "port/stm32/cells.h"

enum { CORE_MHZ = 16 };

#define FLASH_NSKEYR REG(0x40022008)
#define FLASH_OPTKEYR REG(0x40022010)
#define FLASH_NSSR REG(0x40022020)
#define FLASH_NSCR REG(0x40022028)
#define FLASH_ECCR REG(0x40022030)
#define FLASH_OPTR REG(0x40022040)
#define FLASH_WRP1AR REG(0x40022058) /* 1BR 5C, 2AR 68, 2BR 6C */
#define SR_ERRORS 0x20fau            /* every error flag, write 1 to clear */
#define SR_BUSY (BIT(16) | BIT(17))  /* BSY, WDW */
#define CR_PG BIT(0)
#define CR_PER BIT(1)
#define CR_PNB(n) ((uint32_t)(n) << 3)
#define CR_BKER BIT(11) /* bank 2: physical, whatever SWAP_BANK says */
#define CR_STRT BIT(16)
#define CR_OPTSTRT BIT(17)
#define CR_OBL_LAUNCH BIT(27)
#define CR_OPTLOCK BIT(30)
#define CR_LOCK BIT(31)
#define ECCR_ECCD BIT(31)
#define OPTR_SWAP_BANK BIT(20)
#define WRP_PAGES 0x007f007fu /* first page [6:0], last page [22:16]; none if first > last */
#define WRP_0_TO_1 0x00010000u
#define WRP_NONE 0x0000007fu

/* ARMv8-M MPU: first and last 32 bytes of a region */
#define MPU_RNR REG(0xe000ed98)
#define MPU_RLAR REG(0xe000eda0)
#define MPU_MAIR0 REG(0xe000edc0)
#define RBAR_RW_XN (1u << 1 | 1u)
#define MAIR_NORMAL 0x44u

#define ICACHE_CR REG(0x40030400)
#define ICACHE_SR REG(0x40030404)
#define ICACHE_EN BIT(0)
#define ICACHE_BUSY BIT(0)

#define RCC_CR REG(0x46020c00)
#define RCC_CFGR1 REG(0x46020c1c)
#define RCC_AHB2RSTR REG(0x46020c64)
#define RCC_APB1RSTR REG(0x46020c74)
#define RCC_APB2RSTR REG(0x46020c7c)
#define RCC_AHB2ENR REG(0x46020c8c)
#define RCC_APB1ENR REG(0x46020c9c)
#define RCC_APB2ENR REG(0x46020ca4)
#define RCC_CSR REG(0x46020cf4)
#define CR_HSI_ON (BIT(8) | BIT(12)) /* HSI16, and HSI48 for random numbers */
#define CR_HSI_READY (BIT(10) | BIT(13))
#define CFGR1_HSI16 1u /* SW: system clock; 0 = MSI */
#define AHB2_GPIOA BIT(0)
#define AHB2_GPIOB BIT(1)
#define AHB2_RNG BIT(18)
#define AHB2_SRAM (BIT(30) | BIT(31)) /* SRAM2 and SRAM3: on after reset */
#define APB1_I2C1 BIT(21)
#define APB2_USART1 BIT(14)
#define CSR_RMVF BIT(23)
/* in CSR bits 31..24 */
#define CAUSE_OBL BIT(1) /* option byte launch */
#define CAUSE_BOR BIT(3) /* power-up */

#endif
