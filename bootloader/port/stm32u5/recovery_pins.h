/* The console receives on PA10; the button is PC13 to the supply, as on ST's boards of this chip.
 */
#ifndef FOTA_RECOVERY_PINS_H
#define FOTA_RECOVERY_PINS_H

enum {
  RX_PIN = 10,     /* of port A, alternate function 7 */
  BUTTON_PULL = 2, /* as in PUPDR: down */
  BUTTON_HELD = 1, /* what PC13 reads as then */
};

#endif
