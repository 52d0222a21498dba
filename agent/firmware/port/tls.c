#include "tls.h"

#include <string.h>
#include <time.h>

// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mphal.h"

#include "core/port.h"
#include "core/sha256.h"
#include "mbedtls/ecdsa.h"
#include "mbedtls/entropy.h"
#include "mbedtls/memory_buffer_alloc.h"
#include "mbedtls/platform.h"
#include "mbedtls/platform_time.h"
#include "mbedtls/platform_util.h"
#include "mbedtls/sha256.h"
#include "mbedtls/x509.h"
#include "modem.h"
// clang-format on

enum {
  DAY = 24 * 3600,
  ERA = 146097,          /* days in 400 years */
  TO_MARCH_1_0 = 719468, /* days from 0000-03-01 to 1970-01-01 */
};

static unsigned char arena[FOTA_TLS_ARENA] __attribute__((aligned(8)));

void fota_tls_init(void) {
  mbedtls_memory_buffer_alloc_init(arena, sizeof arena);
}

int mbedtls_hardware_poll(void *context, unsigned char *output, size_t length, size_t *filled) {
  (void)context;
  uint8_t bytes[32];
  *filled = 0;
  for (size_t at = 0; at < length; at += sizeof bytes) {
    const size_t part = length - at < sizeof bytes ? length - at : sizeof bytes;
    if (fota_port_random(bytes) != FOTA_OK) return MBEDTLS_ERR_ENTROPY_SOURCE_FAILED;
    memcpy(output + at, bytes, part);
  }
  *filled = length;
  return 0;
}

mbedtls_ms_time_t mbedtls_ms_time(void) {
  return (mbedtls_ms_time_t)fota_ticks_ms();
}

/* The network's time, never before this firmware was written: an old certificate does not get
 * younger by a clock that was set back. */
time_t fota_time(time_t *where) {
  const uint32_t network = fota_modem_time();
  const time_t now = network > FOTA_NOT_BEFORE ? (time_t)network : (time_t)FOTA_NOT_BEFORE;
  if (where != NULL) *where = now;
  return now;
}

/* Days to civil date, by eras of 400 years that begin in March. picolibc's gmtime needs
 * thread-local storage, which this port does not have. */
struct tm *mbedtls_platform_gmtime_r(const mbedtls_time_t *time, struct tm *out) {
  const uint32_t days = (uint32_t)(*time / DAY) + TO_MARCH_1_0;
  const uint32_t seconds = (uint32_t)(*time % DAY);
  const uint32_t day_of_era = days % ERA;
  const uint32_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / (ERA - 1)) / 365;
  const uint32_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const uint32_t month_from_march = (5 * day_of_year + 2) / 153;
  const uint32_t month =
      month_from_march < 10 ? month_from_march + 2 : month_from_march - 10; /* from 0 */
  memset(out, 0, sizeof *out);
  out->tm_year = (int)(year_of_era + days / ERA * 400 + (month < 2) - 1900);
  out->tm_mon = (int)month;
  out->tm_mday = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
  out->tm_hour = (int)(seconds / 3600);
  out->tm_min = (int)(seconds / 60 % 60);
  out->tm_sec = (int)(seconds % 60);
  return out;
}

/* Why a certificate is refused, in few words. */
int mbedtls_x509_crt_verify_info(char *text, size_t size, const char *prefix, uint32_t flags) {
  const char *why = flags & MBEDTLS_X509_BADCERT_CN_MISMATCH ? "certificate of another name"
                    : flags & MBEDTLS_X509_BADCERT_EXPIRED   ? "certificate has expired"
                    : flags & MBEDTLS_X509_BADCERT_FUTURE
                        ? "certificate is not valid yet"
                        : "certificate is not of this device's CA";
  (void)prefix;
  return snprintf(text, size, "%s", why);
}

/* The bootloader's SHA-256, smaller and faster than mbedTLS's. */
int mbedtls_internal_sha256_process(mbedtls_sha256_context *context,
                                    const unsigned char block[64]) {
  fota_sha256_blocks(context->MBEDTLS_PRIVATE(state), block, 1);
  return 0;
}

/* In place of mbedTLS's software signature (linked with --wrap): the device key is in the crypto
 * element, so there is nothing to fall back to. */
int __wrap_mbedtls_ecdsa_sign(mbedtls_ecp_group *group, mbedtls_mpi *r, mbedtls_mpi *s,
                              const mbedtls_mpi *d, const unsigned char *digest, size_t length,
                              int (*random)(void *, unsigned char *, size_t), void *context);
int __wrap_mbedtls_ecdsa_sign(mbedtls_ecp_group *group, mbedtls_mpi *r, mbedtls_mpi *s,
                              const mbedtls_mpi *d, const unsigned char *digest, size_t length,
                              int (*random)(void *, unsigned char *, size_t), void *context) {
  (void)group, (void)r, (void)s, (void)d, (void)digest, (void)length, (void)random, (void)context;
  return MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE;
}
