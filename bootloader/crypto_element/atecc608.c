/* ATECC608 as the bootloader's crypto element.
 *
 * Only Verify(Stored) with MAC is used, never Verify(External): its MAC does not cover the public
 * key, so whoever is on the bus could bring a key of his own. Modes and slots are constants:
 * nothing the chip says in clear chooses a formula. */
#include "atecc608.h"

#include <string.h>

#include "bytes.h"
#include "element.h"
#include "hardened.h"
#include "hash.h"
#include "port.h"
#include "settings.h"
#include "sha256.h"

enum {
  WORD_SLEEP = 0x01,
  WORD_COMMAND = 0x03,
  OP_MAC = 0x08,
  OP_GENDIG = 0x15,
  OP_NONCE = 0x16,
  OP_COUNTER = 0x24,
  OP_VERIFY = 0x45,
  NONCE_RANDOM = 0x00,      /* TempKey := SHA-256(RandOut | NumIn | ...) */
  NONCE_TO_BUFFER = 0x63,   /* 64 bytes, as they are, to the message digest buffer */
  VERIFY_STORED_MAC = 0xa0, /* stored key, digest from the buffer, answer with MAC */
  GENDIG_COUNTER = 4,
  MAC_TEMPKEY = 0x01, /* second block of the message is TempKey */
  COUNTER_INCREMENT = 1,
  NUM_IN_SIZE = 20,
  MAX_DATA = 77, /* CheckMac, in the latch build */
  SPARE = 4,     /* one skip makes a clearing one byte longer: nothing of a caller may lie there */
  STATUS_SIZE = 4, /* sizes of answers */
  HASH_SIZE = 35,  /* count, 32 bytes, CRC */
  COUNTER_SIZE = 7,
  WAKE_US = 1500,
  POLL_US = 2000,
  /* More than twice the longest command used here. It is time and not a number of polls, which take
   * longer on a bus that is stuck. (Where the clock wraps, in the worst case too short once.) */
  PATIENCE_US = 300000,
};

static const uint8_t *const settings = fota_port_settings;

__attribute__((noinline)) uint32_t atecc_crc(const uint8_t *data, uint32_t length) {
  uint32_t crc = 0;
  for (uint32_t i = 0; i < length; i++) {
    for (uint32_t bit = 0; bit < 8; bit++) {
      const uint32_t in = (uint32_t)data[i] >> bit & 1u;
      crc = (crc << 1 & 0xffffu) ^ (in == crc >> 15 ? 0 : 0x8005u);
    }
  }
  return crc;
}

/* Judges an answer; `expected` is its size if all is well. Only status answers are shorter. */
static fota_status_t check_answer(uint32_t command, const uint8_t *answer, uint32_t expected) {
  const uint32_t count = answer[0];
  if (count != expected && count != STATUS_SIZE) return FOTA_ELEMENT_CRC;
  if (fota_load_le16(answer + count - 2) != atecc_crc(answer, count - 2)) return FOTA_ELEMENT_CRC;
  if (count != STATUS_SIZE) return FOTA_OK;
  switch (answer[1]) {
    case 0x00: /* "fine" where a MAC was due: not from our element */
      return expected == STATUS_SIZE ? FOTA_OK : FOTA_ELEMENT_FORGED;
    case 0x01:
      return (command & 0xff) == OP_VERIFY ? FOTA_IMAGE_SIGNATURE : FOTA_ELEMENT_REFUSED;
    case 0x07:
    case 0x08:
      return FOTA_ELEMENT_SELF_TEST;
    case 0xff:
      return FOTA_ELEMENT_CRC;
    default:
      return FOTA_ELEMENT_REFUSED;
  }
}

/* What others have chosen does not stay where a function that leaves with a fault might take its
 * return address from (hardened.h 8). */
__attribute__((noinline)) static void forget(uint8_t *buffer, uint32_t length) {
  memset(buffer, 0, length);
  __asm__ volatile("" ::"r"(buffer) : "memory");
}

