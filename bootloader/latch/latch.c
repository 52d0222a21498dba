/* Lets the element's private keys be used in this power cycle: a verified image is about to run.
 *
 * The keys of an element that was provisioned with --latch want its persistent latch set, and the
 * latch wants proof of the IO protection key, which is in the settings page and, behind NoMac, in
 * the element: nobody on the bus can have the element make this proof for him. Firmware that was
 * put in place of this bootloader has no settings page, or does not know what to say: it stays mute
 * in the device's name until the next power-up that comes through here. */
#include <string.h>

#include "atecc608.h"
#include "element.h"
#include "hash.h"
#include "port.h"
#include "settings.h"

enum {
  OP_NONCE = 0x16,
  OP_CHECKMAC = 0x28,
  OP_INFO = 0x30,
  CHECKMAC_TEMPKEY = 0x01, /* the challenge is TempKey, of a random nonce */
  INFO_LATCH = 4,
  LATCH_SET = 3,
  NUM_IN_SIZE = 20,
  CHECKMAC_SIZE = 77, /* challenge, response, other data */
  STATUS_SIZE = 4,
  INFO_SIZE = 7,
  HASH_SIZE = 35,
  ATTEMPTS = 3,
  PAUSE_US = 200000,
};

/* Proves the IO key over a nonce that the element had a part in. One buffer: the stack is small. */
static fota_status_t prove_io_key(void) {
  const uint8_t *const settings = fota_port_settings;
  uint8_t answer[36];
  uint8_t m[88];
  FOTA_TRY(fota_port_random(m + 32)); /* the first 20 bytes are used */
  FOTA_TRY(atecc_run(ATECC_COMMAND(OP_NONCE, 0, 0), ATECC_SIZES(NUM_IN_SIZE, HASH_SIZE), m + 32,
                     answer));
  /* TempKey after Nonce */
  memcpy(m, answer + 1, 32);
  m[52] = OP_NONCE;
  m[53] = 0;
  m[54] = 0;
  fota_hash(m, 55, m + 32);
  /* what CheckMac compares with; the other data are zero */
  memcpy(m, settings + FOTA_SETTINGS_IO_KEY, 32);
  memset(m + 64, 0, 24);
  m[79] = settings[FOTA_SETTINGS_SERIAL + 8];
  m[84] = settings[FOTA_SETTINGS_SERIAL];
  m[85] = settings[FOTA_SETTINGS_SERIAL + 1];
  fota_hash(m, 88, m + 32);
  /* challenge (not used), response, other data */
  memset(m, 0, 32);
  memset(m + 64, 0, 24);
  return atecc_run(ATECC_COMMAND(OP_CHECKMAC, CHECKMAC_TEMPKEY, ATECC_SLOT_IO_KEY),
                   ATECC_SIZES(CHECKMAC_SIZE, STATUS_SIZE), m, answer);
}

static fota_status_t set_latch(void) {
  uint8_t answer[8];
  FOTA_TRY(fota_element_open());
  FOTA_TRY(prove_io_key());
  return atecc_run(ATECC_COMMAND(OP_INFO, INFO_LATCH, LATCH_SET), ATECC_SIZES(0, INFO_SIZE), NULL,
                   answer);
}

/* An element that will not is no reason not to boot: its keys stay locked, and that is safe. */
void fota_release(void) {
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    const fota_status_t status = set_latch();
    fota_element_close();
    if (status == FOTA_OK) return;
    fota_port_feed();
    fota_port_wait_us(PAUSE_US);
  }
}
