"""Runs all cases of `vdev_cal_cases` with CryptoAuthLib on one chip model, and prints the outcome as JSON.

The library is global, so it has a process of its own: ``python vdev_cal.py``. It calls the C functions by
name, so that nothing of the wheel's Python wrapper stands between; every call is counted.
"""

import ctypes
import hashlib
import json
import traceback
from collections import Counter

import vdev_oracle

from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine

OK, EXECUTION, MISCOMPARE, PARSE, ECC_FAULT, SELF_TEST = 0, -12, -47, -46, -45, -41
CONFIG, OTP, DATA = 0, 1, 2

# slot: (SlotConfig, KeyConfig), as they stand in the configuration zone
SLOTS = {
    0: ("8720", "3300"),  # private: signs, ECDH in clear
    1: ("8720", "7300"),  # private: wants a random nonce
    2: ("8f20", "3300"),  # private: ECDH goes to slot 3
    3: ("c444", "3c00"),  # secret, read and written encrypted under slot 4
    4: ("8f0f", "3c00"),  # MAC key, and the key of encrypted transfers and of authorisation
    5: ("8f0f", "3800"),  # AES key
    6: ("9f0f", "3c00"),  # IO protection key, NoMac
    7: ("8f8f", "1c00"),  # SecureBoot digest
    8: ("0f0f", "3c00"),  # free data
    9: ("c444", "3c00"),  # secret, encrypted
    10: ("8f0f", "bc04"),  # MAC key that wants authorisation by slot 4
    11: ("0f0f", "3000"),  # public key, parent of slot 14
    12: ("8720", "3310"),  # private: wants the persistent latch
    13: ("af0f", "3c00"),  # MAC key of limited use
    14: ("0b1f", "3200"),  # public key that wants validation by slot 11
    15: ("0f0f", "3000"),  # public key of SecureBoot
}
SECURE_BOOT, CHIP_OPTIONS, LATCH_PERMISSION, KDF_IV = "0bf7", "0660", 0x84, "096976"
KEYS = {slot: hashlib.sha256(b"slot %d" % slot).digest() for slot in (4, 5, 6, 10, 13)}


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def buffer(n):
    return ctypes.create_string_buffer(n)


def lab_config(zone):
    """Return a blank chip's configuration zone with this laboratory's rules in it."""
    made = bytearray(zone)
    for slot, (slot_config, key_config) in SLOTS.items():
        made[20 + 2 * slot : 22 + 2 * slot] = bytes.fromhex(slot_config)
        made[96 + 2 * slot : 98 + 2 * slot] = bytes.fromhex(key_config)
    made[69], made[70:72], made[72:75] = LATCH_PERMISSION, bytes.fromhex(SECURE_BOOT), bytes.fromhex(KDF_IV)
    made[90:92] = bytes.fromhex(CHIP_OPTIONS)
    made[88:90] = b"\xff\xff"
    return bytes(made)


class Library:
    """lib("atcab_x", ...) calls a C function; whole numbers go as 64 bits, bytes and buffers as pointers."""

    def __init__(self, lib):
        self._lib = lib
        self.calls = Counter()

    def __call__(self, name, *args):
        self.calls[name] += 1
        return getattr(self._lib, name)(*(ctypes.c_uint64(a) if isinstance(a, int) else a for a in args))

    def out(self, name, *args, size):
        """Call with a buffer of ``size`` bytes as last argument; return what came, after success."""
        raw = buffer(size)
        status = self(name, *args, raw)
        assert status == OK, f"{name}: status {status}"
        return raw.raw

    def flag(self, name, *args):
        """Call with a bool as last argument; return (status, flag)."""
        told = ctypes.c_bool(False)
        status = self(name, *args, ctypes.byref(told))
        return status, told.value

    def number(self, name, *args):
        """Call with a uint32 as last argument; return it, after success."""
        told = ctypes.c_uint32(0)
        status = self(name, *args, ctypes.byref(told))
        assert status == OK, f"{name}: status {status}"
        return told.value


class Lab:
    """What a case works with: the library, the model under it, and the keys of the host."""

    def __init__(self):
        from cryptography.hazmat.primitives.asymmetric import ec

        self.machine = Machine(element=Atecc608(seed=77))
        self.machine.power_on()
        self.cal, *self._keep = vdev_oracle.start(self.machine, self.machine.i2c)
        from cryptoauthlib.library import get_cryptoauthlib

        self.lib = Library(get_cryptoauthlib())
        self.root, self.parent, self.peer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.public = {}

    @property
    def nvm(self):
        return self.machine.element.nvm

    @property
    def sn(self):
        return self.machine.element.serial

    def temp_key(self, num_in=bytes(20)):
        """Load a random nonce; return the TempKey that the host computes."""
        drawn = self.lib.out("atcab_nonce_rand", num_in, size=32)
        return sha(drawn, num_in, b"\x16\x00\x00")

    def prove(self, slot=4):
        """Prove to the chip that the host knows the key of ``slot``, by CheckMac over a random nonce."""
        return self.lib("atcab_checkmac", 1, slot, bytes(32), *self.check_mac(slot, self.temp_key()))

    def check_mac(self, slot, challenge):
        other = bytes([8, 1, slot, 0]) + bytes(9)
        message = KEYS[slot] + challenge + other[:4] + bytes(8) + other[4:7]
        return sha(message, self.sn[8:9], other[7:11], self.sn[:2], other[11:13]), other


def run():
    from vdev_cal_cases import CASES

    lab, outcome = Lab(), []
    for functions, case in CASES:
        before = Counter(lab.lib.calls)
        try:
            case(lab)
            error = ""
        except Exception:
            error = traceback.format_exc()
        missing = [name for name in functions if not (lab.lib.calls - before)[name]]
        claim = case.__name__
        outcome.append({"claim": claim, "functions": functions, "error": error, "missing": missing})
    return {"cases": outcome, "calls": lab.lib.calls, "unmodelled": lab.machine.element.unmodelled}


if __name__ == "__main__":
    print(json.dumps(run()))
