/* What the host library needs besides the core: a layout for slots that the caller provides. */
#include "layout.h"
#include "status.h"

const fota_layout_t fota_layout = {
    .slot_size = 496 * 1024,
    .run_address = 0x08004000,
    .ram_low = 0x20000000,
    .ram_high = 0x20017f00,
};

/* The registry of codes, for the test that compares it with Python's. */
typedef struct fota_status_name {
  uint32_t code;
  const char *name;
} fota_status_name_t;

#define ENTRY(id, a, b, number, name) {id, name},
const fota_status_name_t fota_host_statuses[] = {FOTA_STATUS_LIST(ENTRY){FOTA_OK, "ok"}, {0, 0}};