fota_status_t atecc_run(uint32_t command, uint32_t sizes, const uint8_t *data, uint8_t *answer) {
  const uint8_t address = settings[FOTA_SETTINGS_ADDRESS];
  const uint32_t length = sizes >> 8;
  const uint32_t expected = sizes & 0xff;
  uint8_t packet[6 + MAX_DATA + 2 + SPARE];
  packet[0] = WORD_COMMAND;
  packet[1] = (uint8_t)(7 + length);
  fota_copy4(packet + 2, &command);
  memcpy(packet + 6, data, length);
  const uint32_t crc = atecc_crc(packet + 1, 5 + length);
  packet[6 + length] = (uint8_t)crc;
  packet[7 + length] = (uint8_t)(crc >> 8);
  fota_port_feed();
  const fota_status_t sent = fota_port_bus_write(address, packet, 8 + length);
  forget(packet, sizeof packet - SPARE);
  if (sent != FOTA_OK) return FOTA_ELEMENT_TIMEOUT; /* it was awake a moment ago */
  const uint32_t start_us = fota_port_time_us();
  do {
    fota_port_wait_us(POLL_US);
    if (fota_port_bus_read(address, answer, expected) == FOTA_OK) {
      return check_answer(command, answer, expected);
    }
  } while (fota_port_time_us() - start_us < PATIENCE_US);
  return FOTA_ELEMENT_TIMEOUT;
}

/* A nonce that never repeats and that nobody else chooses: not even a poor RNG alone. */
static fota_status_t fresh_nonce(uint8_t nonce[32]) {
  uint8_t m[64];
  FOTA_TRY(fota_port_random(m + 32));
  memcpy(m, settings + FOTA_SETTINGS_IO_KEY, 32);
  fota_hash(m, sizeof m, nonce);
  return FOTA_OK;
}

fota_status_t fota_element_open(void) {
  static bool met; /* it has answered in this boot: silence from now on is not absence */
  const uint8_t address = settings[FOTA_SETTINGS_ADDRESS];
  const uint8_t sleep = WORD_SLEEP;
  uint8_t answer[STATUS_SIZE];
  /* The wake pulse comes first as well: it frees a bus left in the middle of a byte. Whatever the
   * element was doing before our reset, it starts from sleep. */
  fota_port_bus_wake();
  const fota_status_t asleep = fota_port_bus_write(address, &sleep, 1);
  (void)asleep; /* not acknowledged: it sleeps already, or is busy and the next attempt finds it */
  fota_port_bus_wake();
  fota_port_wait_us(WAKE_US);
  if (fota_port_bus_read(address, answer, STATUS_SIZE) != FOTA_OK) {
    return met ? FOTA_ELEMENT_TIMEOUT : FOTA_ELEMENT_ABSENT;
  }
  met = true;
  const fota_status_t status = check_answer(0, answer, STATUS_SIZE);
  return answer[1] == 0x11 && status == FOTA_ELEMENT_REFUSED ? FOTA_OK : status;
}

void fota_element_close(void) {
  const uint8_t sleep = WORD_SLEEP;
  const fota_status_t asleep = fota_port_bus_write(settings[FOTA_SETTINGS_ADDRESS], &sleep, 1);
  (void)asleep; /* its own watchdog puts it to sleep otherwise */
}

/* Everything that went over the bus in one authenticated read of a counter. */
typedef struct counter_session {
  uint32_t command;   /* the GenDig command: names the counter */
  uint8_t num_in[32]; /* ours; the first 20 bytes are used */
  uint8_t random[36]; /* its answers */
  uint8_t mac[36];
} counter_session_t;

/* Computes the MAC that only our element can make over this value in this session, and compares. */
static fota_status_t check_counter(const counter_session_t *session, const uint32_t *value) {
  const uint32_t mac_command = ATECC_COMMAND(OP_MAC, MAC_TEMPKEY, ATECC_SLOT_MAC_KEY);
  const uint8_t *serial = settings + FOTA_SETTINGS_SERIAL;
  uint8_t m[96];
  uint8_t *const temp_key = m + 64;
  /* TempKey after Nonce */
  memcpy(m, session->random + 1, 32);
  memcpy(m + 32, session->num_in, NUM_IN_SIZE);
  m[52] = OP_NONCE;
  m[53] = NONCE_RANDOM;
  m[54] = 0;
  fota_hash(m, 55, temp_key);
  /* TempKey after GenDig over the counter */
  memset(m, 0, 64);
  fota_copy4(m + 32, &session->command);
  m[36] = serial[8];
  m[37] = serial[0];
  m[38] = serial[1];
  fota_copy4(m + 40, value);
  fota_hash(m, 96, temp_key);
  /* MAC over TempKey with the pairing key */
  memcpy(m + 32, temp_key, 32);
  memcpy(m, settings + FOTA_SETTINGS_MAC_KEY, 32);
  memset(m + 64, 0, 24);
  fota_copy4(m + 64, &mac_command);
  m[79] = serial[8];
  m[84] = serial[0];
  m[85] = serial[1];
  fota_hash(m, 88, m);
  return fota_compare(m, session->mac + 1, 32);
}

