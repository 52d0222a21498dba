"""Provision the chip model through CryptoAuthLib; in its own process, because the library is global.

usage: factory_cal.py SCENARIO WORK   prints one JSON object. Scenarios: blank, cut, absent
"""

import ctypes
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from factory_world import Chip, blank, new_job

from fota_signer.factory.cal import CalTransport
from fota_signer.factory.line import provision_chip
from fota_wire.errors import FotaError

OK, COMM_FAIL, UNIMPLEMENTED = 0, -16, -11
U8 = ctypes.POINTER(ctypes.c_uint8)
P = ctypes.c_void_p
INIT, POST = ctypes.CFUNCTYPE(ctypes.c_int, P, P), ctypes.CFUNCTYPE(ctypes.c_int, P)
SEND = ctypes.CFUNCTYPE(ctypes.c_int, P, ctypes.c_uint8, U8, ctypes.c_int)
RECV = ctypes.CFUNCTYPE(ctypes.c_int, P, ctypes.c_uint8, U8, ctypes.POINTER(ctypes.c_uint16))
CONTROL = ctypes.CFUNCTYPE(ctypes.c_int, P, ctypes.c_uint8, P, ctypes.c_size_t)


class Hal(ctypes.Structure):
    _fields_ = [("init", INIT), ("post", POST), ("send", SEND), ("recv", RECV), ("control", CONTROL),
                ("release", POST)]  # fmt: skip


class Wire:
    """The library's I2C calls on the virtual bus: address 0 is the wake pulse."""

    def __init__(self, chip: Chip):
        self.machine = chip.machine
        self.packets = 0

    def send(self, iface, word, data, n):
        target = ctypes.string_at(ctypes.cast(iface, ctypes.POINTER(P))[0] + 8, 1)[0]
        body = ctypes.string_at(data, n) if data and n else b""
        try:
            if target == 0:
                self.machine.i2c.writeto(0, b"")
            else:
                self.machine.i2c.writeto(target >> 1, bytes([word]) + body)
                self.packets += word == 3
        except (OSError, FotaError):
            self.machine.sleep_us(1500 if target == 0 else 10_000)
            return OK if target == 0 else COMM_FAIL
        return OK

    def recv(self, iface, address, data, n):
        try:
            raw = self.machine.i2c.readfrom(address >> 1, n[0])
        except (OSError, FotaError):
            return COMM_FAIL
        ctypes.memmove(data, raw, len(raw))
        return OK


def plug(wire):
    """Put the wire in the place of the library's own I2C; return what has to stay alive."""
    import cryptoauthlib
    from cryptoauthlib.library import get_cryptoauthlib

    cryptoauthlib.load_cryptoauthlib()
    hal = Hal(INIT(lambda i, c: OK), POST(lambda i: OK), SEND(wire.send), RECV(wire.recv),
              CONTROL(lambda i, o, p, n: UNIMPLEMENTED), POST(lambda p: OK))  # fmt: skip
    old, phy = ctypes.c_void_p(), ctypes.c_void_p()
    lib = get_cryptoauthlib()
    assert lib.hal_iface_register_hal(0, ctypes.byref(hal), ctypes.byref(old), None, ctypes.byref(phy)) == 0
    return hal


def main(scenario, work):
    chip, job, out = blank(seed=6), new_job(work, latched=scenario == "latched"), {}
    chip.machine.power_on()
    wire = Wire(chip)
    keep = plug(wire)
    transport = CalTransport(1)
    if scenario == "absent":
        chip.machine.power_off()
    if scenario == "cut":
        chip.machine.cut_power_at(element_command=30, torn=4)
    try:
        report = provision_chip(transport, job)
    except FotaError as exc:
        out["first_error"] = str(exc)
        chip.machine.power_on()
        report = provision_chip(transport, job)
    again = provision_chip(transport, job)
    transport.close()
    del keep
    nvm = chip.nvm
    out |= {
        "device_id": report.device_id,
        "serial": chip.machine.element.serial.hex(),
        "locked": [nvm.config_locked, nvm.data_locked, *(s for s in range(16) if nvm.slot_locked(s))],
        "paired": nvm.io_key == report.record.io_key and bytes(nvm.slots[4][:32]) == report.record.mac_key,
        "roots": nvm.public_key(15) == job.root_a_xy and nvm.public_key(14) == job.root_b_xy,
        "changed_again": again.changed,
        "packets": wire.packets,
        "unmodelled": chip.machine.element.unmodelled,
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
