"""Reads a factory HEX with the eyes of the device that will live with it: bootloader first, then agent.

Its pages are write-protected and its keys leave the record with it, so what a device would refuse is found
here, with the same functions that the device runs, or never mended.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from fota_signer import images
from fota_signer.factory import esp_flash
from fota_signer.factory.flash import layout_words, load_hex
from fota_wire import host_root, settings
from fota_wire import root as roots
from fota_wire.address import parse_url
from fota_wire.chips import stm32l476
from fota_wire.cose import key_hash
from fota_wire.errors import FotaError, VerifyError
from fota_wire.host_ca import DEVICE_CA, SERVER_CA, der_certificate, der_certificates, require_ca, time_faults
from fota_wire.host_chips import DEFAULT, ESPRESSIF, STM32, Stm32
from fota_wire.host_chips import Chip as ChipRow
from fota_wire.host_crypto import verify
from fota_wire.host_x509 import issued_certificate, key_for
from fota_wire.image import VENDOR_ID, Image, parse_image
from fota_wire.status import label

ERASED = b"\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The board: the ``row`` of its microcontroller, and what its element holds: ``serial``, firmware roots
    and ``identity`` as x||y (None: not known), the ``floor`` of the security counter. ``device_ca``: that of
    the device's certificate, if it is at hand. ``read_url``: the agent's own reader of a server's URL; raises
    FotaError.
    """

    serial: bytes
    root_a_xy: bytes
    root_b_xy: bytes
    identity: bytes | None
    floor: int
    read_url: Callable[[str], object]
    device_ca: x509.Certificate | None = None
    row: ChipRow = stm32l476
    at: datetime | None = None


def require_livable(text: str, name: str, chip: Chip) -> Image:
    """Return the first image of a factory HEX that its device can boot, update and connect with.

    Raises:
        VerifyError: it cannot; says why, all of it; code ``factory``.
    """
    view = _View(text, name, chip)
    if view.faults:
        raise VerifyError(f"not written, since {'; '.join(view.faults)}", "factory")
    return view.first_image()


class _Stm32View:
    """The banks of an STM32 as its bootloader and agent see them."""

    def __init__(self, row: Stm32) -> None:
        self._row = row
        self._flash = {bank: bytearray(ERASED * row.BANK_SIZE) for bank in (1, 2)}

    def settings_page(self) -> bytes:
        """Return the settings, 256 bytes."""
        return self._at_offset(self._row.SETTINGS_OFFSET, settings.SIZE)

    def trust_store(self) -> bytes:
        """Return the whole room of the trust store."""
        return self._at_offset(self._row.TRUST_STORE_OFFSET, self._row.TRUST_STORE_SIZE)

    def slot(self) -> bytes:
        """Return slot A."""
        return self._at_offset(self._row.SLOT_OFFSET, self._row.SLOT_SIZE)

    def faults(self, page: settings.Settings | None) -> list[str]:
        """Return what is wrong with the places: none of them can be elsewhere here."""
        return ["the settings page holds places of an ESP32"] if page and any(page.places) else []

    def _at_offset(self, offset: int, size: int, bank: int = 1) -> bytes:
        return bytes(self._flash[bank][offset : offset + size])

    def load(self, parts: list[tuple[int, bytes]]) -> None:
        """Take what a HEX holds. VerifyError: something is where the factory does not write."""
        row = self._row
        for address, data in parts:
            bank, offset = divmod(address - row.FLASH_BASE, row.BANK_SIZE)
            end = row.SLOT_OFFSET + (row.SLOT_SIZE if bank == 0 else 0)
            if bank + 1 not in row.FACTORY_BANKS or offset + len(data) > end:
                raise VerifyError(
                    f"0x{address:08x} + {len(data)} bytes is not where the factory of chip {row.NAME} writes"
                )
            self._flash[bank + 1][offset : offset + len(data)] = data

    def check_bootloader(self) -> None:
        """Check what a reset starts, whichever bank it finds low."""
        row = self._row
        stack, reset = struct.unpack("<II", self._at_offset(row.BOOTLOADER_OFFSET, 8))
        if not row.RAM_BASE < stack <= row.RAM_BASE + row.RAM_SIZE or stack % 8:
            raise VerifyError(f"initial stack pointer 0x{stack:08x} is outside RAM")
        if not reset & 1 or not 8 <= reset - row.FLASH_BASE < row.BOOTLOADER_SIZE:
            raise VerifyError(f"reset vector 0x{reset:08x} is outside it")
        for bank in row.FACTORY_BANKS[1:]:
            if self._at_offset(0, row.LAYOUT_OFFSET, bank) != self._at_offset(0, row.LAYOUT_OFFSET):
                raise VerifyError(f"bank {bank} holds something else below its layout than bank 1")
        if row.LAYOUT_OFFSET < row.SLOT_OFFSET:
            for bank in row.FACTORY_BANKS:
                words = layout_words(row, bank)
                if self._at_offset(row.LAYOUT_OFFSET, len(words), bank) != words:
                    raise VerifyError(f"the layout in bank {bank} is not that of chip {row.NAME}")


