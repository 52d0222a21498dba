"""The factory's record of one device: its pairing keys until the factory HEX holds them, then no secret.

A file ``<serial>.json``, mode 0600, replaced atomically and on disk before the chip gets the keys in it. So
a cut at any time leaves either a chip without our keys, or keys that are on disk too.
"""

import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from fota_wire.errors import FormatError, InputError
from fota_wire.files import making_folder, read_input, write_atomic

FORMAT = 1
TEXTS = ("certificate", "request")
SIZES = {"serial": 9, "address": 1, "root_a": 32, "root_b": 32}
OPTIONAL_SIZES = {"io_key": 32, "mac_key": 32, "identity": 64, "attestation": 64, "floor": 4, "latched": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """``address``: 7-bit, one byte. ``root_a``, ``root_b``: KEYHASHes. ``certificate``, ``request``: DER.
    ``floor``: the first security counter that may boot, u32. ``latched``: 01 if keys want a verified boot.

    None: not yet, or gone.
    """

    path: Path
    serial: bytes
    address: bytes
    root_a: bytes
    root_b: bytes
    io_key: bytes | None = None
    mac_key: bytes | None = None
    identity: bytes | None = None
    attestation: bytes | None = None
    floor: bytes | None = None
    latched: bytes | None = None
    certificate: bytes | None = None
    request: bytes | None = None

    def __repr__(self) -> str:
        """Name the device; never the keys."""
        return f"DeviceRecord({self.serial.hex()})"

    @property
    def has_secrets(self) -> bool:
        """True until the factory HEX holds the pairing keys."""
        return self.io_key is not None and self.mac_key is not None

    def save(self) -> "DeviceRecord":
        """Write the record; return it.

        Raises:
            StorageError: it cannot be written.
        """
        names = (*SIZES, *OPTIONAL_SIZES, *TEXTS)
        given = {name: getattr(self, name) for name in names}
        fields = {name: value.hex() for name, value in given.items() if value is not None}
        write_atomic(self.path, json.dumps({"format": FORMAT, **fields}, indent=1).encode(), 0o600)
        return self

    def without_secrets(self) -> "DeviceRecord":
        """Return the record as it is kept once the pairing keys have a better place."""
        return replace(self, io_key=None, mac_key=None)


def new_record(
    folder: Path, serial: bytes, address: int, root_a: bytes, root_b: bytes, floor: int, latched: bool
) -> DeviceRecord:
    """Make the pairing keys of a chip; they are on disk when this returns.

    Raises:
        StorageError: the folder or file cannot be written.
    """
    record = DeviceRecord(
        path=folder / f"{serial.hex()}.json",
        serial=serial,
        address=bytes([address]),
        root_a=root_a,
        root_b=root_b,
        floor=floor.to_bytes(4, "little"),
        latched=bytes([latched]),
        io_key=secrets.token_bytes(32),
        mac_key=secrets.token_bytes(32),
    )
    with making_folder(folder, 0o700):
        return record.save()


def find_record(folder: Path, serial: bytes) -> DeviceRecord | None:
    """Return the record of a chip, or None if there is none.

    Raises:
        FormatError: the file is none of ours, or of another chip.
    """
    path = folder / f"{serial.hex()}.json"
    if not path.exists():
        return None
    record = load_record(path)
    if record.serial != serial:
        raise FormatError(f"{path}: holds the record of chip {record.serial.hex()}")
    return record


def load_record(path: Path) -> DeviceRecord:
    """Return the record in a file.

    Raises:
        InputError: no such file, or not a record.
    """
    try:
        raw = json.loads(read_input(path, 65536))
        if raw.pop("format") != FORMAT:
            raise FormatError(f"{path}: a record of another format")
        fields = {name: bytes.fromhex(value) for name, value in raw.items()}
        wrong = [n for n, size in (SIZES | OPTIONAL_SIZES).items() if n in fields and len(fields[n]) != size]
        if wrong or set(fields) - {*SIZES, *OPTIONAL_SIZES, *TEXTS}:
            raise FormatError(f"{path}: a field of the record is wrong")
        return DeviceRecord(path=path, **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        if isinstance(exc, InputError):
            raise
        raise FormatError(f"{path}: not the record of a device") from exc
