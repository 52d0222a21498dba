# MicroPython for this machine, with TLS 1.2 and 1.3 and the signing callback: the agent's suites run on it.
FROZEN_MANIFEST := $(VARIANT_DIR)/manifest.py
MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_SSL_AXTLS = 0
MICROPY_SSL_MBEDTLS = 1
MICROPY_PY_SSL_ECDSA_SIGN_ALT = 1
MBEDTLS_CONFIG_FILE = \"fota_mbedtls_config.h\"
# TLS 1.3 needs what MicroPython's own list leaves out
SRC_THIRDPARTY_C += $(addprefix lib/mbedtls/library/,hkdf.c psa_util.c psa_crypto.c psa_crypto_aead.c \
  psa_crypto_cipher.c psa_crypto_client.c psa_crypto_driver_wrappers_no_static.c psa_crypto_ecp.c psa_crypto_ffdh.c \
  psa_crypto_hash.c psa_crypto_mac.c psa_crypto_pake.c psa_crypto_rsa.c psa_crypto_se.c psa_crypto_slot_management.c \
  psa_crypto_storage.c psa_crypto_random.c ssl_tls13_client.c ssl_tls13_generic.c ssl_tls13_keys.c ssl_tls13_server.c)
