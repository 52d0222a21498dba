#include "console.h"

#include "bytes.h"
#include "layout.h"
#include "port.h"

static void put_number(uint32_t number) {
  char text[11];
  char *p = text + sizeof text - 1;
  *p = '\0';
  do {
    *--p = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  fota_port_put(p);
}

static void put_status(fota_status_t status) {
  const char module[] = {':', ' ', (char)(status >> 24), (char)(status >> 16), '\0'};
  fota_port_put(module);
  put_number(status & 0xffff);
  fota_port_put("\r\n");
}

static void put_head(const char *what) {
  fota_port_put("fota-boot: ");
  fota_port_put(what);
}

static void put_slot(uint8_t slot) {
  put_head(slot == FOTA_SLOT_A ? "slot A " : "slot B ");
}

void fota_say_status(const char *what, fota_status_t status) {
  put_head(what);
  put_status(status);
}

void fota_say_slot_status(uint8_t slot, const char *what, fota_status_t status) {
  put_slot(slot);
  fota_port_put(what);
  put_status(status);
}

void fota_say_boot(uint8_t slot, const uint8_t *version, const char *what) {
  put_slot(slot);
  put_number(version[0]);
  fota_port_put(".");
  put_number(version[1]);
  fota_port_put(".");
  put_number(fota_load_le16(version + 2));
  fota_port_put(what);
}

void fota_say_number(const char *what, uint32_t number) {
  put_head(what);
  put_number(number);
  fota_port_put("\r\n");
}
