/* mbedTLS on this chip: memory, randomness, time; and no private key in software. */
#ifndef FOTA_FIRMWARE_TLS_H
#define FOTA_FIRMWARE_TLS_H

/* Gives mbedTLS its memory; before anything of it is used. */
void fota_tls_init(void);

#endif
