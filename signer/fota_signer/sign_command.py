"""``fota sign`` without the command-line library: the options, what they do, and a start that costs little.

A build calls this often, and importing click takes longer than everything else. So :func:`main` understands a
complete and correct ``fota sign`` line by itself and leaves every other (help, mistakes) to the click
command.
Named tuples here and in what it imports, because ``dataclasses`` would add a quarter to the start.
"""

import gc
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fota_wire.errors import InputError, StorageError
from fota_wire.files import STREAM, check_output, name_of, read_input, write_output
from fota_wire.host_keys import place_of
from fota_wire.host_kinds import FIRMWARE, PRIVATE, SECRET, require_kind
from fota_wire.host_values import UsageError, one_of, whole

if TYPE_CHECKING:
    from fota_wire.host_keys import Place
    from fota_wire.image import Image

VALUES = {
    "-o": "output",
    "--output": "output",
    "--key": "key",
    "--version": "version",
    "--security-counter": "security_counter",
    "--vendor-domain": "vendor_domain",
    "--class": "class_uuid",
    "--model": "model",
    "--password-file": "password_file",
    "--linked-for": "linked_for",
    "--header-size": "header_size",
    "--chip": "chip",
    "--prepare": "prepare",
    "--attach": "attach",
}
REPEATED = {"--leave-out": "leave_out"}
FLAGS = {
    "--force": "force",
    "--allow-example-keys": "allow_example_keys",
    "--json": "as_json",
    "--program": "program",
}
FILES = ("output", "password_file")
REQUIRED = ("output", "key", "version", "security_counter")


class SignOptions(NamedTuple):
    """Arguments of ``fota sign``, as typed."""

    source: Path
    output: Path
    key: "Path | Place"
    version: str
    security_counter: int
    vendor_domain: str | None = None
    class_uuid: str | None = None
    model: str | None = None
    password_file: Path | None = None
    linked_for: str | None = None
    header_size: str | None = None
    leave_out: tuple[str, ...] = ()
    force: bool = False
    allow_example_keys: bool = False
    as_json: bool = False
    program: bool = False
    chip: str | None = None
    prepare: Path | None = None
    attach: Path | None = None


class Ready(NamedTuple):
    """What is to be signed, once there is a key: ``sign`` takes it as ``key``. ``version`` is that which
    people write, ``notes`` are on the firmware.
    """

    sign: "Callable[..., tuple[bytes, Image]]"
    version: str
    notes: list[str]


def run(options: SignOptions) -> str:
    """Sign one file and return the line to print.

    Raises:
        FotaError: with nothing written. Prepared: as `Door`.
    """
    from fota_signer.signing import Door

    one = ready(options)
    door = Door(
        options.key, options.password_file, options.allow_example_keys, options.prepare, options.attach
    )
    data, image = one.sign(key=door.open("image"))
    write_output(options.output, data, force=options.force)
    return _summary(options, one, image)


def ready(options: SignOptions) -> Ready:
    """Return what is to be signed, all of it looked at that can be without the key. FotaError."""
    from fota_signer import identity
    from fota_wire.version import format_version, parse_version

    version = parse_version(options.version)
    device_class = identity.device_class(
        class_uuid=options.class_uuid, domain=options.vendor_domain, model=options.model
    )
    notes: list[str] = []
    payload, sign = prepared(options, notes)
    check_output(options.output, options.force)
    of_image = {"version": version, "sec_cnt": options.security_counter, "device_class": device_class}
    return Ready(partial(sign, payload, **of_image), format_version(version), notes)


def prepared(options: SignOptions, notes: list[str]) -> tuple[bytes, Callable[..., tuple[bytes, "Image"]]]:
    """Do as `_prepare`, and name a file that is farther than firmware ever is."""
    try:
        return _prepare(options, notes)
    except UsageError:
        raise
    except InputError:
        from fota_signer.factory.flash import refuse_factory_hex

        with suppress(StorageError):  # told already
            refuse_factory_hex(read_input(options.source), name_of(options.source))
        raise


