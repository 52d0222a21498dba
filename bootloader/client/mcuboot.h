/* The client under names that applications of MCUboot call (those of its bootutil_public.h): link
 * client/mcuboot.c as well.
 *
 * boot_is_img_confirmed(), boot_write_img_confirmed(), boot_request_upgrade() and
 * mcuboot_swap_type() are declared here as in Zephyr's dfu/mcuboot.h, and not tried under Zephyr:
 * its own implementation would have to be left out (CONFIG_MCUBOOT_IMG_MANAGER), and what else that
 * header declares (banks, images by number) is not here.
 *
 * There is one image pair. All functions return 0 for success and -1 for failure unless said. */
#ifndef FOTA_CLIENT_MCUBOOT_H
#define FOTA_CLIENT_MCUBOOT_H

#include <stdbool.h>

/* What the next reset does, with MCUboot's numbers. "Swap" is what it says there; here nothing is
 * swapped, the other slot is started where it lies. */
#define BOOT_SWAP_TYPE_NONE 1   /* starts the confirmed image */
#define BOOT_SWAP_TYPE_TEST 2   /* tries the other slot */
#define BOOT_SWAP_TYPE_REVERT 4 /* this boot is a trial: goes on with it, or back */

#define BOOT_UPGRADE_TEST 0
#define BOOT_UPGRADE_PERMANENT 1

int boot_swap_type(void);
int mcuboot_swap_type(void);

/* Asks for a trial of the other slot. `permanent` is refused: here no image stays that did not
 * prove itself healthy. Call with 0, and boot_set_confirmed() from the new image. */
int boot_set_pending(int permanent);
int boot_request_upgrade(int permanent);

/* Makes the running image the confirmed one. */
int boot_set_confirmed(void);
int boot_write_img_confirmed(void);

/* True if the running image is the confirmed one. */
bool boot_is_img_confirmed(void);

#endif
