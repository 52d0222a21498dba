/* The console receives on PA3; the button is PC13 to ground, as on the Nucleo board. */
#ifndef FOTA_RECOVERY_PINS_H
#define FOTA_RECOVERY_PINS_H

enum {
  RX_PIN = 3,      /* of port A, alternate function 7 */
  BUTTON_PULL = 1, /* as in PUPDR: up */
  BUTTON_HELD = 0, /* what PC13 reads as then */
};

#endif
