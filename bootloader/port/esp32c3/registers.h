/* ESP32-C3 registers that this port uses (names as in Espressif's manual), and nothing more. */
#ifndef FOTA_ESP32C3_REGISTERS_H
#define FOTA_ESP32C3_REGISTERS_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define BIT(n) (1u << (n))

enum { CORE_MHZ = 80, XTAL_HZ = 40000000, TIMER_MHZ = 16, SLOW_HZ = 136000 };

/* real-time controller: reset, watchdogs */
#define RTC_OPTIONS0 REG(0x60008000)
#define OPTIONS0_RESET BIT(31)
#define RTC_ANA_CONF REG(0x60008034)
#define ANA_CONF_SAR_I2C BIT(22)
#define RTC_RESET_STATE REG(0x60008038)
#define RTC_WDT_CONFIG0 REG(0x60008090)
#define RTC_WDT_CONFIG1 REG(0x60008094)
#define RTC_WDT_FEED REG(0x600080a4)
#define RTC_WDT_PROTECT REG(0x600080a8)
#define WDT_KEY 0x50d83aa1u
#define WDT_FEED_NOW BIT(31)
/* on; stage 0 resets system and RTC; long reset pulses; no flash boot mode */
#define RTC_WDT_ON 0xc007ee00u
#define RTC_SWD_CONF REG(0x600080ac)
#define RTC_SWD_PROTECT REG(0x600080b0)
#define SWD_KEY 0x8f1d312au
#define SWD_AUTO_FEED BIT(31)
#define RTC_STORE4 REG(0x600080b8) /* crystal, MHz, in both halves */
#define RTC_STORE5 REG(0x600080bc) /* peripheral bus, Hz >> 12, in both halves */
#define RTC_SENSOR_CTRL REG(0x6000811c)
#define SENSOR_XPD_SAR (3u << 30)

#define TIMG0_WDT_CONFIG0 REG(0x6001f048)
#define TIMG0_WDT_PROTECT REG(0x6001f064)
#define TIMG_UPDATE BIT(22)
#define TIMG_FLASH_BOOT BIT(14)

/* clocks */
#define SYSTEM_CPU_PER_CONF REG(0x600c0008)
#define CPU_PER_PLL_480 BIT(2)
#define SYSTEM_CLK_EN0 REG(0x600c0010)
#define SYSTEM_CLK_EN1 REG(0x600c0014)
#define SYSTEM_RST_EN0 REG(0x600c0018)
#define SYSTEM_RST_EN1 REG(0x600c001c)
#define EN0_I2C0 BIT(7)
#define EN0_SARADC BIT(28)
#define EN1_SHA BIT(2)
#define EN1_DS_HMAC (BIT(4) | BIT(5))
#define SYSTEM_SYSCLK_CONF REG(0x600c0058)
#define SYSCLK_SEL (3u << 10)
#define SYSCLK_PLL (1u << 10)

/* cache and MMU */
#define EXTMEM_CTRL1 REG(0x600c4004)
#define CTRL1_SHUT_IBUS BIT(0)
#define MMU_TABLE(entry) REG(0x600c5000 + 4 * (entry))

/* system timer, unit 0 and its first comparator */
#define SYSTIMER_CONF REG(0x60023000)
#define SYSTIMER_TARGET0_ON BIT(24)
#define SYSTIMER_UNIT0_OP REG(0x60023004)
#define SYSTIMER_UPDATE BIT(30)
#define SYSTIMER_VALID BIT(29)
#define SYSTIMER_TARGET0_HI REG(0x6002301c)
#define SYSTIMER_TARGET0_LO REG(0x60023020)
#define SYSTIMER_TARGET0_CONF REG(0x60023034)
#define SYSTIMER_VALUE_HI REG(0x60023040)
#define SYSTIMER_VALUE_LO REG(0x60023044)
#define SYSTIMER_COMP0_LOAD REG(0x60023050)
#define SYSTIMER_INT_ENA REG(0x60023064)
#define SYSTIMER_INT_RAW REG(0x60023068)
#define SYSTIMER_INT_CLR REG(0x6002306c)

/* interrupt matrix: source 37 is the comparator */
#define INT_MAP_SYSTIMER0 REG(0x600c2094)
#define INT_ENABLE REG(0x600c2104)
#define INT_PRIORITY(line) REG(0x600c2114 + 4 * (line))
#define INT_THRESHOLD REG(0x600c2194)

/* console */
#define UART0_FIFO REG(0x60000000)
#define UART0_STATUS REG(0x6000001c)
#define UART0_CLK_CONF REG(0x60000078)
#define UART_TX_COUNT (0x3ffu << 16)
#define UART_RX_COUNT 0x3ffu
#define UART_TX_ROOM (120u << 16) /* fewer than so many bytes wait in its 128 */
#define UART_CLOCK_XTAL (3u << 20)
#define USB_EP1 REG(0x60043000)
#define USB_EP1_CONF REG(0x60043004)
#define USB_WRITE_DONE BIT(0)
#define USB_IN_FREE BIT(1)

