/* I2C1 on PB8 (SCL) and PB9 (SDA): the crypto element's bus. */
#include "port.h"
#include "registers.h"

enum {
  SCL = 8,
  SDA = 9,
  HALF_BIT_US = 5,  /* 100 kHz */
  PATIENCE = 20000, /* register reads for one byte: several ms, where a byte takes 0.1 ms */
};

#define PINS(mode) ((mode) << (2 * SCL) | (mode) << (2 * SDA))

static void start_at(uint32_t timing) {
  I2C1_CR1 = 0;
  I2C1_TIMINGR = timing;
  I2C1_CR1 = I2C_PE;
}

/* Waits for one of `flags`; 0 if the bus failed instead. */
static uint32_t wait_for(uint32_t flags) {
  for (uint32_t i = 0; i < PATIENCE; i++) {
    const uint32_t isr = I2C1_ISR;
    if (isr & (I2C_BERR | I2C_ARLO)) return 0;
    if (isr & flags) return isr;
  }
  return 0;
}

/* One transfer with START and STOP; `control` adds I2C_RD_WRN. */
static fota_status_t transfer(uint32_t control, uint8_t address, uint8_t *read,
                              const uint8_t *write, uint32_t length) {
  bool good = true;
  I2C1_ICR = I2C_FLAGS;
  I2C1_CR2 = control | I2C_START | I2C_AUTOEND | length << 16 | (uint32_t)address << 1;
  for (uint32_t i = 0; i < length && good; i++) {
    const uint32_t isr = wait_for(I2C_TXIS | I2C_RXNE | I2C_NACKF | I2C_STOPF);
    if (isr & I2C_RXNE) {
      read[i] = (uint8_t)I2C1_RXDR;
    } else if (isr & I2C_TXIS) {
      I2C1_TXDR = write[i];
    } else {
      good = false;
    }
  }
  const uint32_t isr = wait_for(I2C_STOPF);
  if (isr == 0) start_at(I2C_400_KHZ); /* clears the state machine */
  return good && isr != 0 && (isr & I2C_NACKF) == 0 ? FOTA_OK : FOTA_ELEMENT_ABSENT;
}

fota_status_t fota_port_bus_write(uint8_t address, const uint8_t *data, uint32_t length) {
  return transfer(0, address, NULL, data, length);
}

fota_status_t fota_port_bus_read(uint8_t address, uint8_t *data, uint32_t length) {
  return transfer(I2C_RD_WRN, address, data, NULL, length);
}

/* A slave that we left in the middle of a byte (watchdog reset) lets go of SDA within nine clocks.
 */
static void free_bus(void) {
  GPIOB_BSRR = BIT(SCL) | BIT(SDA);
  GPIOB_MODER = PINS(1u); /* outputs, open drain */
  for (int clock = 0; clock < 9; clock++) {
    GPIOB_BSRR = BIT(SCL + 16);
    fota_port_wait_us(HALF_BIT_US);
    GPIOB_BSRR = BIT(SCL);
    fota_port_wait_us(HALF_BIT_US);
  }
  GPIOB_MODER = PINS(2u); /* I2C again */
}

void fota_port_bus_wake(void) {
  I2C1_CR1 = 0;
  free_bus();
  start_at(I2C_100_KHZ); /* address 0 holds SDA low for eight bits, 80 us */
  const fota_status_t nobody = transfer(0, 0, NULL, NULL, 0);
  (void)nobody; /* nobody acknowledges address 0 */
  start_at(I2C_400_KHZ);
}
