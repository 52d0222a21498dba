"""The element on real hardware, through Microchip's CryptoAuthLib (PyPI): an I2C bus or a USB kit.

The library is one global device per process, so only one such transport may be open at a time. It is used
for what it knows about buses alone: packets are ours, and go through its ``calib_execute_command``.
"""

import ctypes
from typing import TYPE_CHECKING, Any

from fota_signer.factory.packets import ADDRESSES
from fota_wire.errors import DeviceError, StorageError

if TYPE_CHECKING:
    from types import ModuleType

SUCCESS = 0
ATECC608 = 3
HEAD = 5
WAKE_DELAY_US, I2C_HZ = 1500, 100_000


class _Packet(ctypes.Structure):
    """ATCAPacket: what is sent; then what was received, from ``data`` on. With room to spare at its end."""

    _fields_ = (
        ("reserved", ctypes.c_uint8),
        ("txsize", ctypes.c_uint8),
        ("opcode", ctypes.c_uint8),
        ("param1", ctypes.c_uint8),
        ("param2", ctypes.c_uint16),
        ("data", ctypes.c_uint8 * 1018),
    )


def _load() -> "tuple[ModuleType, Any]":
    try:
        import cryptoauthlib
        from cryptoauthlib.library import get_cryptoauthlib
    except ImportError as exc:
        raise StorageError("real hardware needs Microchip's library: pip install cryptoauthlib") from exc
    cryptoauthlib.load_cryptoauthlib()
    return cryptoauthlib, get_cryptoauthlib()


class CalTransport:
    """A `Transport` over CryptoAuthLib. ``bus`` is the number of /dev/i2c-N; None takes the USB kit.

    Raises:
        StorageError: the library is not installed.
        DeviceError: it finds no such bus or kit.
    """

    def __init__(self, bus: int | None, address: int = 0x60) -> None:
        library, self._lib = _load()
        self._where = "the USB kit" if bus is None else f"I2C bus {bus}, address 0x{address:02x}"
        if bus is None:
            config = library.cfg_ateccx08a_kithid_default()
        else:
            config = library.cfg_ateccx08a_i2c_default()
            config.cfg.atcai2c.bus = bus
            config.cfg.atcai2c.address = address << 1
            config.cfg.atcai2c.baud = I2C_HZ
        config.devtype = ATECC608
        self._config = config  # the library keeps a pointer to it
        status = library.atcab_init(config)
        if status != SUCCESS:
            raise DeviceError(f"no crypto element on {self._where}: CryptoAuthLib status {status}")
        self._release = library.atcab_release
        self._lib.atcab_get_device.restype = ctypes.c_void_p
        self._lib.calib_execute_command.argtypes = (ctypes.c_void_p, ctypes.c_void_p)

    def execute(self, packet: bytes) -> bytes:
        """Return the response; the library wakes the chip, polls it, and sends it to idle."""
        frame = _Packet(
            txsize=packet[0], opcode=packet[1], param1=packet[2], param2=int.from_bytes(packet[3:5], "little")
        )
        body = packet[HEAD:]
        ctypes.memmove(frame.data, body, len(body))
        status = self._lib.calib_execute_command(ctypes.byref(frame), self._lib.atcab_get_device())
        raw = bytes(frame.data[: max(frame.data[0], 4)])
        if status != SUCCESS and (raw[0] != 4 or raw[:4] == packet[HEAD : HEAD + 4]):
            raise DeviceError(f"no answer from {self._where}: CryptoAuthLib status {status}; {ADDRESSES}")
        return raw

    def close(self) -> None:
        """Release the library's device."""
        self._release()
