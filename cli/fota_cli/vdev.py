"""``fota vdev provision``: the factory's steps on an emulated element, its HEX into emulated flash."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_cli.factory_hex import known_chip, protected_pages, read_firmware, with_firmware
from fota_cli.station import device_ca
from fota_vdev.cli import vdev as vdev
from fota_wire.errors import DeviceError, VerifyError
from fota_wire.files import check_output, write_output
from fota_wire.host_options import CA_CERT, CA_KEY, FILE, JSON, SECRET, VDEV
from fota_wire.host_print import print_result

if TYPE_CHECKING:
    from fota_signer.factory.ca import DeviceCa
    from fota_signer.factory.flash import Firmware
    from fota_signer.factory.line import Report
    from fota_vdev.machine import Machine
    from fota_wire.host_keys import Place
    from fota_wire.image import Image


@vdev.command()
@click.argument("file", type=VDEV)
@with_firmware
@CA_KEY
@CA_CERT
@click.option("--ca-password-file", type=SECRET, help="File with the password of the device CA's key.")
@click.option("--certificate-out", type=FILE, help="Write the device certificate here, PEM.")
@JSON
def provision(
    file: Path,
    as_json: bool,
    certificate_out: Path | None,
    ca_key: "Path | Place",
    ca_cert: Path,
    ca_password_file: Path | None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Lock and pair the element, make the device key in it, write flash: as in a factory, all at once.

    These are `provision device`, `provision hex` and `provision load`; the pairing keys stay in the device.
    What its bootloader or agent would refuse is refused here, and the device is then as it was.
    """
    from fota_signer.factory.ca import pem
    from fota_vdev.machine import Machine
    from fota_wire.version import format_version

    with Machine.load(file) as machine:
        row = machine.chip.row
        firmware = read_firmware(**given | {"chip": given["chip"] or row.NAME})
        if certificate_out is not None:
            check_output(certificate_out, force=False)
        ca = device_ca(ca_key, ca_cert, ca_password_file, given["allow_example_keys"])
        report, image = manufacture(machine, firmware, ca, str(file))
        machine.save(file)
    if certificate_out is not None:
        write_output(certificate_out, pem(report.certificate).encode())
    version = format_version(image.version)
    told = report.as_dict()
    shown = {name: told[name] for name in ("device_id", "identity_key", "attestation_key", "certificate",
                                           "element_revision", "locked_slots")}  # fmt: skip
    text = f"{report.device_id}: provisioned, image {version} in slot A"
    print_result(
        shown | {"image_version": version, "write_protected": protected_pages(row.NAME)}, as_json, text
    )


def manufacture(
    machine: "Machine", firmware: "Firmware", ca: "DeviceCa", name: str, floor: int = 0
) -> "tuple[Report, Image]":
    """Make a blank machine a device: element, then flash by its HEX, which is inspected first. It is left
    without power. The pairing keys are in element and settings page, and nowhere else. ``floor``: its first.

    Raises:
        DeviceError: the element does not answer, or is provisioned already; ``name`` is the machine's.
        VerifyError: its device could not live with what it was given; the machine is of no use any more.
    """
    from fota_cli.rehearsal import flash_hex
    from fota_cli.station import on_machine
    from fota_signer.factory.flash import factory_hex
    from fota_signer.factory.inspection import require_livable
    from fota_signer.factory.line import Job, provision_chip

    with tempfile.TemporaryDirectory() as work:
        job = Job(
            root_a_xy=firmware.root_a_xy, root_b_xy=firmware.root_b_xy, ca=ca, work=Path(work), floor=floor
        )
        try:
            report = provision_chip(on_machine(machine), job)
        except VerifyError as exc:
            if exc.code == "foreign":
                raise DeviceError(
                    f"{name}: provisioned already, for ever; make another: fota vdev create"
                ) from exc
            raise
        finally:
            machine.power_off()
        text = factory_hex(firmware, report.record)
    image = require_livable(text, name, known_chip(report.record, firmware, None, ca.certificate))
    flash_hex(machine, text, name)
    return report, image