/* I2C0 */
#define I2C0_SCL_LOW REG(0x60013000)
#define I2C0_CTR REG(0x60013004)
#define I2C0_TIMEOUT REG(0x6001300c)
#define I2C0_FIFO_CONF REG(0x60013018)
#define I2C0_DATA REG(0x6001301c)
#define I2C0_INT_RAW REG(0x60013020)
#define I2C0_INT_CLR REG(0x60013024)
#define I2C0_SDA_HOLD REG(0x60013030)
#define I2C0_SDA_SAMPLE REG(0x60013034)
#define I2C0_SCL_HIGH REG(0x60013038)
#define I2C0_START_HOLD REG(0x60013040)
#define I2C0_RSTART_SETUP REG(0x60013044)
#define I2C0_STOP_HOLD REG(0x60013048)
#define I2C0_STOP_SETUP REG(0x6001304c)
#define I2C0_CLK_CONF REG(0x60013054)
#define I2C0_COMMAND(n) REG(0x60013058 + 4 * (n))
#define I2C0_SCL_SP_CONF REG(0x60013080)
#define I2C_OPEN_DRAIN 3u /* SDA_FORCE_OUT, SCL_FORCE_OUT */
#define I2C_MASTER BIT(4)
#define I2C_START BIT(5)
#define I2C_FSM_RESET BIT(10)
#define I2C_UPDATE BIT(11)
#define I2C_TIMEOUT_ON BIT(5)
#define I2C_FIFO_RESET (3u << 12)
#define I2C_END_DETECT BIT(3)
#define I2C_ARBITRATION_LOST BIT(5)
#define I2C_COMPLETE BIT(7)
#define I2C_TIMED_OUT BIT(8)
#define I2C_NACK BIT(10)
#define I2C_RST_SLAVE BIT(0)
#define I2C_RST_PULSES(n) ((uint32_t)(n) << 1)
#define I2C_SCLK_ACTIVE BIT(21)
enum { I2C_WRITE = 1, I2C_STOP = 2, I2C_READ = 3, I2C_END = 4, I2C_RESTART = 6 };
#define I2C_OP(op, count) ((uint32_t)(op) << 11 | (uint32_t)(count))
#define I2C_ACK_CHECK BIT(8)
#define I2C_ACK_NONE BIT(10) /* a read byte is answered with NACK */

/* pins */
#define GPIO_OUT_W1TS REG(0x60004008)
#define GPIO_ENABLE_W1TS REG(0x60004024)
#define GPIO_ENABLE_W1TC REG(0x60004028)
#define GPIO_PIN(n) REG(0x60004074 + 4 * (n))
#define GPIO_PIN_OPEN_DRAIN BIT(2)
#define GPIO_IN_SEL(signal) REG(0x60004154 + 4 * (signal))
#define GPIO_IN_MATRIX BIT(6)
#define GPIO_OUT_SEL(n) REG(0x60004554 + 4 * (n))
#define GPIO_OUT_PLAIN 0x80u
#define IO_MUX_PIN(n) REG(0x60009004 + 4 * (n))
#define IO_MUX_I2C (1u << 12 | BIT(9) | BIT(8)) /* GPIO, input on, pull-up */
enum { SIGNAL_SCL = 53, SIGNAL_SDA = 54 };

/* SHA engine */
#define SHA_MODE REG(0x6003b000)
#define SHA_CONTINUE REG(0x6003b014)
#define SHA_BUSY REG(0x6003b018)
#define SHA_STATE ((volatile uint32_t *)0x6003b040)
#define SHA_MESSAGE ((volatile uint32_t *)0x6003b080)
enum { SHA_MODE_256 = 2 };

/* random numbers; the SAR converter is what makes them true ones */
#define RANDOM_WORD REG(0x600260b0)
#define SARADC_CTRL REG(0x60040000)
#define SARADC_CTRL2 REG(0x60040004)
#define SARADC_FSM_WAIT REG(0x6004000c)
#define SARADC_PATTERN1 REG(0x60040018)
#define SARADC_PATTERN2 REG(0x6004001c)
#define SARADC_DMA_CONF REG(0x60040050)
#define SARADC_CLKM_CONF REG(0x60040054)

/* eFuses */
#define EFUSE_DATA1 REG(0x60008834)   /* WDT_DELAY_SEL [17:16] */
#define EFUSE_DATA4 REG(0x60008840)   /* no upper limit counts: of the revision 0, of block 2 1 */
#define EFUSE_SYS3 REG(0x60008850)    /* revision, minor low [20:18]; of block 2 [26:24] */
#define EFUSE_SYS5 REG(0x60008858)    /* revision, minor high 23, major [25:24] */
#define EFUSE_PART1_4 REG(0x6000886c) /* version of block 2, major [1:0] */

#endif
