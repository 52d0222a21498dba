/* MicroPython's own configuration, and TLS 1.3. The dates of certificates are Python's to check, as
 * on the chip. */
#include "mbedtls/mbedtls_config_port.h"
#undef MBEDTLS_HAVE_TIME_DATE
#define MBEDTLS_SSL_PROTO_TLS1_3
#define MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ENABLED
#define MBEDTLS_SSL_TLS1_3_COMPATIBILITY_MODE
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_HKDF_C
