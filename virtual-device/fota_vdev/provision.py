"""A blank chip and blank flash become a locked, paired device, over the packets that a factory would send."""

import base64
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from fota_vdev.machine import Machine
from fota_vdev.parts.elf import segments
from fota_vdev.wires.host import ChipHost
from fota_wire.attestation import EXTENSION_OID, extension_value
from fota_wire.cose import key_hash
from fota_wire.element import (
    ATTESTATION_SLOT,
    IDENTITY_SLOT,
    IO_SLOT,
    LOCKED_SLOTS,
    MAC_SLOT,
    NEXT_SLOT,
    ROOT_A_SLOT,
    ROOT_B_SLOT,
    crc16,
    wanted_config,
)
from fota_wire.errors import DeviceError, InputError, VerifyError
from fota_wire.files import read_input
from fota_wire.host_crypto import load_private_key, load_public_key, public_xy, verify
from fota_wire.image import parse_image
from fota_wire.layout import (
    BOOTLOADER_OFFSET,
    BOOTLOADER_SIZE,
    FLASH_BASE,
    SETTINGS_OFFSET,
    SLOT_OFFSET,
    TRUST_STORE_OFFSET,
)
from fota_wire.settings import (
    DEFAULT_MAX_STEP,
    DEFAULT_TRIES,
    DEFAULT_WATCHDOG_S,
    Settings,
    TrustStore,
    pack,
    pack_trust_store,
)
from fota_wire.status import IM10
from fota_wire.version import format_version

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

LARGEST_CERTIFICATE = 1024


def provision_element(
    host: ChipHost, *, io_key: bytes, mac_key: bytes, root_a_xy: bytes, root_b_xy: bytes
) -> tuple[bytes, bytes]:
    """Configure, key and lock a blank chip; return X||Y of its identity and of its attestation key.

    Raises:
        DeviceError: the chip does not answer, or refuses: it is not blank.
    """
    before = host.read_config()
    wanted = wanted_config(before)
    for offset in [*range(16, 84, 4), *range(88, 128, 4)]:
        if wanted[offset : offset + 4] != before[offset : offset + 4]:
            host.write_config_word(offset, wanted[offset : offset + 4])
    host.lock_config(crc16(wanted))
    identity = host.generate_key(IDENTITY_SLOT)
    attestation = host.generate_key(ATTESTATION_SLOT)
    host.generate_key(NEXT_SLOT)
    host.write_slot(MAC_SLOT, mac_key)
    host.write_slot(IO_SLOT, io_key)
    host.write_public_key(ROOT_A_SLOT, root_a_xy)
    host.write_public_key(ROOT_B_SLOT, root_b_xy)
    for slot in LOCKED_SLOTS:
        host.lock_slot(slot)
    host.lock_data()
    return identity, attestation


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """What the factory writes down of a device. No secret is in it."""

    device_id: str
    identity_key: bytes
    certificate_der: bytes
    revision: str
    image_version: str
    protected_pages: str = "bank 1, pages 0-7"

    def as_dict(self) -> dict[str, object]:
        """Return the report for JSON."""
        return {
            "device_id": self.device_id,
            "identity_key": self.identity_key.hex(),
            "certificate": certificate_pem(self.certificate_der),
            "element_revision": self.revision,
            "image_version": self.image_version,
            "write_protected": self.protected_pages,
        }


