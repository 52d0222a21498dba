/* Module `modem`: outbound sockets of the offload modem, as a stream that `tls` takes, and its
 * clock. A real modem's driver replaces this file: connect, send, receive, close, wait. */
#include "modem.h"

#include "core/port.h"
#include "py/mperrno.h"
#include "py/mphal.h"
#include "py/runtime.h"
#include "py/stream.h"

enum {
  DOZE_MS = 250, /* SysTick's 24 bits are 349 ms */
};

typedef struct socket {
  mp_obj_base_t base;
  bool open;
} socket_t;

static const mp_obj_type_t socket_type;

static size_t smaller(size_t a, size_t b) {
  return a < b ? a : b;
}

static mp_obj_t socket_new(const mp_obj_type_t *type, size_t n, size_t n_named,
                           const mp_obj_t *args) {
  (void)args;
  mp_arg_check_num(n, n_named, 0, 0, false);
  if (fota_modem_get(MODEM_ID) != MODEM_ID_VALUE) mp_raise_OSError(MP_ENODEV);
  socket_t *self = mp_obj_malloc(socket_t, type);
  self->open = false;
  return MP_OBJ_FROM_PTR(self);
}

/* connect(host, port): OSError(ECONNREFUSED) for whatever reason there is. */
static mp_obj_t socket_connect(mp_obj_t self_in, mp_obj_t host_in, mp_obj_t port_in) {
  socket_t *self = MP_OBJ_TO_PTR(self_in);
  size_t length;
  const char *host = mp_obj_str_get_data(host_in, &length);
  if (length > MODEM_LONGEST) mp_raise_OSError(MP_EINVAL);
  fota_modem_set(MODEM_PORT, (uint32_t)mp_obj_get_int(port_in));
  fota_modem_push((const uint8_t *)host, length);
  fota_modem_set(MODEM_COMMAND, MODEM_CONNECT);
  if ((fota_modem_get(MODEM_STATUS) & MODEM_OPEN) == 0) mp_raise_OSError(MP_ECONNREFUSED);
  self->open = true;
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(socket_connect_obj, socket_connect);

/* setblocking(flag): it never blocks; how long to wait, and for what, is Python's to say. */
static mp_obj_t socket_setblocking(mp_obj_t self, mp_obj_t flag) {
  (void)self, (void)flag;
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(socket_setblocking_obj, socket_setblocking);

static mp_uint_t socket_read(mp_obj_t self_in, void *buffer, mp_uint_t size, int *error) {
  const socket_t *self = MP_OBJ_TO_PTR(self_in);
  if (!self->open) {
    *error = MP_EBADF;
    return MP_STREAM_ERROR;
  }
  fota_feed();
  const uint32_t available = fota_modem_get(MODEM_AVAILABLE);
  if (available == 0) {
    const uint32_t status = fota_modem_get(MODEM_STATUS);
    if (status & MODEM_ENDED) return 0;
    *error = status & MODEM_BROKEN ? MP_ECONNRESET : MP_EAGAIN;
    return MP_STREAM_ERROR;
  }
  const size_t length = smaller(smaller(size, available), MODEM_LONGEST);
  fota_modem_pull(buffer, length);
  return length;
}

static mp_uint_t socket_write(mp_obj_t self_in, const void *buffer, mp_uint_t size, int *error) {
  const socket_t *self = MP_OBJ_TO_PTR(self_in);
  const size_t length = smaller(size, MODEM_LONGEST);
  if (self->open) {
    fota_modem_push(buffer, length);
    fota_modem_set(MODEM_COMMAND, MODEM_SEND);
    if ((fota_modem_get(MODEM_STATUS) & MODEM_BROKEN) == 0) return length;
  }
  *error = MP_ECONNRESET;
  return MP_STREAM_ERROR;
}

static mp_uint_t socket_ioctl(mp_obj_t self_in, mp_uint_t request, uintptr_t argument, int *error) {
  (void)argument;
  socket_t *self = MP_OBJ_TO_PTR(self_in);
  if (request == MP_STREAM_CLOSE) {
    if (self->open) fota_modem_set(MODEM_COMMAND, MODEM_CLOSE);
    self->open = false;
    return 0;
  }
  *error = MP_EINVAL;
  return MP_STREAM_ERROR;
}

static const mp_rom_map_elem_t socket_table[] = {
    {MP_ROM_QSTR(MP_QSTR_connect), MP_ROM_PTR(&socket_connect_obj)},
    {MP_ROM_QSTR(MP_QSTR_setblocking), MP_ROM_PTR(&socket_setblocking_obj)},
    {MP_ROM_QSTR(MP_QSTR_close), MP_ROM_PTR(&mp_stream_close_obj)},
};
static MP_DEFINE_CONST_DICT(socket_dict, socket_table);

static const mp_stream_p_t socket_stream = {
    .read = socket_read,
    .write = socket_write,
    .ioctl = socket_ioctl,
};

static MP_DEFINE_CONST_OBJ_TYPE(socket_type, MP_QSTR_Socket, MP_TYPE_FLAG_NONE, make_new,
                                socket_new, protocol, &socket_stream, locals_dict, &socket_dict);

/* Lets `ms` pass, watchdog fed; `listening` ends it once there is something to read, or an end. */
static mp_obj_t pass(mp_obj_t ms, bool listening) {
  const uint64_t end = fota_ticks_ms() + (uint32_t)mp_obj_get_int(ms);
  for (uint64_t now; (now = fota_ticks_ms()) < end;) {
    fota_feed();
    const bool unread = fota_modem_get(MODEM_AVAILABLE) != 0 ||
                        (fota_modem_get(MODEM_STATUS) & (MODEM_ENDED | MODEM_BROKEN));
    if (unread && listening) break;
    if (unread)
      fota_port_wait_us(1000u * smaller((uint32_t)(end - now), DOZE_MS));
    else
      fota_modem_set(MODEM_WAIT, smaller((uint32_t)(end - now), fota_longest_wait_ms()));
  }
  return mp_const_none;
}

/* wait(ms): until something is received, the peer closes, or the time is over. */
static mp_obj_t modem_wait(mp_obj_t ms) {
  return pass(ms, true);
}
static MP_DEFINE_CONST_FUN_OBJ_1(modem_wait_obj, modem_wait);

/* rest(ms): until the time is over, whatever comes. */
static mp_obj_t modem_rest(mp_obj_t ms) {
  return pass(ms, false);
}
static MP_DEFINE_CONST_FUN_OBJ_1(modem_rest_obj, modem_rest);

/* time() -> seconds since 1970 by the network, 0 = not known. */
static mp_obj_t modem_time(void) {
  return mp_obj_new_int_from_uint(fota_modem_get(MODEM_TIME));
}
static MP_DEFINE_CONST_FUN_OBJ_0(modem_time_obj, modem_time);

static const mp_rom_map_elem_t table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_modem)},
    {MP_ROM_QSTR(MP_QSTR_Socket), MP_ROM_PTR(&socket_type)},
    {MP_ROM_QSTR(MP_QSTR_wait), MP_ROM_PTR(&modem_wait_obj)},
    {MP_ROM_QSTR(MP_QSTR_rest), MP_ROM_PTR(&modem_rest_obj)},
    {MP_ROM_QSTR(MP_QSTR_time), MP_ROM_PTR(&modem_time_obj)},
};
static MP_DEFINE_CONST_DICT(globals, table);

const mp_obj_module_t fota_modem_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_modem, fota_modem_module);
