#include "tls.h"

#include <string.h>

// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mphal.h"

#include "core/port.h"
#include "core/sha256.h"
#include "mbedtls/ecdsa.h"
#include "mbedtls/entropy.h"
#include "mbedtls/memory_buffer_alloc.h"
#include "mbedtls/platform.h"
#include "mbedtls/sha256.h"
#include "mbedtls/x509.h"
// clang-format on

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

/* Why a certificate is refused, in few words; its dates are Python's to check (tls_micropython.py).
 */
int mbedtls_x509_crt_verify_info(char *text, size_t size, const char *prefix, uint32_t flags) {
  const char *why = flags & MBEDTLS_X509_BADCERT_CN_MISMATCH
                        ? "certificate of another name"
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

/* Each signature that is checked feeds the watchdog first: a server's first words are checked in
 * one go, two signatures and more, 300 ms each. */
int fota_fed_muladd(mbedtls_ecp_group *group, mbedtls_ecp_point *r, const mbedtls_mpi *m,
                    const mbedtls_ecp_point *p, const mbedtls_mpi *n, const mbedtls_ecp_point *q,
                    mbedtls_ecp_restart_ctx *restart);
int fota_fed_muladd(mbedtls_ecp_group *group, mbedtls_ecp_point *r, const mbedtls_mpi *m,
                    const mbedtls_ecp_point *p, const mbedtls_mpi *n, const mbedtls_ecp_point *q,
                    mbedtls_ecp_restart_ctx *restart) {
  fota_feed();
  return mbedtls_ecp_muladd_restartable(group, r, m, p, n, q, restart);
}

/* In place of mbedTLS's powers, which compressed points would need. */
int fota_no_power(mbedtls_mpi *x, const mbedtls_mpi *a, const mbedtls_mpi *e, const mbedtls_mpi *n,
                  mbedtls_mpi *prec_rr);
int fota_no_power(mbedtls_mpi *x, const mbedtls_mpi *a, const mbedtls_mpi *e, const mbedtls_mpi *n,
                  mbedtls_mpi *prec_rr) {
  (void)x, (void)a, (void)e, (void)n, (void)prec_rr;
  return MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE;
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