fota_status_t fota_element_counter(uint32_t counter, uint32_t *value) {
  counter_session_t s;
  s.command = ATECC_COMMAND(OP_GENDIG, GENDIG_COUNTER, counter);
  uint8_t answer[8];
  FOTA_TRY(fresh_nonce(s.num_in));
  FOTA_TRY(atecc_run(ATECC_COMMAND(OP_NONCE, NONCE_RANDOM, 0), ATECC_SIZES(NUM_IN_SIZE, HASH_SIZE),
                     s.num_in, s.random));
  FOTA_TRY(atecc_run(s.command, ATECC_SIZES(0, STATUS_SIZE), NULL, answer));
  FOTA_TRY(atecc_run(ATECC_COMMAND(OP_MAC, MAC_TEMPKEY, ATECC_SLOT_MAC_KEY),
                     ATECC_SIZES(0, HASH_SIZE), NULL, s.mac));
  FOTA_TRY(
      atecc_run(ATECC_COMMAND(OP_COUNTER, 0, counter), ATECC_SIZES(0, COUNTER_SIZE), NULL, answer));
  fota_copy4(value, answer + 1);
  /* Twice, each from scratch (hardened.h 3). */
  const uint32_t first = check_counter(&s, value);
  return fota_verdict_or(first + check_counter(&s, value) - FOTA_OK, FOTA_ELEMENT_FORGED);
}

fota_status_t fota_element_increment(uint32_t counter) {
  uint8_t answer[8];
  return atecc_run(ATECC_COMMAND(OP_COUNTER, COUNTER_INCREMENT, counter),
                   ATECC_SIZES(0, COUNTER_SIZE), NULL, answer);
}

static uint32_t verify_command(const fota_claim_t *claim) {
  return ATECC_COMMAND(OP_VERIFY, VERIFY_STORED_MAC, ATECC_SLOT_ROOT_A - claim->root);
}

fota_status_t fota_element_verify(const fota_claim_t *claim, fota_evidence_t *evidence) {
  uint8_t buffer[64];
  uint8_t answer[36];
  FOTA_TRY(fresh_nonce(evidence->nonce));
  memcpy(buffer, claim->digest, 32);
  memcpy(buffer + 32, evidence->nonce, 32);
  FOTA_TRY(atecc_run(ATECC_COMMAND(OP_NONCE, NONCE_TO_BUFFER, 0), ATECC_SIZES(64, STATUS_SIZE),
                     buffer, answer));
  FOTA_TRY(atecc_run(verify_command(claim), ATECC_SIZES(64, HASH_SIZE), claim->rs, answer));
  memcpy(evidence->mac, answer + 1, 32);
  forget(answer, HASH_SIZE);
  return fota_element_proves(claim, evidence);
}

fota_status_t fota_element_proves(const fota_claim_t *claim, const fota_evidence_t *evidence) {
  const uint32_t command = verify_command(claim);
  uint8_t expected[32];
  fota_sha256_t sha;
  fota_sha256_init(&sha);
  fota_sha256_update(&sha, settings + FOTA_SETTINGS_IO_KEY, 32);
  fota_sha256_update(&sha, claim->digest, 32);
  fota_sha256_update(&sha, evidence->nonce, 32);
  fota_sha256_update(&sha, claim->rs, 64);
  fota_sha256_update(&sha, &command, 4);
  fota_sha256_final(&sha, expected);
  return fota_verdict_or(fota_compare(expected, evidence->mac, 32), FOTA_ELEMENT_FORGED);
}
