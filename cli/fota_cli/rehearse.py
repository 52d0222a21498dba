"""``fota rehearse``: a release on virtual devices, before a real one sees it (docs/rehearsal.md)."""

import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_signer.cli import about, with_key
from fota_wire import host_kinds as kinds
from fota_wire.errors import InputError
from fota_wire.files import check_output, name_of, read_input, read_text, write_atomic, write_output
from fota_wire.host_options import (
    BOOTLOADER,
    FILE,
    FORCE,
    HEX,
    IMAGE_KEY_A,
    IMAGE_KEY_B,
    JSON,
    MANIFEST,
    PARTITIONS,
    ROOT,
    STAND_INS,
    Command,
    FileName,
    Whole,
    label_of,
)
from fota_wire.host_print import print_result, table
from fota_wire.host_values import UsageError, whole

if TYPE_CHECKING:
    from fota_cli.rehearse_device import Release
    from fota_cli.rehearse_plan import Row
    from fota_cli.rehearse_twin import Kit
    from fota_signer.signing import Door
    from fota_wire.host_chips import Chip
    from fota_wire.image import Image
    from fota_wire.suit import Manifest

RELEASE = FileName(kinds.IMAGE, kinds.ESPRESSIF, kinds.CARD)
LARGEST = 4 << 20


class Cuts(click.ParamType["int | None"]):
    """How many power cuts: a number, or None for ``all``."""

    name = "n|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "int | None":  # noqa: ANN401
        """Return the number."""
        from fota_cli.rehearse_plan import MOST_CUTS

        return None if value in (None, "all") else whole(str(value), label_of(param), 0, MOST_CUTS)


