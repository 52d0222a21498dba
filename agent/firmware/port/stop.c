// clang-format off: MicroPython's headers first, ours change what `noreturn` means
#include "mbedtls/mbedtls_config_port.h"

#include "core/port.h"
#include "stop.h"
// clang-format on

noreturn void fota_stop(const char *why) {
  fota_port_put("agent: stopped: ");
  fota_port_put(why);
  fota_port_put("\r\n");
  fota_port_halt();
}

void fota_exit(int code) {
  (void)code;
  fota_stop("memory of TLS is damaged");
}
