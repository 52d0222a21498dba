"""``fota provision hex | load``: what a board's flash needs, read with its own eyes before it is written."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_cli.station import firmware_roots, virtual
from fota_wire.errors import FotaError, InputError
from fota_wire.files import check_output, name_of, read_input, read_text, write_output
from fota_wire.host_chips import STM32
from fota_wire.host_options import (
    BOOTLOADER,
    CAMPAIGN_GROUP,
    CERTIFICATE,
    CHIP,
    FILE,
    FORCE,
    GENESIS_ROOT,
    HEX,
    IMAGE,
    IMAGE_KEY_A,
    IMAGE_KEY_B,
    JSON,
    PARTITIONS,
    RECORD,
    SERVER_CA,
    UUID,
    VDEV,
    Address,
    Command,
    Whole,
    class_option,
)
from fota_wire.host_print import print_result

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from fota_cli.station import Function
    from fota_signer.factory.flash import Firmware
    from fota_signer.factory.inspection import Chip
    from fota_signer.factory.record import DeviceRecord
    from fota_wire.host_chips import Chip as ChipRow
    from fota_wire.image import Image

CONFIRM = "confirm on silicon: written from the manuals, not tried on a chip"


FIRMWARE = (
    click.option("--bootloader", type=BOOTLOADER, required=True, help="bootloader.elf (ESP32: or .bin)."),
    click.option("--image", type=IMAGE, required=True, help="First signed image, for slot A."),
    class_option("Device class.  [the image's]"),
    click.option("--chip", type=CHIP, help="Which microcontroller.  [the image's, or stm32l476]"),
    click.option("--partitions", type=PARTITIONS, help="Table of an ESP32, binary or CSV.  [one for 4 MiB]"),
    click.option("--vendor-id", type=UUID, help="Vendor.  [the image's]"),
    click.option("--vendor-domain", help="The vendor by its domain name, e.g. example.com; with --model."),
    click.option("--model", help="Model name, of which, with the vendor, the image's class has to be."),
    IMAGE_KEY_A,
    IMAGE_KEY_B,
    GENESIS_ROOT,
    SERVER_CA,
    click.option(
        "--server-url", type=Address(path=True), required=True, help="Like https://updates.example:8443."
    ),
    click.option("--tries", type=Whole(1, 15), default=3, show_default=True, help="Boots of a trial."),
    click.option("--watchdog-s", type=Whole(1, 30), default=16, show_default=True, help="Watchdog, seconds."),
    click.option("--max-step", type=Whole(1), default=255, show_default=True, help="Largest step of floor."),
    CAMPAIGN_GROUP,
    click.option("--watchdog-in-trials-only", is_flag=True, help="Else it is armed in every boot."),
    click.option("--allow-example-keys", is_flag=True, help="Accept the published throw-away keys."),
)


def with_firmware(function: "Function") -> "Function":
    """Give a command the options of what all devices of a batch have in flash: for `read_firmware`."""
    for option in reversed(FIRMWARE):
        function = option(function)
    return function


@click.command("hex", cls=Command)
@click.argument("record", type=RECORD)
@with_firmware
@click.option("--ca-cert", type=CERTIFICATE, help="Device CA, to check the device's certificate against.")
@click.option("--floor", type=Whole(0, 262143), help="As of `provision device`.  [the record's, or 0]")
@click.option(
    "--keep-keys", is_flag=True, help="Leave the pairing keys in the record, to make this HEX again."
)
@click.option("--rehearse", is_flag=True, help="Boot it on a virtual device, too, before it is written.")
@click.option("-o", "--output", type=FILE, required=True, help="Intel HEX to write, mode 0600.")
@FORCE
@JSON
def factory_hex(
    record: Path,
    output: Path,
    force: bool,
    keep_keys: bool,
    rehearse: bool,
    as_json: bool,
    floor: int | None,
    ca_cert: Path | None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write bootloader, trust store, settings and first image of one device; print its option bytes.

    The HEX is read as bootloader and agent will read it, first: what they would refuse is not written, and
    the pairing keys stay in the record. Exit code 1: refused.
    """
    from fota_signer.factory.ca import load_certificate
    from fota_signer.factory.flash import factory_hex as build
    from fota_signer.factory.inspection import require_livable
    from fota_signer.factory.record import load_record

    if output.resolve() == record.resolve():
        raise InputError(f"{output} is the record itself, and holds the only keys: choose another name")
    made_of = load_record(record)
    firmware = read_firmware(**given)
    text = build(firmware, made_of)
    chip = known_chip(made_of, firmware, floor, None if ca_cert is None else load_certificate(ca_cert))
    image = require_livable(text, str(output), chip)
    check_output(output, force)
    seen = _rehearse(text, made_of, chip, as_json) if rehearse else None
    write_output(output, text.encode(), force=force, secret=True)
    if not keep_keys:
        made_of.without_secrets().save()
    _tell(output, made_of, image, firmware.chip.NAME, seen, as_json)


