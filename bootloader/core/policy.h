/* What to do next at a boot: a pure function of what the journal says and what was seen so far.
 *
 *   state of the candidate   seen                       next
 *   STAGED                   not looked at              verify it
 *                            refused                    write REJECTED(status)
 *                            good                       write TRIAL(tries - 1), boot it on trial
 *   TRIAL, no tries left                                write REVERTED(its reason, or PO4)
 *   TRIAL(n)                 not looked at              verify it
 *                            refused                    write REVERTED(status)
 *                            good                       write TRIAL(n - 1), boot it on trial
 *   none, REJECTED,          confirmed not looked at    verify it
 *   REVERTED                 good                       boot it
 *                            refused                    the same with the other slot; nothing
 * written no confirmed slot        (first boot)               as above, A before B; write
 * {confirmed = it} any                      no slot is good            halt: PO3 any fault of the
 * element, the  halt with it: says nothing about an image settings or the RNG
 *
 * After a journal write that failed, the candidate is passed over and nothing more is written. */
#ifndef FOTA_POLICY_H
#define FOTA_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "journal.h"
#include "status.h"

typedef struct fota_view {
  const fota_record_t *record; /* the journal's state */
  fota_status_t status[2];     /* verdicts on slot A and B; 0 = not looked at */
  uint8_t tries;               /* boots that a trial gets, >= 1 */
  bool writable;               /* the journal takes records */
} fota_view_t;

/* Distinct bits are far apart: a step is never one flipped bit away from another. */
typedef enum fota_action {
  FOTA_VERIFY = 0x35, /* look at `slot`, put the verdict into the view */
  FOTA_WRITE = 0x56,  /* append `record` */
  FOTA_BOOT = 0x6a,   /* append `record` if `write`, then start `slot` */
  FOTA_HALT = 0x9c,   /* stop, because of `status` */
} fota_action_t;

typedef struct fota_step {
  fota_action_t action;
  uint8_t slot;
  bool trial;
  bool write;
  fota_status_t status;
  fota_record_t record; /* content only: sequence and CRC are the journal's */
} fota_step_t;

void fota_policy_next(const fota_view_t *view, fota_step_t *step);

/* True if `status` is a verdict on an image; false if it tells of something else that failed. */
bool fota_policy_is_refusal(fota_status_t status);

#endif
