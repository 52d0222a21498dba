/* Random numbers. The generator mixes in the noise of the SAR converter while that samples its own
 * reference; without it, what it gives is pseudo-random. So it is switched on for each 32 bytes,
 * and off again: an application finds the converter as reset leaves it. */
#include "port.h"
#include "port/esp32c3/registers.h"
#include "port/esp32c3/rom.h"

enum {
  SAR_BLOCK = 0x69, /* analog registers of the converter */
  SAR_HOST = 0,
  SAR_TEST = 7, /* [1:0] test, 2 temperature sensor, 3 RTC test, 6 reference of converter 2 */
  SETTLE_US = 50,
  WORD_US = 10, /* the noise of several samples goes into each word */
};

static void sar_bits(uint32_t msb, uint32_t lsb, uint32_t value) {
  rom_i2c_writeReg_Mask(SAR_BLOCK, SAR_HOST, SAR_TEST, msb, lsb, value);
}

static void set_field(volatile uint32_t *reg, uint32_t mask, uint32_t shift, uint32_t value) {
  *reg = (*reg & ~(mask << shift)) | value << shift;
}

static void noise_on(void) {
  RTC_SENSOR_CTRL |= SENSOR_XPD_SAR;
  RTC_ANA_CONF |= ANA_CONF_SAR_I2C;
  sar_bits(6, 6, 1);
  sar_bits(1, 0, 0);
  sar_bits(3, 3, 0);
  sar_bits(2, 2, 0);
  SYSTEM_CLK_EN0 |= EN0_SARADC;
  SYSTEM_RST_EN0 &= ~EN0_SARADC;
  SARADC_CLKM_CONF = 2u << 21 | BIT(20) | 15; /* the peripheral bus, on, divided by 16 */
  set_field(&SARADC_CTRL, 0xff, 7, 1);        /* divide by 1 */
  SARADC_CTRL |= BIT(6) | 3u << 27;           /* clock, power */
  SARADC_FSM_WAIT = 100u << 16 | 8u << 8 | 5; /* standby, reset, power-up */
  SARADC_CTRL |= BIT(23);                     /* the pattern from its start: one entry */
  SARADC_CTRL &= ~(BIT(23) | 7u << 15);
  SARADC_PATTERN1 = 0x9cffff; /* converter 2, its reference */
  SARADC_PATTERN2 = 0xffffff;
  set_field(&SARADC_CTRL2, 0xfff, 12, 100); /* a sample every 100 clocks, without end */
  SARADC_CTRL2 &= ~BIT(0);
  SARADC_DMA_CONF |= BIT(31);
  SARADC_CTRL2 |= BIT(24);
}

static void noise_off(void) {
  sar_bits(6, 6, 0);
  SARADC_CTRL2 &= ~BIT(24);
  SARADC_DMA_CONF &= ~BIT(31);
  SARADC_PATTERN1 = 0xffffff;
  SARADC_PATTERN2 = 0xffffff;
  SARADC_CLKM_CONF &= ~BIT(20);
  SARADC_CTRL &= ~(3u << 27);
  SYSTEM_CLK_EN0 &= ~EN0_SARADC;
  RTC_SENSOR_CTRL &= ~SENSOR_XPD_SAR;
}

static fota_status_t draw(uint8_t random[32]) {
  uint32_t last = 0; /* a stuck source repeats itself, or is dead at zero */
  for (uint32_t i = 0; i < 32; i += 4) {
    fota_port_wait_us(WORD_US);
    const uint32_t word = RANDOM_WORD;
    if (word == last) return FOTA_RANDOM;
    for (uint32_t j = 0; j < 4; j++)
      random[i + j] = (uint8_t)(word >> (8 * j));
    last = word;
  }
  return FOTA_OK;
}

fota_status_t fota_port_random(uint8_t random[32]) {
  noise_on();
  fota_port_wait_us(SETTLE_US);
  const fota_status_t status = draw(random);
  noise_off();
  return status;
}