@click.command(cls=Command)
@click.argument("file", type=VDEV)
@click.argument("hex_file", metavar="HEX", type=HEX)
@JSON
def load(file: Path, hex_file: Path, as_json: bool) -> None:
    """Write a factory HEX into a virtual device and protect its pages, as a programmer does."""
    from fota_cli.rehearsal import flash_hex

    machine_class, _ = virtual()
    text = read_text(hex_file, 16 << 20)
    with machine_class.load(file) as machine:
        size = flash_hex(machine, text, str(hex_file))
        machine.save(file)
        row = machine.chip.row
    text = f"{file}: {size} bytes written, {protected_pages(row.NAME)} protected"
    print_result({"file": str(file), "bytes": size}, as_json, text)


def protected_pages(chip: str) -> str:
    """Return which pages of a chip the factory protects, in words: "no page" of an ESP32."""
    row = STM32.get(chip)
    if row is None:
        return "no page"
    banks = " and ".join(map(str, row.FACTORY_BANKS))
    return f"pages 0-{row.SLOT_OFFSET // row.PAGE_SIZE - 1} of bank {banks}"


def read_firmware(**given: Any) -> "Firmware":  # noqa: ANN401
    """Return what the options of `with_firmware` name.

    Raises:
        InputError: a file is missing or no such thing, or they do not go together.
        VerifyError: a published example key, which was not allowed.
    """
    from fota_signer.factory.flash import Firmware
    from fota_wire.host_ca import joined_cas
    from fota_wire.host_chips import DEFAULT
    from fota_wire.host_chips import chip as row_of
    from fota_wire.root import MAX_ROOT

    root_a_xy, root_b_xy = firmware_roots(given["root_a"], given["root_b"], given["allow_example_keys"])
    image = read_input(given["image"], 4 << 20)
    first = _first_image(image, given)
    vendor_id = _vendor(first, given)
    chip = row_of(given["chip"] or first.chip or DEFAULT)
    bootloader, table = _below_the_slots(chip, given["bootloader"], given["partitions"])
    genesis = read_input(given["genesis_root"], MAX_ROOT)
    _refuse_example_root(genesis, name_of(given["genesis_root"]), given["allow_example_keys"])
    return Firmware(
        bootloader=bootloader,
        image=image,
        class_id=first.class_id,
        vendor_id=vendor_id,
        root_a_xy=root_a_xy,
        root_b_xy=root_b_xy,
        genesis_root=genesis,
        server_ca_der=joined_cas(given["server_ca"]),
        server_url=given["server_url"],
        tries=given["tries"],
        watchdog_s=given["watchdog_s"],
        max_step=given["max_step"],
        campaign_group=given["campaign_group"],
        watchdog_always=not given["watchdog_in_trials_only"],
        chip=chip,
        table=table,
    )


def _below_the_slots(chip: "ChipRow", bootloader: Path, partitions: Path | None) -> tuple[bytes, bytes]:
    """Return the bootloader, and the partition table of a chip that has one."""
    from fota_signer.factory import esp_flash
    from fota_signer.factory.bootloaders import bootloader_image
    from fota_wire.host_chips import ESPRESSIF

    espressif = ESPRESSIF.get(chip.NAME)
    if espressif is None and partitions is not None:
        raise InputError(f"--partitions is for an ESP32, and chip {chip.NAME} has no partition table")
    image = bootloader_image(read_input(bootloader, 4 << 20), name_of(bootloader), chip)
    if espressif is None:
        return image, b""
    given = None if partitions is None else read_input(partitions, 16 << 20)
    return image, esp_flash.table_image(given, espressif, str(partitions))


def _first_image(data: bytes, given: dict[str, Any]) -> "Image":
    """Return the image as it says itself that it is; chip and class that are given must agree.

    Raises:
        InputError: another class. FotaError: no image, or one that this chip cannot run.
    """
    from fota_signer.cli import about
    from fota_wire.host_chips import chip as row_of
    from fota_wire.host_values import uuid_text
    from fota_wire.image import parse_image

    with about(Path(given["image"])):
        image = parse_image(data, chip=row_of(given["chip"]) if given["chip"] else None)
    if given["class_id"] not in (None, image.class_id):
        raise InputError(
            f"the first image is made for another device class than --class says: {uuid_text(image.class_id)}"
        )
    return image


