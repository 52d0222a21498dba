/* The firmware once its chip is started: the frozen module `main`. Nothing comes back from it:
 * whatever ends the program waits for the watchdog, and the bootloader decides anew. */
// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/builtin.h"
#include "py/compile.h"
#include "py/gc.h"
#include "py/lexer.h"
#include "py/mperrno.h"
#include "py/mphal.h"
#include "py/mpprint.h"
#include "py/runtime.h"
#include "py/stackctrl.h"
#include "shared/runtime/gchelper.h"

#include "core/port.h"
#include "start.h"
#include "stop.h"
#include "tls.h"
// clang-format on

enum {
  STACK_RESERVE = 1024
}; /* what C functions without a check may need on top of Python's depth */

extern uint8_t linker_stack_top[], linker_stack_size[], linker_heap_start[], linker_heap_end[];

noreturn void fota_run(void) {
  mp_stack_set_top(linker_stack_top);
  mp_stack_set_limit((mp_uint_t)linker_stack_size - STACK_RESERVE);
  fota_tls_init();
  gc_init(linker_heap_start, linker_heap_end);
  mp_init();
  nlr_buf_t nlr;
  if (nlr_push(&nlr) == 0) {
    mp_import_name(MP_QSTR_main, mp_const_none, MP_OBJ_NEW_SMALL_INT(0));
    nlr_pop();
  } else {
    mp_obj_print_exception(&mp_plat_print, MP_OBJ_FROM_PTR(nlr.ret_val));
  }
  fota_stop("the program ended");
}

/* --- what MicroPython calls --- */

void gc_collect(void) {
  gc_collect_start();
  gc_helper_collect_regs_and_stack();
  gc_collect_end();
}

void nlr_jump_fail(void *value) {
  (void)value;
  fota_stop("an exception that nobody takes");
}

noreturn void __fatal_error(const char *message) {
  fota_stop(message);
}

mp_import_stat_t mp_import_stat(const char *path) {
  (void)path;
  return MP_IMPORT_STAT_NO_EXIST; /* there are frozen modules only */
}

mp_lexer_t *mp_lexer_new_from_file(qstr filename) {
  (void)filename;
  mp_raise_OSError(MP_ENOENT);
}

mp_lexer_t *mp_lexer_new_from_str_len(qstr name, const char *text, size_t length,
                                      size_t free_length) {
  (void)name, (void)text, (void)length, (void)free_length;
  mp_raise_OSError(MP_ENOENT); /* frozen text would come here: there is none */
}

mp_obj_t mp_parse_compile_execute(mp_lexer_t *lexer, mp_parse_input_kind_t kind,
                                  mp_obj_dict_t *globals, mp_obj_dict_t *locals) {
  (void)lexer, (void)kind, (void)globals, (void)locals;
  mp_raise_OSError(MP_ENOENT);
}

mp_uint_t mp_hal_stdout_tx_strn(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++) {
    const char c[2] = {text[i], '\0'};
    fota_port_put(c);
  }
  return length;
}

void mp_hal_stdout_tx_strn_cooked(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '\n') fota_port_put("\r");
    mp_hal_stdout_tx_strn(text + i, 1);
  }
}