def _view_of(row: ChipRow) -> "_Stm32View | esp_flash.View":
    espressif = ESPRESSIF.get(row.NAME)
    return _Stm32View(STM32[row.NAME]) if espressif is None else esp_flash.View(espressif)


class _View:
    """One look at a HEX; ``faults``: what was found, each a sentence without its end."""

    def __init__(self, text: str, name: str, chip: Chip) -> None:
        self._chip = chip
        self._at = chip.at or datetime.now(UTC)
        self.faults: list[str] = []
        self._row = row = chip.row
        self._flash = _view_of(row)
        with self._finding("the HEX"):
            self._flash.load(load_hex(text, name))
        page = store = None
        with self._finding("the settings page"):
            page = settings.unpack(self._flash.settings_page())
        with self._finding("the trust store"):
            store = settings.unpack_trust_store(self._flash.trust_store())
        with self._finding("the bootloader"):
            self._flash.check_bootloader()
        self.faults += self._flash.faults(page)
        if page is not None:
            self._look_at_settings(page)
        if store is not None:
            self._look_at_trust(store, page)

    def first_image(self) -> Image:
        """Return the image in slot A, well formed."""
        return parse_image(self._flash.slot(), in_flash=True, chip=self._row)

    @contextmanager
    def _finding(self, what: str) -> Iterator[None]:
        """Note a refusal as a fault of ``what``."""
        try:
            yield
        except FotaError as exc:
            status = f"{label(exc.code)}: " if isinstance(exc.code, int) else ""
            self.faults.append(f"{what}: {status}{exc}")

    def _look_at_settings(self, page: settings.Settings) -> None:
        """Check what the bootloader goes by, and the image as it will."""
        chip = self._chip
        if page.serial != chip.serial:
            self.faults.append("the settings page names another crypto element")
        if (page.root_a, page.root_b) != (key_hash(chip.root_a_xy), key_hash(chip.root_b_xy)):
            self.faults.append("the settings page names other firmware roots than the element holds")
        if chip.root_a_xy == chip.root_b_xy:
            self.faults.append("firmware roots A and B are the same key")
        with self._finding("the first image"):
            image = self.first_image()
            device = images.Device(
                (chip.root_a_xy, chip.root_b_xy), page.class_id, chip.floor, page.max_step, chip=self._row
            )
            images.check_image(self._flash.slot()[: image.size], device)

    def _look_at_trust(self, store: settings.TrustStore, page: settings.Settings | None) -> None:
        """Check what the agent goes by."""
        if (store.chip or DEFAULT) != self._row.NAME:
            said = f"is for chip {store.chip}" if store.chip else f"names no chip, so it is for {DEFAULT}"
            self.faults.append(f"the trust store {said}, not for {self._row.NAME}")
        with self._finding("the server's URL"):
            parse_url(store.server_url)
            self._chip.read_url(store.server_url)
        with self._finding("the server's CA"):
            for certificate in der_certificates(bytes(store.server_ca), "its certificate"):
                require_ca(certificate, SERVER_CA, certificate.subject.rfc4514_string(), self._at)
        with self._finding("the device's certificate"):
            self._look_at_certificate(bytes(store.device_cert))
        with self._finding("the genesis ROOT"):
            self._look_at_root(roots.open_genesis(store.genesis_root, verify), page)
        if page is not None and store.class_id != page.class_id:
            self.faults.append("trust store and settings page name different device classes")
        with suppress(FotaError):  # no image at all: told with the settings
            if vendor_of(self.first_image()) not in (None, store.vendor_id):
                self.faults.append("the first image is of another vendor than the trust store")

    def _look_at_root(self, root: roots.Root, page: settings.Settings | None) -> None:
        step = settings.DEFAULT_MAX_STEP if page is None else page.max_step
        faults = host_root.root_faults(root, self._at)
        faults += host_root.reach_faults(root, self._chip.floor, step)
        known = {key_hash(xy) for xy in (self._chip.root_a_xy, self._chip.root_b_xy)}
        if root.image_keys and not known & root.image_keys.keys():
            faults.append("it names other IMAGE keys than firmware roots A and B")
        if known <= {*root.retired}:
            faults.append("it retires both firmware roots")
        self.faults += [f"the genesis ROOT: {fault}" for fault in faults]

    def _look_at_certificate(self, raw: bytes) -> None:
        certificate = der_certificate(raw, "it")
        xy = key_for(certificate, self._chip.serial.hex())
        if xy is None or xy != (self._chip.identity or xy):
            raise VerifyError("it is made out to another device or key")
        faults = time_faults(certificate, self._at)
        if faults:
            raise VerifyError(f"it {faults[0]}")
        if self._chip.device_ca is not None:
            require_ca(self._chip.device_ca, DEVICE_CA, "its CA", self._at)
            issued_certificate(raw, self._chip.device_ca, "it")


def vendor_of(image: Image) -> bytes | None:
    """Return the vendor UUID that an image names, or None: it names none."""
    return next((value for kind, value in image.protected if kind == VENDOR_ID), None)