def certificate_pem(der: bytes) -> str:
    """Return a certificate in PEM."""
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def device_certificate(
    *,
    serial: bytes,
    public_xy: bytes,
    attestation_xy: bytes,
    ca_key: "EllipticCurvePrivateKey",
    ca_cert: "Certificate",
) -> bytes:
    """Return the device certificate, DER: CN = 18 hex digits of the element's serial, TLS client only."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public_xy)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, serial.hex())])
    now = datetime.now(UTC).replace(microsecond=0)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca_cert.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(EXTENSION_OID), extension_value(attestation_xy)),
            critical=False,
        )
    )
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.DER)


def load_device_ca(
    key: Path, cert: Path, password: bytes | None, *, allow_example_keys: bool
) -> tuple["EllipticCurvePrivateKey", "Certificate"]:
    """Return key and certificate of the device CA.

    Raises:
        InputError: a file is missing or no such thing, or the two do not belong together.
        VerifyError: a published example key, which was not allowed.
    """
    from cryptography.x509 import load_pem_x509_certificate

    private = load_private_key(key, password, allow_example_keys)
    try:
        certificate = load_pem_x509_certificate(read_input(cert, 65536))
    except ValueError as exc:
        raise InputError(f"{cert}: not a certificate in PEM") from exc
    if load_public_key(cert) != public_xy(private):
        raise InputError(f"{key} is not the key of the certificate {cert}")
    return private, certificate


def bootloader_image(path: Path) -> bytes:
    """Return the bootloader's bytes from bank offset 0 on.

    Raises:
        InputError: not an ELF of a bootloader for this layout.
    """
    out = bytearray()
    for address, data in segments(path):
        offset = address - FLASH_BASE
        if offset < 0 or offset + len(data) > BOOTLOADER_SIZE:
            raise InputError(f"{path}: 0x{address:08x} + {len(data)} bytes is outside the bootloader's 8 KiB")
        out.extend(b"\xff" * (offset + len(data) - len(out)))
        out[offset : offset + len(data)] = data
    if not out:
        raise InputError(f"{path}: nothing to load")
    return bytes(out)


def provision(
    machine: Machine,
    *,
    bootloader_elf: Path,
    image: bytes,
    class_id: bytes,
    vendor_id: bytes,
    root_a_xy: bytes,
    root_b_xy: bytes,
    genesis_root: bytes,
    server_ca_der: bytes,
    server_url: str,
    device_ca_key: Path,
    device_ca_cert: Path,
    tries: int = DEFAULT_TRIES,
    watchdog_s: int = DEFAULT_WATCHDOG_S,
    max_step: int = DEFAULT_MAX_STEP,
    ca_password: bytes | None = None,
    allow_example_keys: bool = False,
) -> DeviceReport:
    """Make a blank machine a device that boots ``image`` from slot A. The machine is left without power.

    Everything that can be wrong with the inputs is found before the chip is touched: its locks are for ever.
    The two pairing secrets are made here, go into element and settings page, and nowhere else.

    Raises:
        InputError: an input is not what it has to be.
        DeviceError: the element does not answer or is not blank.
    """
    ca = load_device_ca(device_ca_key, device_ca_cert, ca_password, allow_example_keys=allow_example_keys)
    bootloader = bootloader_image(bootloader_elf)
    version = check_image(image, class_id, (root_a_xy, root_b_xy))
    if machine.element is None:
        raise DeviceError("the machine has no crypto element")
    machine.power_on()
    host = ChipHost(machine.i2c, machine.sleep_us)
    revision, serial = host.revision(), host.serial()
    io_key, mac_key = secrets.token_bytes(32), secrets.token_bytes(32)
    page = pack(
        Settings(
            class_id=class_id,
            serial=serial,
            io_key=io_key,
            mac_key=mac_key,
            root_a=key_hash(root_a_xy),
            root_b=key_hash(root_b_xy),
            tries=tries,
            watchdog_s=watchdog_s,
            max_step=max_step,
        )
    )

    def trust_store(certificate: bytes) -> bytes:
        return pack_trust_store(
            TrustStore(
                genesis_root=genesis_root,
                server_ca=server_ca_der,
                device_cert=certificate,
                server_url=server_url,
                vendor_id=vendor_id,
                class_id=class_id,
            )
        )

    trust_store(bytes(LARGEST_CERTIFICATE))  # refused now, or not at all
    identity, attestation = provision_element(
        host, io_key=io_key, mac_key=mac_key, root_a_xy=root_a_xy, root_b_xy=root_b_xy
    )
    certificate = device_certificate(
        serial=serial, public_xy=identity, attestation_xy=attestation, ca_key=ca[0], ca_cert=ca[1]
    )
    machine.power_off()
    write_flash(machine, bootloader, trust_store(certificate), page, image)
    return DeviceReport(
        device_id=serial.hex(),
        identity_key=identity,
        certificate_der=certificate,
        revision=revision.hex(),
        image_version=version,
    )


def check_image(image: bytes, class_id: bytes, roots: tuple[bytes, bytes]) -> str:
    """Return the version of the first image, which is for this class and signed by one of these roots.

    Raises:
        InputError, VerifyError: it is not.
    """
    parsed = parse_image(image)
    if parsed.class_id != class_id:
        raise InputError("the first image is made for another device class than --class-id says")
    root = next((xy for xy in roots if key_hash(xy) == parsed.key_hash), None)
    if root is None:
        raise InputError("the first image is signed by neither firmware root")
    if not verify(root, parsed.image_hash, parsed.signature):
        raise VerifyError("the first image has a bad signature", IM10)
    return format_version(parsed.version)


def write_flash(machine: Machine, bootloader: bytes, store: bytes, page: bytes, image: bytes) -> None:
    """Write bank 1 as the factory does and protect all of it below slot A."""
    flash = machine.flash
    flash.write_phys(1, BOOTLOADER_OFFSET, bootloader)
    flash.write_phys(1, TRUST_STORE_OFFSET, store)
    flash.write_phys(1, SETTINGS_OFFSET, page)
    flash.write_phys(1, SLOT_OFFSET, image)
    flash.protect(1, 0, SLOT_OFFSET // flash.geometry.page - 1)
