/* The boot report and the health word (SPEC 4), left in RAM for the application. */
#ifndef FOTA_REPORT_H
#define FOTA_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

enum {
  FOTA_REPORT_MAGIC = 0x52504246, /* "FBPR" */
  FOTA_HEALTH_UNKNOWN = 0,
  FOTA_HEALTH_GOOD = 0x600d600d,
};
#define FOTA_HEALTH_BAD 0xbad0bad0u

typedef struct fota_report {
  uint32_t magic;
  uint16_t format; /* 1 */
  uint16_t length; /* 128 */
  uint8_t running;
  uint8_t confirmed;
  uint8_t candidate;
  uint8_t state;
  uint8_t tries;
  uint8_t trial;       /* 1 = this boot is a trial */
  uint8_t reset_cause; /* RCC_CSR bits 31..24, or their like */
  uint8_t zero;
  uint8_t version[8]; /* of the running image, as in its header */
  uint32_t sec_cnt;
  uint32_t floor;
  uint32_t epoch;
  uint32_t reason;
  uint32_t status[2]; /* of slot A and B at this boot; 0 = not looked at */
  uint32_t status_element;
  uint8_t image_hash[32];
  uint32_t hash_us;
  uint32_t element_us;
  uint32_t sequence;
  uint32_t journal; /* where it is in flash, on chips where a table says so; else 0 */
  uint8_t zeros[24];
  uint32_t crc; /* CRC-32 of the bytes before it */
} fota_report_t;

_Static_assert(offsetof(fota_report_t, running) == 8, "SPEC 4");
_Static_assert(offsetof(fota_report_t, version) == 16, "SPEC 4");
_Static_assert(offsetof(fota_report_t, sec_cnt) == 24, "SPEC 4");
_Static_assert(offsetof(fota_report_t, reason) == 36, "SPEC 4");
_Static_assert(offsetof(fota_report_t, image_hash) == 52, "SPEC 4");
_Static_assert(offsetof(fota_report_t, hash_us) == 84, "SPEC 4");
_Static_assert(offsetof(fota_report_t, sequence) == 92, "SPEC 4");
_Static_assert(offsetof(fota_report_t, journal) == 96, "SPEC 4");
_Static_assert(offsetof(fota_report_t, crc) == 124, "SPEC 4");
_Static_assert(sizeof(fota_report_t) == 128, "SPEC 4");

#endif
