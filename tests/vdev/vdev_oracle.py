"""One CryptoAuthLib session on the chip model; run in its own process, because the library is global.

usage: vdev_oracle.py SCENARIO   prints one JSON object; locked and blank: on the wire; esp32c3: locked,
through the I2C controller of that chip's model
"""

import ctypes
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chip_host import ChipHost
from emulated_factory import provision_element
from vdev_esp32c3_wire import ControllerI2c

from fota_vdev.atecc608 import Atecc608
from fota_vdev.atecc608.crc import crc16
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_wire.host_chips import DEFAULT

OK, COMM_FAIL, UNIMPLEMENTED = 0, -16, -11

INIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
POST = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
SEND = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint8, ctypes.POINTER(ctypes.c_uint8), ctypes.c_int
)
RECV = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint8,
    ctypes.POINTER(ctypes.c_uint8),
    ctypes.POINTER(ctypes.c_uint16),
)
CONTROL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint8, ctypes.c_void_p, ctypes.c_size_t)
RELEASE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class Hal(ctypes.Structure):
    _fields_ = [
        *(("init", INIT), ("post", POST), ("send", SEND), ("recv", RECV)),
        *(("control", CONTROL), ("release", RELEASE)),
    ]


class Wire:
    """The library's I2C calls, put on a bus; the current address is read from its configuration."""

    def __init__(self, machine, i2c):
        self.machine, self.i2c = machine, i2c
        self.cfg = None
        self.address = 0x60

    def guarded(self, call):
        try:
            call()
        except OSError:
            return COMM_FAIL
        except Exception as exc:
            print(repr(exc), file=sys.stderr)
            return COMM_FAIL
        return OK

    def send(self, iface, word, data, n):
        target = ctypes.string_at(ctypes.cast(iface, ctypes.POINTER(ctypes.c_void_p))[0] + 8, 1)[0]

        def call():
            i2c = self.i2c
            if target == 0:
                try:
                    i2c.writeto(0, b"")
                finally:
                    self.machine.sleep_us(1500)
                return
            body = ctypes.string_at(data, n) if data and n else b""
            i2c.writeto(target >> 1, bytes([word]) + body)

        status = self.guarded(call)
        if status and target:
            self.machine.sleep_us(10_000)  # the library really sleeps 2 ms per poll: let fewer do
        return OK if target == 0 else status

    def recv(self, iface, address, data, n):
        def call():
            raw = self.i2c.readfrom(address >> 1, n[0])
            ctypes.memmove(data, raw, len(raw))

        return self.guarded(call)


def start(machine, i2c):
    import cryptoauthlib as cal
    from cryptoauthlib.library import get_cryptoauthlib

    cal.load_cryptoauthlib()
    lib = get_cryptoauthlib()
    wire = Wire(machine, i2c)
    hal = Hal(
        INIT(lambda iface, cfg: OK), POST(lambda iface: OK), SEND(wire.send), RECV(wire.recv),
        CONTROL(lambda iface, option, p, n: UNIMPLEMENTED), RELEASE(lambda p: OK),
    )  # fmt: skip
    old, phy = ctypes.c_void_p(), ctypes.c_void_p()
    status = lib.hal_iface_register_hal(0, ctypes.byref(hal), ctypes.byref(old), None, ctypes.byref(phy))
    assert status == 0, status
    cfg = cal.cfg_ateccx08a_i2c_default()
    cfg.devtype = 3
    cfg.cfg.atcai2c.address = 0xC0
    cfg.cfg.atcai2c.baud = 100000
    assert cal.atcab_init(cfg) == 0
    return cal, (hal, cfg, wire)


class Forger:
    """Somebody on the bus who turns every miscompare into success."""

    def on_write(self, address, data):
        return data

    def on_read(self, address, data):
        if data == b"\x04":
            self.armed = True
            return data
        if data == b"\x01" + crc16(b"\x04\x01"):
            return b"\x00" + crc16(b"\x04\x00")
        return data


