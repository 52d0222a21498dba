/* The element's driver on the host: its port is whatever the test gives, by seven functions. */
#include <stdint.h>

#include "status.h"

typedef struct element_host {
  uint32_t (*write)(uint32_t address, const uint8_t *data, uint32_t length);
  uint32_t (*read)(uint32_t address, uint8_t *data, uint32_t length);
  void (*wake)(void);
  void (*wait_us)(uint32_t us);
  uint32_t (*random)(uint8_t *random);
  void (*feed)(void);
  uint32_t (*time_us)(void);
} element_host_t;

element_host_t element_host;
uint8_t fota_port_settings[256];

fota_status_t fota_port_bus_write(uint8_t address, const uint8_t *data, uint32_t length) {
  return element_host.write(address, data, length);
}

fota_status_t fota_port_bus_read(uint8_t address, uint8_t *data, uint32_t length) {
  return element_host.read(address, data, length);
}

void fota_port_bus_wake(void) {
  element_host.wake();
}

void fota_port_wait_us(uint32_t us) {
  element_host.wait_us(us);
}

fota_status_t fota_port_random(uint8_t random[32]) {
  return element_host.random(random);
}

uint32_t fota_port_time_us(void) {
  return element_host.time_us();
}

void fota_port_feed(void) {
  element_host.feed();
}
