/* Module `bus`: the crypto element's bus, in the shape of `machine.I2C`; by the bootloader's
 * driver. */
// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "py/mperrno.h"
#include "py/runtime.h"

#include "core/port.h"
// clang-format on

static uint8_t address_of(mp_obj_t address) {
  return (uint8_t)(mp_obj_get_int(address) & 0x7f);
}

/* writeto(address, buffer): OSError(ENODEV) if nobody acknowledges. Nothing to address 0 is the
 * wake pulse. */
static mp_obj_t bus_writeto(mp_obj_t address_in, mp_obj_t data_in) {
  mp_buffer_info_t data;
  mp_get_buffer_raise(data_in, &data, MP_BUFFER_READ);
  const uint8_t address = address_of(address_in);
  if (address == 0 && data.len == 0) {
    fota_port_bus_wake();
  } else if (fota_port_bus_write(address, data.buf, data.len) != FOTA_OK) {
    mp_raise_OSError(MP_ENODEV);
  }
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(bus_writeto_obj, bus_writeto);

/* readfrom_into(address, buffer): OSError(ENODEV) if nobody acknowledges. */
static mp_obj_t bus_readfrom_into(mp_obj_t address_in, mp_obj_t data_in) {
  mp_buffer_info_t data;
  mp_get_buffer_raise(data_in, &data, MP_BUFFER_WRITE);
  if (fota_port_bus_read(address_of(address_in), data.buf, data.len) != FOTA_OK)
    mp_raise_OSError(MP_ENODEV);
  return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(bus_readfrom_into_obj, bus_readfrom_into);

static const mp_rom_map_elem_t table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_bus)},
    {MP_ROM_QSTR(MP_QSTR_writeto), MP_ROM_PTR(&bus_writeto_obj)},
    {MP_ROM_QSTR(MP_QSTR_readfrom_into), MP_ROM_PTR(&bus_readfrom_into_obj)},
};
static MP_DEFINE_CONST_DICT(globals, table);

const mp_obj_module_t fota_bus_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_bus, fota_bus_module);
