/* mbedTLS for one purpose: a TLS client with P-256, AES-128-GCM and SHA-256 whose key is elsewhere.
 * FOTA_TLS12=1 builds TLS 1.2 in too; by default the device speaks 1.3 only. */
#ifndef FOTA_FIRMWARE_MBEDTLS_CONFIG_H
#define FOTA_FIRMWARE_MBEDTLS_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "py/mpconfig.h"

#define MICROPY_MBEDTLS_CONFIG_BARE_METAL (1)

/* platform. MBEDTLS_HAVE_TIME stays off: the dates of certificates are tls_micropython.py's to
 * check. */
void fota_exit(int code);
#define MBEDTLS_PLATFORM_C
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_MEMORY_BUFFER_ALLOC_C
#define MBEDTLS_PLATFORM_NO_STD_FUNCTIONS
#define MBEDTLS_PLATFORM_SNPRINTF_MACRO snprintf
#define MBEDTLS_PLATFORM_PRINTF_MACRO printf /* called by nothing that is linked */
#define MBEDTLS_PLATFORM_FPRINTF_MACRO fprintf
#define MBEDTLS_PLATFORM_EXIT_MACRO fota_exit /* its memory is damaged */
#define MBEDTLS_HAVE_ASM
#define MBEDTLS_NO_PLATFORM_ENTROPY
#define MBEDTLS_ENTROPY_HARDWARE_ALT
#define MBEDTLS_ENTROPY_FORCE_SHA256
#define MBEDTLS_DEPRECATED_REMOVED

/* protocol */
#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_PROTO_TLS1_3
#define MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ENABLED
#define MBEDTLS_SSL_TLS1_3_COMPATIBILITY_MODE
#if FOTA_TLS12
#define MBEDTLS_SSL_PROTO_TLS1_2
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#define MBEDTLS_KEY_EXCHANGE_ECDHE_ECDSA_ENABLED
#define MBEDTLS_SSL_CIPHERSUITES \
  MBEDTLS_TLS1_3_AES_128_GCM_SHA256, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
#else
#define MBEDTLS_SSL_CIPHERSUITES MBEDTLS_TLS1_3_AES_128_GCM_SHA256
#endif
#define MBEDTLS_SSL_SERVER_NAME_INDICATION
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
#define MBEDTLS_SSL_IN_CONTENT_LEN 16384 /* servers send full records */
#define MBEDTLS_SSL_OUT_CONTENT_LEN 1280 /* a certificate of 1024 bytes in one record */

/* cryptography. MBEDTLS_USE_PSA_CRYPTO stays off: signatures would go past the callback. */
#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_PSA_KEY_SLOT_COUNT 8
#define MBEDTLS_HKDF_C
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_ECP_C
#define MBEDTLS_ECP_DP_SECP256R1_ENABLED
#define MBEDTLS_ECP_NIST_OPTIM
#define MBEDTLS_ECDH_C
#define MBEDTLS_ECDSA_C
#define MBEDTLS_AES_C
#define MBEDTLS_AES_ROM_TABLES
#define MBEDTLS_AES_FEWER_TABLES
#define MBEDTLS_AES_ONLY_128_BIT_KEY_LENGTH
#define MBEDTLS_CTR_DRBG_USE_128_BIT_KEY
#define MBEDTLS_BLOCK_CIPHER_NO_DECRYPT
#define MBEDTLS_GCM_C
#define MBEDTLS_CIPHER_C
#define MBEDTLS_MD_C
#define MBEDTLS_SHA256_C
#if MICROPY_PY_HASHLIB_MD5
#define MBEDTLS_MD5_C
#endif
#define MBEDTLS_SHA256_PROCESS_ALT /* tls.c */
#define MBEDTLS_CTR_DRBG_C
#define MBEDTLS_ENTROPY_C

/* certificates */
#define MBEDTLS_ASN1_PARSE_C
#define MBEDTLS_ASN1_WRITE_C
#define MBEDTLS_OID_C
#define MBEDTLS_PK_C
#define MBEDTLS_PK_PARSE_C
#define MBEDTLS_X509_USE_C
#define MBEDTLS_X509_CRT_PARSE_C
#define MBEDTLS_X509_REMOVE_INFO /* names of everything in certificates; tls.c tells what was \
                                    wrong */
int mbedtls_x509_crt_verify_info(char *text, size_t size, const char *prefix, uint32_t flags);

#endif
