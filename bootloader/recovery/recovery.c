/* Recovery over the console: fota_recover() of core/port.h. */
#include <string.h>

#include "port.h"
#include "recovery/frame.h"
#include "recovery/recovery_port.h"
#include "recovery/smp.h"

/* Milliseconds of silence, or bytes that were no frame, after which nobody is there. The largest
 * frame has about 1,500. */
enum { PATIENCE = 5000 };

typedef struct session {
  fota_journal_t journal;
  fota_frame_t frame;
  fota_smp_t smp;
} session_t;

static void answer(session_t *s) {
  uint32_t size;
  const uint8_t *message = fota_frame_message(&s->frame, &size);
  const uint32_t answer_size = fota_smp_answer(&s->smp, message, size);
  if (answer_size != 0) fota_frame_send(s->smp.response, answer_size);
  if (s->smp.reset) fota_port_restart();
}

static void serve(session_t *s) {
  uint32_t idle = 0;
  while (idle < PATIENCE) {
    fota_port_feed(); /* idle is bounded, and so is this */
    const int byte = fota_port_get();
    idle++;
    if (byte >= 0 && fota_frame_take(&s->frame, (uint8_t)byte)) {
      answer(s);
      idle = 0;
    }
  }
}

void fota_recover(fota_status_t why) {
  static session_t session; /* too large for the stack */
  const bool wanted = why == 0 ? fota_port_recovery_asked() : why == FOTA_NO_IMAGE;
  if (!wanted) return;
  memset(&session, 0, sizeof session);
  fota_journal_open(&session.journal, fota_port_journal);
  session.smp.upload.journal = &session.journal;
  fota_port_listen();
  fota_port_put("fota-boot: recovery\r\n");
  serve(&session);
  if (why != 0) fota_port_restart(); /* what ailed it may have passed */
}