def _prepare(options: SignOptions, notes: list[str]) -> tuple[bytes, Callable[..., tuple[bytes, "Image"]]]:
    """Return what is to be signed, and the function of `images` that does it; tell ``notes`` what there is to
    say about it.
    """
    from fota_signer import esp_files, firmware, images
    from fota_wire import host_chips

    named = None if options.chip is None else one_of(options.chip, host_chips.CHIPS, "--chip")
    chip = None if named is None else host_chips.chip(named)
    source, name = read_input(options.source), name_of(options.source)
    hints = firmware.Hints(
        _number(options.linked_for, "--linked-for"),
        _number(options.header_size, "--header-size"),
        options.leave_out,
    )
    if options.program:
        if hints != firmware.NO_HINTS or chip is not None:
            what = "--linked-for, --header-size, --leave-out and --chip"
            raise UsageError(f"{what} are for firmware, not for a --program")
        from fota_signer.program import check_program

        notes.append(check_program(source, name))
        return source, partial(images.signed_payload, program=True)
    if esp_files.is_espressif(source, chip):
        from fota_signer.esp_firmware import load_application

        if hints[:2] != firmware.NO_HINTS[:2]:
            raise InputError("--linked-for and --header-size are for an STM32: an ESP32's image says it all")
        plain = load_application(source, name, chip, options.leave_out, notes.append)
        return plain, images.signed_application
    stm32 = None if named is None else host_chips.stm32(named)
    row = stm32 or host_chips.stm32(host_chips.DEFAULT)
    payload = firmware.load_firmware(source, name, hints, notes.append, row)
    return payload, partial(images.signed_payload, chip=stm32)


def _number(text: str | None, option: str) -> int | None:
    return None if text is None else whole(text, option, 0, 0xFFFFFFFF)


def parse(argv: list[str]) -> SignOptions | None:
    """Return the options of a complete and correct command line, None for any other."""
    found: dict[str, object] = {}
    repeated: dict[str, tuple[str, ...]] = {}
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if word in FLAGS:
            key: str = FLAGS[word]
            found[key] = True
        elif (name in VALUES or name in REPEATED) and (equals or word == name):
            text = value if equals else next(rest, None)
            if not text or text.startswith("-") or VALUES.get(name) in found:
                return None
            if name in REPEATED:
                repeated[REPEATED[name]] = (*repeated.get(REPEATED[name], ()), text)
            else:
                found[VALUES[name]] = _value(VALUES[name], text)
        elif word.startswith("-") or "source" in found:
            return None
        else:
            found["source"] = Path(word)
    if any(name not in found for name in ("source", *REQUIRED)) or {"prepare", "attach"} & found.keys():
        return None  # two steps are rare: the click command does them
    counter = str(found.pop("security_counter"))
    if not re.fullmatch("[1-9][0-9]{0,5}", counter) or any(map(_may_be_stream, found.values())):
        return None
    return SignOptions(security_counter=int(counter), **found, **repeated)  # type: ignore[arg-type]


def _value(name: str, text: str) -> object:
    return place_of(text) if name == "key" else Path(text) if name in FILES else text


def _may_be_stream(value: object) -> bool:
    return value == STREAM or (isinstance(value, Path) and value.parts[:2] in (("/", "dev"), ("/", "proc")))


def main(argv: list[str]) -> int | None:
    """Run ``fota sign`` with the arguments behind that word; None = not understood, let click have it.

    Raises:
        FotaError: as `run`.
    """
    options = parse(argv)
    if options is None:
        return None
    gc.disable()  # the process ends before there is anything to collect
    require_kind(options.source, (FIRMWARE,), "FIRMWARE")
    if isinstance(options.key, Path):
        require_kind(options.key, (PRIVATE,), "--key")
    if options.password_file is not None:
        require_kind(options.password_file, (SECRET,), "--password-file")
    print(run(options))
    return 0


def told(options: SignOptions, one: Ready, image: "Image") -> tuple[str, dict[str, object]]:
    """Return what is said of a signed image: a line, with the notes on its firmware below, and fields."""
    fields: dict[str, object] = {"output": str(options.output), "size": image.size}
    fields["version"] = one.version
    fields["security_counter"] = options.security_counter
    fields["class"] = image.class_id.hex()
    fields["file_digest"] = image.file_digest.hex()
    fields["notes"] = one.notes
    line = (
        f"{options.output}: {one.version}, security counter {options.security_counter},"
        f" {image.size} bytes, file digest {image.file_digest.hex()[:16]}"
    )
    return "\n".join([line, *(f"{options.source}: {note}" for note in one.notes)]), fields


def _summary(options: SignOptions, one: Ready, image: "Image") -> str:
    line, fields = told(options, one, image)
    if not options.as_json:
        return line
    import json

    return json.dumps(fields)
