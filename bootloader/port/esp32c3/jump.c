/* From the mask ROM to the core, and from the core to the application. */
#include <string.h>

#include "boot.h"
#include "bytes.h"
#include "console.h"
#include "hardened.h"
#include "layout.h"
#include "port.h"
#include "port/esp32c3/chip.h"
#include "port/esp32c3/journal_flash.h"
#include "port/esp32c3/memory.h"
#include "port/esp32c3/messages.h"
#include "port/esp32c3/places.h"
#include "port/esp32c3/registers.h"
#include "port/esp32c3/rom.h"
#include "port/esp32c3/segments.h"

enum { HEADER_COUNT = 1, HEADER_ENTRY = 4, LAST_ENTRY = MMU_ENTRIES - 1 };

const fota_flash_t *const fota_port_journal = &fota_journal_flash;

noreturn void fota_start(void);
noreturn void fota_start(void) {
  fota_chip_start();
  const fota_status_t status = fota_places_find();
  if (status != FOTA_OK) fota_say_status("partitions", status);
  fota_boot(fota_chip_reset_cause());
}

noreturn void fota_enter(uint32_t entry, uint32_t stack, uint32_t vectors);

/* Reads the heads again and loads what goes into RAM. Bounds are held again too: between the hash
 * and here, external flash is somebody else's (DESIGN 8). */
static uint32_t load(const uint8_t *base, fota_segment_t segments[FOTA_SEGMENTS_MAX]) {
  const uint32_t count = base[HEADER_COUNT];
  uint32_t at = FOTA_SEGMENTS_START;
  if (count > FOTA_SEGMENTS_MAX) fota_chip_restart();
  for (uint32_t i = 0; i < count; i++) {
    fota_segment_t *s = &segments[i];
    if (fota_segment_next(base, fota_layout.slot_size, &at, s) != FOTA_OK) fota_chip_restart();
    const bool loaded =
        s->kind == FOTA_SEGMENT_RAM || (s->kind == FOTA_SEGMENT_RTC && !fota_chip_woke());
    if (loaded) memcpy((void *)(uintptr_t)s->load, base + s->offset, s->length);
  }
  return count;
}

/* Offset in flash of what an entry of the MMU really shows; none that a slot may have if nothing.
 */
static uint32_t shown_by(uint32_t entry) {
  return MMU_TABLE(entry) * MMU_PAGE;
}

/* True if the MMU shows a segment whole, out of the slot at `slot`; `set` has it do so. What lies
 * in RAM it need not show. */
__attribute__((noinline)) static bool show(const fota_segment_t *s, uint32_t slot, bool set) {
  uint32_t entry = s->load % (DROM_END - DROM_START) / MMU_PAGE;
  uint32_t page = (slot + s->offset) / MMU_PAGE;
  const uint32_t end = page + (s->load % MMU_PAGE + s->length + MMU_PAGE - 1) / MMU_PAGE;
  if (s->kind != FOTA_SEGMENT_DROM && s->kind != FOTA_SEGMENT_IROM) return true;
  for (; page < end; page++, entry++) {
    if (set) MMU_TABLE(entry) = page;
    if (MMU_TABLE(entry) != page) return false;
  }
  return true;
}

/* The last entry shows the start of the image, which is where ESP-IDF 5 looks for it. What the
 * cache held is forgotten twice: if it were not once, the jump would be to that, whatever the MMU
 * says. */
static void map_image(const fota_segment_t *segments, uint32_t count, uint32_t slot) {
  const uint32_t autoload = Cache_Disable_ICache();
  Cache_Invalidate_ICache_All();
  Cache_MMU_Init();
  MMU_TABLE(LAST_ENTRY) = slot / MMU_PAGE;
  for (uint32_t i = 0; i < count; i++)
    (void)!show(&segments[i], slot, true);
  Cache_Invalidate_ICache_All();
  Cache_Enable_ICache(autoload);
}

/* The sum that opens the jump to what the MMU really shows; another one if that is no slot, or not
 * all of the image. */
static uint32_t proof_of_mapped(const fota_segment_t *segments, uint32_t count) {
  const uint32_t slot = shown_by(LAST_ENTRY);
  for (uint32_t i = 0; i < count; i++) {
    if (!show(&segments[i], slot, false)) return 0;
  }
  for (uint32_t i = 0; i < 2; i++) {
    if (slot == fota_places.slot[i]) return FOTA_PROOF((uintptr_t)fota_layout.slot[i]);
  }
  return 0;
}

noreturn void fota_port_boot(const uint8_t *base, uint32_t proof) {
  /* Not where the slot should be, but where the bytes are that were hashed: a window that was set
   * wrongly shows other ones, and the proof is of the window. The ROM sets it in one go. */
  const uint32_t slot = shown_by(((uintptr_t)base - DROM_START) / MMU_PAGE);
  fota_segment_t segments[FOTA_SEGMENTS_MAX];
  fota_messages_answer();
  fota_chip_stop();
  const uint32_t entry = fota_load_le32(base + HEADER_ENTRY);
  const uint32_t count = load(base, segments);
  map_image(segments, count, slot);
  const uint32_t expected = proof_of_mapped(segments, count);
  const uint32_t again = fota_launder(proof);
  if (proof == expected) {
    if (again == fota_launder(expected)) {
      EXTMEM_CTRL1 = 0; /* only here may a slot execute */
      fota_enter(entry, ROM_STACK, ROM_VECTORS);
    }
  }
  fota_chip_restart();
}
