/* The socket-offload modem of the virtual device (fota_vdev/modem/peripheral.py): its registers,
 * and how a chip reaches them. One outbound connection at a time; there is no way to listen. */
#ifndef FOTA_FIRMWARE_MODEM_H
#define FOTA_FIRMWARE_MODEM_H

#include <stddef.h>
#include <stdint.h>

enum {                       /* registers of 32 bits */
       MODEM_ID = 0x00,      /* MODEM_ID_VALUE */
       MODEM_COMMAND = 0x04, /* starts one; it is done when the store is */
       MODEM_STATUS = 0x08,
       MODEM_AVAILABLE = 0x0c, /* bytes received and not read yet */
       MODEM_LENGTH = 0x10,    /* bytes that go through DATA next; sets a new message */
       MODEM_DATA = 0x14,      /* four bytes, little endian, the last word filled up */
       MODEM_PORT = 0x18,
       MODEM_WAIT = 0x1c, /* milliseconds, or until something is received or closed */
       MODEM_TIME = 0x20, /* the network's time, seconds since 1970; 0 = not known */
};

enum {
  MODEM_ID_VALUE = 0x314d4f46, /* "FOM1" */
  MODEM_CONNECT = 1,           /* to the host name in DATA, and PORT */
  MODEM_SEND = 2,              /* what is in DATA */
  MODEM_CLOSE = 3,
  MODEM_OPEN = 1 << 0,
  MODEM_ENDED = 1 << 1,  /* the peer has closed, and all is read */
  MODEM_BROKEN = 1 << 2, /* refused, reset, not allowed: the connection is no more */
  MODEM_LONGEST = 2048,  /* bytes in one message */
};

/* The chip's way to it. */
uint32_t fota_modem_get(uint32_t reg);
void fota_modem_set(uint32_t reg, uint32_t value);

/* LENGTH, then that many bytes through DATA: into the modem, or out of it. */
void fota_modem_push(const uint8_t *from, size_t length);
void fota_modem_pull(uint8_t *to, size_t length);

#endif
