/* Registers of the socket-offload modem of the virtual device (fota_vdev/modem/peripheral.py),
 * which is on the external bus at FMC bank 1. One outbound connection at a time; there is no way to
 * listen. */
#ifndef FOTA_FIRMWARE_MODEM_H
#define FOTA_FIRMWARE_MODEM_H

#include "port/stm32l4/registers.h"

#define MODEM_ID REG(0x60000000)      /* MODEM_ID_VALUE */
#define MODEM_COMMAND REG(0x60000004) /* starts one; it is done when the store is */
#define MODEM_STATUS REG(0x60000008)
#define MODEM_AVAILABLE REG(0x6000000c) /* bytes received and not read yet */
#define MODEM_LENGTH REG(0x60000010)    /* bytes that go through DATA next; sets a new message */
#define MODEM_DATA REG(0x60000014)      /* four bytes, little endian, the last word filled up */
#define MODEM_PORT REG(0x60000018)
#define MODEM_WAIT REG(0x6000001c) /* milliseconds, or until something is received or closed */
#define MODEM_TIME REG(0x60000020) /* the network's time, seconds since 1970; 0 = not known */

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

#endif
