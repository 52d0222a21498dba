"""How a Linux gateway comes about: what a factory line does for a chip, for one machine."""

import ctypes
import hashlib
import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fota_agent.boards.linux.gateway import Gateway
from fota_agent.boards.linux.launcher import check_slot
from fota_agent.boards.linux.pkcs11 import Pkcs11Element
from fota_cli.station import device_ca
from fota_signer.factory import ca, request
from fota_signer.identity import device_class
from fota_wire import host_root, image, layout, pkcs10, settings
from fota_wire import root as roots
from fota_wire.cose import key_hash
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.files import making_folder, name_of, read_input, read_line, write_atomic
from fota_wire.host_ca import GATEWAYS_SERVER_CA, joined_cas
from fota_wire.host_crypto import load_public_key, refuse_example_key, verify

if TYPE_CHECKING:
    from fota_wire.host_keys import Place

SERIAL_HEAD = b"\xf0"  # crypto elements begin with 01: no gateway can take one's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As for ``fota gateway init``."""

    image: Path
    image_keys: tuple[Path, ...]
    root: Path
    server: str
    server_ca: tuple[Path, ...]
    vendor_domain: str
    model: str
    module: str
    token: str
    pin_file: Path
    label: str
    ca_key: "Path | Place"
    ca_cert: Path
    password_file: Path | None
    allow_example_keys: bool
    campaign_group: str = ""


def make(folder: Path, options: Options) -> str:
    """Make the gateway in ``folder`` and return one line about it. What it will live with is checked before
    its key is made, its program last.

    Raises:
        FotaError: with the reason; ``folder`` is then no gateway.
    """
    options = replace(options, module=_module(options.module))
    settings_path = folder / "gateway.toml"
    if settings_path.exists():
        raise InputError(f"{folder} holds a gateway already")
    identity = device_class(class_uuid=None, domain=options.vendor_domain, model=options.model)
    if identity.vendor_id is None:
        raise InputError("name the vendor's domain")
    first = read_input(options.image)
    program = _program(first, name_of(options.image))
    keys = _image_keys(options)
    genesis_root = _genesis_root(options, keys, program.sec_cnt)
    server_url, server_ca = options.server, joined_cas(options.server_ca, GATEWAYS_SERVER_CA)
    serial = SERIAL_HEAD + secrets.token_bytes(8)
    trust = settings.TrustStore(
        genesis_root=genesis_root,
        server_ca=server_ca,
        device_cert=_certificate(options, serial),
        server_url=server_url,
        vendor_id=identity.vendor_id,
        class_id=identity.class_id,
        group=options.campaign_group,
    )
    with making_folder(folder):
        write_atomic(folder / "trust.cbor", settings.pack_trust_store(trust))
        write_atomic(folder / "slot-a", first, 0o600)
        write_atomic(settings_path, _settings(options, serial, keys).encode())
    try:
        check_slot(Gateway(folder), layout.SLOT_A, 0)
    except FotaError as exc:
        settings_path.unlink()
        raise type(exc)(f"{options.image}: this gateway would not run it: {exc}", exc.code) from exc
    version = ".".join(str(part) for part in program.version[:3])
    return f"{folder}: gateway {serial.hex()}, program {version}; next: fota gateway launch {folder}"


def _module(name: str) -> str:
    """Return the PKCS#11 module as the settings name it: absolute, wherever the agent is started; a bare
    name is the system's to find.

    Raises:
        InputError: it is none that can be loaded.
    """
    place = str(Path(name).absolute()) if "/" in name else name
    try:
        ctypes.CDLL(place)
    except OSError as exc:
        raise InputError(f"--module {name}: {str(exc).removeprefix(f'{place}: ')}") from exc
    return place


def _program(data: bytes, name: str) -> image.Image:
    try:
        return image.parse_image(data, programs=True)
    except FotaError as exc:
        raise type(exc)(f"{name}: {exc}; give what 'fota sign --program' made", exc.code) from exc


def _image_keys(options: Options) -> list[bytes]:
    keys = [load_public_key(path, "image") for path in options.image_keys]
    for path, xy in zip(options.image_keys, keys, strict=True):
        refuse_example_key(xy, options.allow_example_keys, name_of(path))
    return keys


def _genesis_root(options: Options, image_keys: list[bytes], floor: int) -> bytes:
    """Return the first ROOT of a gateway whose first program has the security counter ``floor``.

    Raises:
        FotaError: it is none, or one that this gateway could not live with.
    """
    raw, name = read_input(options.root, roots.MAX_ROOT), name_of(options.root)
    try:
        root = roots.open_genesis(raw, verify)
    except FotaError as exc:
        raise type(exc)(f"{name}: not a genesis ROOT: {exc}", exc.code) from exc
    for xy in root.keys.values():
        refuse_example_key(xy, options.allow_example_keys, name)
    faults = host_root.root_faults(root) + host_root.reach_faults(root, floor)
    known = {key_hash(xy) for xy in image_keys}
    if root.image_keys and not known & root.image_keys.keys():
        faults.append("it names other IMAGE keys than --image-key")
    if known <= {*root.retired}:
        faults.append("it retires every --image-key")
    if faults:
        raise VerifyError(f"{name}: this gateway could not live with it: {'; '.join(faults)}", "root")
    return raw


def _certificate(options: Options, serial: bytes) -> bytes:
    """Return the device certificate over the token's key, which is made if it is not there."""
    authority = device_ca(options.ca_key, options.ca_cert, options.password_file, options.allow_example_keys)
    pin = read_line(options.pin_file, "PIN").strip()
    element = Pkcs11Element(options.module, options.token, options.label, pin, serial)
    public = element.public_key(0) if element.has_key(0) else element.generate_key(0)
    digest = hashlib.sha256(pkcs10.request_info(serial.hex(), public)).digest()
    signed = request.certificate_request(serial.hex(), public, element.sign(digest))
    return ca.issue(signed, serial, authority)


def _settings(options: Options, serial: bytes, keys: list[bytes]) -> str:
    lines = [
        "# The gateway's settings: what is write-protected flash on a chip. For root alone to write.",
        f"device_id = {_text(serial.hex())}",
        "",
        "[image]",
        f"keys = [{', '.join(_text(xy.hex()) for xy in keys)}]",
        f"tries = {settings.DEFAULT_TRIES}",
        "",
        "[element]",
        'kind = "pkcs11"',
        f"module = {_text(options.module)}",
        f"token = {_text(options.token)}",
        f"label = {_text(options.label)}",
        f"pin_file = {_text(str(options.pin_file.resolve()))}",
        "",
        "# [health]  command = [...]: exit code 0 = the new program is healthy; else it writes run/health",
        '# [updates] mode = "auto", "notify", "defer" (until = ...) or "off"; windows = ["02:00-04:30"]',
        '#           mirror = "http://..."; tls12 = true',
    ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Return a TOML string; JSON's are."""
    return json.dumps(value, ensure_ascii=False)
