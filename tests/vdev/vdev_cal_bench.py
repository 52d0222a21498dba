"""A chip whose locked memory the test lays out itself, and raw packets to it."""

import hashlib

from chip_host import ChipHost
from cryptography.hazmat.primitives.asymmetric import ec

from fota_vdev.atecc608 import Assumptions, Atecc608
from fota_vdev.atecc608.memory import SLOT_SIZES, Nvm, factory_config
from fota_vdev.atecc608.p256 import public_of
from fota_vdev.machine import Machine

SERIAL = bytes.fromhex("0123aabbccddee00ee")
# slot: (SlotConfig, KeyConfig), as in the configuration zone
RULES = {
    0: ("8720", "3300"),  # private: signs, ECDH, GenKey
    1: ("8720", "7300"),  # private: ReqRandom
    2: ("8f20", "3300"),  # private: ECDH into slot 3
    3: ("0f0f", "3c00"),  # where it goes
    4: ("8f0f", "3c00"),  # MAC key
    5: ("8f0f", "3800"),  # AES key
    6: ("9f0f", "3c00"),  # IO key, NoMac
    7: ("8f8f", "1c00"),  # SecureBoot digest
    8: ("0f0f", "3c00"),  # free
    9: ("c444", "3c00"),  # encrypted under slot 4
    10: ("8f0f", "bc04"),  # MAC key, ReqAuth by slot 4
    11: ("0f0f", "3000"),  # parent of slot 14
    12: ("8720", "3310"),  # private: PersistDisable
    13: ("af0f", "3c00"),  # MAC key, LimitedUse
    14: ("0b1f", "3200"),  # public, PubInfo
    15: ("0f0f", "3000"),  # SecureBoot key
}
KEY = {slot: hashlib.sha256(b"%d" % slot).digest() for slot in range(16)}
DIGEST = KEY[0]
SECURE_BOOT, CHIP_OPTIONS = 70, 90
OK, WRONG, PARSE, ECC, HEALTH, EXECUTION = (bytes([n]) for n in (0, 1, 3, 5, 7, 15))


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def root_key():
    """The key pair of slot 15."""
    return ec.derive_private_key(int.from_bytes(KEY[15], "big"), ec.SECP256R1())


def make_bench(assumptions=None, **config):
    return Bench(layout(**config), **(assumptions or {}))


def layout(**config):
    """Return a locked chip's memory; ``config`` gives bytes at offsets, as ``at_70=b".."``."""
    zone = bytearray(factory_config(SERIAL, bytes.fromhex("00006003")))
    slots = [bytearray(KEY[n].ljust(size, b"\0")[:size]) for n, size in enumerate(SLOT_SIZES)]
    for n, (slot_config, key_config) in RULES.items():
        zone[20 + 2 * n : 22 + 2 * n] = bytes.fromhex(slot_config)
        zone[96 + 2 * n : 98 + 2 * n] = bytes.fromhex(key_config)
        if int(key_config[1], 16) & 1:
            slots[n][:36] = bytes(4) + KEY[n]
        elif n in (11, 14, 15):
            xy = public_of(KEY[n])
            slots[n][:] = bytes([0xA0 if n == 14 else 0, 0, 0, 0]) + xy[:32] + bytes(4) + xy[32:]
    zone[SECURE_BOOT : SECURE_BOOT + 2], zone[CHIP_OPTIONS : CHIP_OPTIONS + 2] = b"\x03\xf7", b"\x06\x60"
    zone[86:90] = b"\x00\x00\xff\xff"
    for where, value in config.items():
        at = int(where.removeprefix("at_"))
        zone[at : at + len(value)] = value
    return Nvm(zone, slots=slots)


class Bench:
    """An awake chip; run("SHA", ...) gives the payload of its answer."""

    def __init__(self, nvm, **assumptions):
        self.machine = Machine(
            element=Atecc608(seed=3, nvm=nvm, assumptions=Assumptions(**assumptions)), seed=3
        )
        self.machine.power_on()
        self.chip = self.machine.element
        self.host = ChipHost(self.machine.i2c, self.machine.sleep_us)
        self.host.wake()

    def __call__(self, opcode, p1, p2=0, data=b""):
        answer = self.host.exchange(opcode, p1, p2, data)
        self.host.idle()
        self.host.wake()
        return answer

    def again(self):
        """Lose power, and come back."""
        if self.machine.powered:
            self.machine.power_off()
        self.machine.power_on()
        self.host.wake()

    def nonce(self):
        """Load a random TempKey and return it."""
        return sha(self(0x16, 0, 0, bytes(20)), bytes(20), b"\x16\0\0")

    def gen_dig(self, slot, no_mac=b""):
        """Mix a slot's key into a random TempKey; return it."""
        temp = self.nonce()
        assert self(0x15, 2, slot, no_mac) == OK
        return sha(KEY[slot], no_mac or bytes([0x15, 2, slot, 0]), b"\xee\x01\x23", bytes(25), temp)

    def prove(self, slot=4):
        """Prove a key by CheckMac over a random nonce."""
        temp, other = self.nonce(), bytes([8, 1, slot, 0]) + bytes(9)
        response = sha(KEY[slot], temp, other[:4], bytes(11), b"\xee", bytes(4), b"\x01\x23", bytes(2))
        return self(0x28, 1, slot, bytes(32) + response + other)

    @property
    def valid(self):
        """(TempKey, message digest buffer) hold something."""
        sram = self.chip._executor.sram
        return bool(sram.temp_key.value), bool(sram.message)


SIGNATURE = bytes(31) + b"\x01" + bytes(31) + b"\x01"
XY = public_of(KEY[9])