def _vendor(image: "Image", given: dict[str, Any]) -> bytes:
    """Return the vendor as the image has it; what is given must agree. An image that names none shows it by
    its class, together with the model.

    Raises:
        UsageError: nobody says the vendor, or nothing tells whether it is right. InputError: two say
            different ones, or its model is of another class.
    """
    from fota_signer.factory.inspection import vendor_of
    from fota_signer.identity import vendor_of_domain
    from fota_wire.host_values import UsageError, uuid_text

    name = name_of(given["image"])
    said = {
        f"{name} says": vendor_of(image),
        "--vendor-id says": given["vendor_id"],
        "--vendor-domain says": vendor_of_domain(given["vendor_domain"]) if given["vendor_domain"] else None,
    }
    vendors = {vendor for vendor in said.values() if vendor is not None}
    if not vendors:
        raise UsageError(
            f"{name} names no vendor: say --vendor-domain NAME --model NAME, or --vendor-id UUID"
        )
    if len(vendors) > 1:
        words = ", ".join(f"{who} {uuid_text(vendor)}" for who, vendor in said.items() if vendor)
        raise InputError(f"another vendor: {words}")
    vendor: bytes = vendors.pop()
    _require_class(image, vendor, name, given)
    return vendor


def _require_class(image: "Image", vendor: bytes, name: str, given: dict[str, Any]) -> None:
    """Return if the image's class is the vendor's model's, or the image has said its vendor itself."""
    from fota_signer.factory.inspection import vendor_of
    from fota_signer.identity import class_of_model
    from fota_wire.host_values import UsageError, uuid_text

    if given["model"] is not None:
        made = class_of_model(vendor, given["model"])
        if made != image.class_id:
            raise InputError(
                f"{name}: its class {uuid_text(image.class_id)} is not model {given['model']!r} of vendor"
                f" {uuid_text(vendor)}, whose class is {uuid_text(made)}: another --vendor-domain or --model"
            )
    elif vendor_of(image) is None and given["vendor_domain"] is not None:
        raise UsageError(
            f"{name} names no vendor: say --model NAME, too, so that its class tells whether the domain is"
            " right; a class that is of no model goes with --vendor-id UUID"
        )


def _refuse_example_root(genesis: bytes, name: str, allow: bool) -> None:
    """Return unless the genesis ROOT names a published key: what is said there is for ever."""
    from fota_wire.host_crypto import refuse_example_key
    from fota_wire.root import unsafe_read_root

    try:
        keys = unsafe_read_root(genesis).keys
    except FotaError:
        return  # told by the inspection
    for xy in keys.values():
        refuse_example_key(xy, allow, name)


def known_chip(
    record: "DeviceRecord", firmware: "Firmware", floor: int | None, device_ca: "Certificate | None"
) -> "Chip":
    """Return what is known of the element. Raises InputError: another floor than the record's."""
    from fota_agent.transport.http import split_url
    from fota_signer.factory.inspection import Chip

    noted = None if record.floor is None else int.from_bytes(record.floor, "little")
    if floor is not None and noted not in (None, floor):
        raise InputError(f"--floor {floor}: the chip was provisioned with {noted}")
    return Chip(
        serial=record.serial,
        root_a_xy=firmware.root_a_xy,
        root_b_xy=firmware.root_b_xy,
        identity=record.identity,
        floor=noted if noted is not None else floor or 0,
        read_url=split_url,
        device_ca=device_ca,
        row=firmware.chip,
    )


def _rehearse(text: str, record: "DeviceRecord", chip: "Chip", as_json: bool) -> str:
    """Boot the HEX on a virtual device of the same serial number and keys; return what its report says."""
    virtual()
    from fota_cli.rehearsal import rehearse

    return rehearse(text, record, chip, lambda line: None if as_json else click.echo(f"  {line}", err=True))


def _tell(
    output: Path, record: "DeviceRecord", image: "Image", chip: str, seen: str | None, as_json: bool
) -> None:
    from fota_signer.factory.programmers import OPTIONS, continued, option_commands
    from fota_wire.version import format_version

    commands = option_commands(chip, output.name)
    words, title = OPTIONS[chip].words, OPTIONS[chip].title
    table = {
        "file": str(output),
        "device_id": record.serial.hex(),
        "image_version": format_version(image.version),
        "rehearsed": seen,
        "secret": "holds the device's pairing keys: mode 0600; delete it once it is in the chip",
        "chip": chip,
        title.lower().replace(" ", "_"): words,
        "programmers": commands,
        "note": CONFIRM,
    }
    shown = [f"{output}: factory HEX of {record.serial.hex()} (pairing keys inside, mode 0600)"]
    if seen is not None:
        shown.append(f"Rehearsed on a virtual device: {seen}.")
    shown.append("")
    options = ", ".join(
        f"{name} {value}" if isinstance(value, str) else f"{name}={value}" for name, value in words.items()
    )
    shown.append(f"{title} of chip {chip}: {options}. {CONFIRM.capitalize()}.")
    for tool, lines in commands.items():
        shown += ["", f"{tool}:", *(f"  {line}" for command in lines for line in continued(command))]
    print_result(table, as_json, "\n".join(shown))
