/* What the sample application needs of a chip: the port's sample_board.c. */
#ifndef FOTA_SAMPLE_BOARD_H
#define FOTA_SAMPLE_BOARD_H

#include <stdint.h>
#include <stdnoreturn.h>

/* Start-up is the port's too; it ends here. */
noreturn void app_main(void);

/* Console, 115200 baud, and the ticks. */
void board_start(void);
void board_put(char byte);
int board_get(void); /* the next byte received, or -1 */

/* Sleeps until the next tick: 0.1 s. */
void board_wait_tick(void);

noreturn void board_restart(void);

/* SHA-256 of the image that runs, over what its signature covers. */
void board_image_digest(uint8_t digest[32]);

#endif