def main():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

    def raw_sign(key, digest):
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def xy(key):
        n = key.public_key().public_numbers()
        return n.x.to_bytes(32, "big") + n.y.to_bytes(32, "big")

    by_controller = sys.argv[1] == "esp32c3"
    machine = Machine(element=Atecc608(seed=5), chip=MODELS["esp32c3" if by_controller else DEFAULT])
    machine.power_on()
    host = ChipHost(machine.i2c, machine.sleep_us)
    root = ec.generate_private_key(ec.SECP256R1())
    io_key, mac_key = bytes(range(32)), bytes(range(32, 64))
    blank = sys.argv[1] == "blank"
    if not blank:
        provision_element(machine, io_key=io_key, mac_key=mac_key, root_a_xy=xy(root), root_b_xy=xy(root))
    cal, *_keep = start(machine, ControllerI2c(machine) if by_controller else machine.i2c)
    out = {"machine_serial": machine.element.serial.hex()}

    def buf(n):
        return bytearray(n)

    digest = bytes(range(100, 132))
    good, evil = raw_sign(root, digest), raw_sign(ec.generate_private_key(ec.SECP256R1()), digest)

    b = buf(4)
    out["info"] = [cal.atcab_info(b), b.hex()]
    b = buf(9)
    out["serial"] = [cal.atcab_read_serial_number(b), b.hex()]
    b = buf(32)
    out["random"] = [cal.atcab_random(b), b.hex()]
    b = buf(128)
    out["config"] = [cal.atcab_read_config_zone(b), b.hex()]
    out["model_config"] = machine.element.nvm.read_config().hex()
    locked = cal.AtcaReference(False)
    out["locked_config"] = [cal.atcab_is_locked(0, locked), bool(locked.value)]
    locked = cal.AtcaReference(False)
    out["locked_data"] = [cal.atcab_is_locked(1, locked), bool(locked.value)]
    if blank:
        b = buf(64)
        out["genkey_unlocked"] = [cal.atcab_genkey(0, b)]
        out["write_config"] = [cal.atcab_write_zone(0, 0, 1, 0, bytes(32), 32)]
        out["write_serial"] = [cal.atcab_write_zone(0, 0, 0, 0, bytes(4), 4)]
        print(json.dumps(out))
        return
    c = cal.AtcaReference(0)
    out["counter"] = [cal.atcab_counter_read(0, c), int(c.value)]
    c = cal.AtcaReference(0)
    out["increment"] = [cal.atcab_counter_increment(0, c), int(c.value)]
    c = cal.AtcaReference(0)
    out["counter_after"] = [cal.atcab_counter_read(0, c), int(c.value)]

    def verify(call):
        v = cal.AtcaReference(False)
        status = call(v)
        return [status, bool(v.value)]

    out["verify_good"] = verify(lambda v: cal.atcab_verify_stored(digest, good, 15, v))
    out["verify_evil"] = verify(lambda v: cal.atcab_verify_stored(digest, evil, 15, v))
    nonce = bytes(range(200, 232))
    out["verify_mac_good"] = verify(lambda v: cal.atcab_verify_stored_mac(digest, good, 15, nonce, io_key, v))
    out["verify_mac_evil"] = verify(lambda v: cal.atcab_verify_stored_mac(digest, evil, 15, nonce, io_key, v))
    out["verify_mac_wrong_io_key"] = verify(
        lambda v: cal.atcab_verify_stored_mac(digest, good, 15, nonce, bytes(32), v)
    )
    out["verify_private_slot"] = verify(lambda v: cal.atcab_verify_stored(digest, good, 0, v))
    out["verify_data_slot"] = verify(lambda v: cal.atcab_verify_stored(digest, good, 8, v))
    out["verify_extern_good"] = verify(lambda v: cal.atcab_verify_extern(digest, good, xy(root), v))
    out["verify_extern_evil"] = verify(lambda v: cal.atcab_verify_extern(digest, evil, xy(root), v))
    pub = buf(64)
    out["public_key"] = [cal.atcab_get_pubkey(0, pub), pub.hex()]
    out["host_public_key"] = host.public_key(0).hex()
    sig = buf(64)
    out["sign"] = [cal.atcab_sign(0, digest, sig)]
    out["sign_verifies"] = verify(lambda v: cal.atcab_verify_extern(digest, sig, pub, v))
    sig2 = buf(64)
    out["sign_internal_only_slot"] = [cal.atcab_sign(1, digest, sig2)]
    out["sign_public_slot"] = [cal.atcab_sign(15, digest, sig2)]
    out["genkey_locked_slot"] = [cal.atcab_genkey(0, buf(64))]
    out["genkey_free_slot"] = [cal.atcab_genkey(2, buf(64))]
    out["write_locked_config"] = [cal.atcab_write_zone(0, 0, 1, 0, bytes(32), 32)]
    out["write_locked_root"] = [cal.atcab_write_zone(2, 15, 0, 0, bytes(32), 32)]
    out["write_free_slot"] = [cal.atcab_write_zone(2, 8, 0, 0, bytes(range(32)), 32)]
    b = buf(32)
    out["read_free_slot"] = [cal.atcab_read_zone(2, 8, 0, 0, b, 32), b.hex()]
    out["read_secret_slot"] = [cal.atcab_read_zone(2, 4, 0, 0, buf(32), 32)]
    b = buf(64)
    out["read_root"] = [cal.atcab_read_pubkey(15, b), b.hex()]
    out["root"] = xy(root).hex()
    b = buf(32)
    out["nonce"] = [cal.atcab_nonce_rand(bytes(20), b)]
    b = buf(32)
    out["sha"] = [cal.atcab_sha(130, bytes(130), b), b.hex()]
    machine.i2c_tamper = Forger()
    out["forged_plain"] = verify(lambda v: cal.atcab_verify_stored(digest, evil, 15, v))
    out["forged_mac"] = verify(lambda v: cal.atcab_verify_stored_mac(digest, evil, 15, nonce, io_key, v))
    out["unmodelled"] = machine.element.unmodelled
    print(json.dumps(out))


if __name__ == "__main__":
    main()