@click.command(cls=Command)
@click.argument("release", type=RELEASE)
@click.option("--manifest", "manifest_file", type=MANIFEST, help="Its manifest, where RELEASE is an image.")
@click.option(
    "--from",
    "fielded",
    type=RELEASE,
    multiple=True,
    help="A release that devices in the field run: its folder, or its image. Repeat.",
)
@click.option("--bootloader", type=BOOTLOADER, help="bootloader.elf (ESP32: or .bin) of those devices.")
@click.option("--hex", "hex_file", type=HEX, help="A factory HEX instead; its first image is one of --from.")
@click.option("--root", "root_file", type=ROOT, help="First ROOT document of those devices.")
@IMAGE_KEY_A
@IMAGE_KEY_B
@click.option("--partitions", type=PARTITIONS, help="Table of an ESP32, binary or CSV.  [one for 4 MiB]")
@click.option("--cuts", type=Cuts(), default="200", show_default=True, help="Power cuts from each release.")
@click.option(
    "--seed", type=Whole(), default=1, show_default=True, help="What is drawn: cuts, torn bits, breaks."
)
@click.option("--jobs", type=Whole(1, 256), help="Processes at a time.  [one for each core]")
@click.option(
    "--no-way-back", is_flag=True, help="The release raises the floor: going back has to be refused."
)
@click.option(
    "--stand-in",
    "stand_ins",
    type=STAND_INS,
    multiple=True,
    help="Peripherals that are not modelled: TOML, or a Python script, which is run. Repeat.",
)
@click.option(
    "--symbols", type=FileName(kinds.ELF), multiple=True, help="ELF of an application, for names. Repeat."
)
@click.option("-o", "--output", type=FILE, help="Signed attestation to write, if all went well; with --key.")
@with_key("EVIDENCE key, to sign the attestation", required=False)
@FORCE
@JSON
def rehearse(
    release: Path,
    manifest_file: Path | None,
    fielded: tuple[Path, ...],
    door: "Door",
    output: Path | None,
    force: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Play RELEASE on virtual devices: from every fielded release to it and back, with power cuts, failing
    self-test, hanging trial, full store, flaky network, and below the floor.

    The bootloader's and the applications' machine code runs, and the agent's code beside it. Exit code 1:
    something did not go as it has to; no attestation is written then.
    """
    place: Any = door.key
    if (output is None) != (place is None):
        raise UsageError("-o and --key go together: an attestation is signed")
    _require_one(given, fielded)
    key = None if place is None else door.open("evidence")
    if output is not None:
        check_output(output, force)
    image, parsed, envelope, steps, manifest = _release(release, manifest_file)
    from fota_cli import rehearse_plan as plan
    from fota_cli.rehearse_device import Release

    new = Release(name_of(release), image, parsed)
    kit, inputs, first = _kit(manifest, parsed, **given)
    olds = _fielded(fielded, first, new, kit.chip)
    inputs["fielded"] = [_said_of(old) for old in olds]
    with _card(image, envelope, parsed, steps) as folder, _ended_by_hand():
        rows = _play(kit, olds, new, folder, as_json=as_json, **given)
    predicate = plan.predicate(
        made={"id": "fota rehearse", "version": version_of("fota"), "unicorn": version_of("unicorn")},
        inputs=inputs,
        setting={
            "seed": given["seed"],
            "cuts": "all" if given["cuts"] is None else given["cuts"],
            "way_back": not given["no_way_back"],
        },
        rows=rows,
    )
    passed = predicate["result"] == "passed"
    if passed and key is not None and output is not None:
        from fota_wire import host_rehearsal, host_statement

        subjects = {parsed.file_digest.hex(): "image", manifest.manifest_digest.hex(): "manifest"}
        signed = host_statement.sign(subjects, host_rehearsal.PREDICATE_TYPE, predicate, [key])
        write_output(output, signed, force=force)
    _tell(rows, predicate, output if passed else None, new, as_json)
    if not passed:
        click.get_current_context().exit(1)


def _require_one(given: dict[str, Any], fielded: tuple[Path, ...]) -> None:
    if (given["bootloader"] is None) == (given["hex_file"] is None):
        raise UsageError("name one: --bootloader, with --root and --from, or --hex")
    if given["bootloader"] is not None and (given["root_file"] is None or not fielded):
        raise UsageError("--bootloader goes with --root, and with --from for each release in the field")
    if given["hex_file"] is not None and (given["root_file"] is not None or given["partitions"] is not None):
        raise UsageError("--root and --partitions go with --bootloader: a HEX holds its own")


# -- what is read --


def _release(
    path: Path, manifest_file: Path | None
) -> "tuple[bytes, Image, bytes, dict[str, bytes], Manifest]":
    """Return image, what it says, its envelope, ROOT documents beside it {name: bytes}, and its manifest.

    Raises:
        UsageError: an image without a manifest, or a folder with one more. InputError: they are none.
        VerifyError: they are not about each other.
    """
    from fota_wire import release as releases
    from fota_wire import suit
    from fota_wire.image import parse_image

    is_folder = path.is_dir()
    if is_folder == (manifest_file is not None):
        raise UsageError("--manifest goes with an image, and not with a folder, which has its own")
    steps: dict[str, bytes] = {}
    if is_folder:
        steps = {one.name: read_input(one, 65536) for one in sorted(path.glob("root-*.cbor"))}
    said = manifest_file or path / "manifest.suit"
    envelope = read_input(said, suit.MAX_ENVELOPE)
    with about(said):
        manifest = suit.unsafe_read_manifest(envelope)
    file = path / "payload" / manifest.digest.hex() if is_folder else path
    image = read_input(file, LARGEST)
    with about(file):
        parsed = parse_image(image)
        releases.check_pair(manifest, parsed)
    return image, parsed, envelope, steps, manifest


def _image_of(path: Path) -> "tuple[Path, bytes]":
    """Return the image that a folder or a file is."""
    from fota_wire import suit

    if not path.is_dir():
        return path, read_input(path, LARGEST)
    manifest = path / "manifest.suit"
    with about(manifest):
        digest = suit.unsafe_read_manifest(read_input(manifest, suit.MAX_ENVELOPE)).digest
    file = path / "payload" / digest.hex()
    return file, read_input(file, LARGEST)


def _fielded(paths: tuple[Path, ...], first: "bytes | None", new: "Release", chip: "Chip") -> "list[Release]":
    """Return the releases to begin with.

    Raises:
        InputError: none of this class and chip, or the new one itself.
    """
    from fota_cli.rehearse_device import Release
    from fota_wire.image import parse_image

    images = [_image_of(path) for path in paths]
    images += [] if first is None else [(Path("the HEX's image"), first)]
    found: dict[bytes, Release] = {}
    for path, data in images:
        with about(path):
            parsed = parse_image(data, chip=chip)
            if parsed.class_id != new.parsed.class_id:
                raise InputError("made for another device class than the release")
            if parsed.image_hash == new.parsed.image_hash:
                raise InputError("is the release itself: name what runs in the field")
        found.setdefault(parsed.image_hash, Release(name_of(path), data, parsed))
    return list(found.values())


def _kit(
    manifest: "Manifest",
    parsed: "Image",
    **given: Any,  # noqa: ANN401
) -> "tuple[Kit, dict[str, Any], bytes | None]":
    """Return what devices are made of, what an attestation says of it, and the image of a HEX."""
    from fota_cli.rehearse_device import Symbols
    from fota_cli.rehearse_twin import Kit, chip_of, image_in
    from fota_cli.station import firmware_roots
    from fota_signer.factory import esp_flash
    from fota_signer.factory.bootloaders import bootloader_image
    from fota_vdev import stand_in
    from fota_vdev.parts.elf import functions
    from fota_wire.cose import kid_of
    from fota_wire.host_chips import DEFAULT, ESPRESSIF
    from fota_wire.host_chips import chip as row_of
    from fota_wire.root import MAX_ROOT

    roots = firmware_roots(given["root_a"], given["root_b"], allow_example_keys=True)  # on no real chip
    stand_ins = [one for path in given["stand_ins"] for one in stand_in.load(path)]
    stand_in.require_apart(stand_ins)
    common: dict[str, Any] = {
        "root_a": roots[0],
        "root_b": roots[1],
        "seed": given["seed"],
        "stand_ins": stand_ins,
        "symbols": [Symbols(path.name, functions(path)) for path in given["symbols"]],
    }
    inputs: dict[str, Any] = {
        "image_keys": [kid_of(root).hex() for root in roots],
        "stand_ins": [_digest_of(path) for path in given["stand_ins"]],
    }
    if given["hex_file"] is not None:
        name, text = name_of(given["hex_file"]), read_text(given["hex_file"], 16 << 20)
        chip = chip_of(text, name)
        inputs |= {"chip": chip.NAME, "hex": {"sha256": hashlib.sha256(text.encode()).hexdigest()}}
        with about(given["hex_file"]):
            first = image_in(text, name, chip)
        return Kit(chip=chip, hex_text=text, **common), inputs, first
    chip = row_of(parsed.chip or DEFAULT)
    loader = read_input(given["bootloader"], LARGEST)
    espressif = ESPRESSIF.get(chip.NAME)
    if espressif is None and given["partitions"] is not None:
        raise InputError(f"--partitions is for an ESP32, and chip {chip.NAME} has no partition table")
    table_raw = None if given["partitions"] is None else read_input(given["partitions"], 16 << 20)
    genesis = read_input(given["root_file"], MAX_ROOT)
    inputs |= {
        "chip": chip.NAME,
        "bootloader": {"sha256": hashlib.sha256(loader).hexdigest()},
        "root": {"sha256": hashlib.sha256(genesis).hexdigest()},
    }
    kit = Kit(
        chip=chip,
        bootloader=bootloader_image(loader, name_of(given["bootloader"]), chip),
        table=b""
        if espressif is None
        else esp_flash.table_image(table_raw, espressif, str(given["partitions"])),
        genesis=genesis,
        vendor_id=manifest.vendor_id,
        **common,
    )
    if given["bootloader"].suffix != ".bin" and loader[:4] == b"\x7fELF":
        kit.symbols.append(Symbols(given["bootloader"].name, functions(given["bootloader"])))
    return kit, inputs, None


def _digest_of(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(read_input(path)).hexdigest()}


def _said_of(old: "Release") -> dict[str, Any]:
    return {
        "version": old.version,
        "security_counter": old.parsed.sec_cnt,
        "sha256": old.parsed.file_digest.hex(),
    }


@contextmanager
def _card(image: bytes, envelope: bytes, parsed: "Image", steps: dict[str, bytes]) -> Iterator[Path]:
    """The very bytes that were read, as a folder for agents."""
    with tempfile.TemporaryDirectory(prefix="fota-rehearse-") as name:
        folder = Path(name)
        (folder / "payload").mkdir()
        write_atomic(folder / "payload" / parsed.file_digest.hex(), image)
        write_atomic(folder / "manifest.suit", envelope)
        for step, raw in steps.items():
            write_atomic(folder / step, raw)
        yield folder


@contextmanager
def _ended_by_hand() -> Iterator[None]:
    """Let SIGTERM end the copies, too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- what is played --


def _play(
    kit: "Kit",
    olds: "list[Release]",
    new: "Release",
    folder: Path,
    *,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> "list[Row]":
    from fota_cli.rehearse_run import Run

    jobs = given["jobs"] or os.cpu_count() or 1
    run = Run(kit, new, folder, jobs, given["cuts"], way_back=not given["no_way_back"])
    return run.rows(olds)


def _tell(
    rows: "list[Row]", predicate: dict[str, Any], output: "Path | None", new: "Release", as_json: bool
) -> None:
    words = {True: "good", False: "BAD"}
    text = table(
        ("FROM", "PLAY", "PLAYED", "STATE", "DETAIL"),
        [(row.release, row.what, row.played, words[row.good], row.detail) for row in rows],
    )
    bad = [row for row in rows if not row.good]
    what = f"{new.version}: " + (f"{len(bad)} of {len(rows)} plays went wrong" if bad else "passed")
    lines = [text, "", what + (f"; attestation in {output}" if output is not None else "")]
    values = {
        "passed": not bad,
        "version": new.version,
        "rows": [row._asdict() | {"good": row.good} for row in rows],
        "attestation": None if output is None else str(output),
        **{name: predicate[name] for name in ("rehearser", "inputs", "setting")},
    }
    print_result(values, as_json, "\n".join(lines), output=output)
