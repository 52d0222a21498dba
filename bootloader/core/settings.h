/* The settings page (SPEC 1.2), written at the factory, write-protected, read in place. */
#ifndef FOTA_SETTINGS_H
#define FOTA_SETTINGS_H

#include <stdint.h>

#include "bytes.h"
#include "status.h"

enum {
  FOTA_SETTINGS_SIZE = 256,
  FOTA_SETTINGS_MAGIC = 0x54455346, /* "FSET" */
  FOTA_SETTINGS_CLASS = 8,
  FOTA_SETTINGS_SERIAL = 24,
  FOTA_SETTINGS_ADDRESS = 33,
  FOTA_SETTINGS_TRIES = 34,
  FOTA_SETTINGS_WATCHDOG_S = 35,
  FOTA_SETTINGS_STEP = 36,
  FOTA_SETTINGS_IO_KEY = 40,
  FOTA_SETTINGS_MAC_KEY = 72,
  FOTA_SETTINGS_ROOT_A = 104,
  FOTA_SETTINGS_ROOT_B = 136,
  FOTA_SETTINGS_WATCHDOG_ALWAYS = 168, /* 1: in every boot, 0: in trials only */
  FOTA_SETTINGS_CRC = 252,
};

/* FOTA_OK if the 256 bytes are whole and every value is inside its limits. */
FOTA_MUST_USE fota_status_t fota_settings_check(const uint8_t *settings);

#endif
