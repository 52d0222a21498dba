"""Boards as the factory makes them, on emulated chips, with throw-away keys."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from fota_cli.vdev import manufacture
from fota_signer.examples import example_files, example_key
from fota_signer.factory.ca import DeviceCa
from fota_signer.factory.flash import Firmware, bootloader_image
from fota_signer.factory.i2c import I2cTransport
from fota_signer.factory.line import Report, look
from fota_signer.factory.steps import all_steps, run_steps
from fota_vdev.machine import Machine
from fota_wire import root
from fota_wire.cose import kid_of
from fota_wire.host_crypto import public_xy, signer


def provision_element(
    machine: Machine,
    *,
    io_key: bytes,
    mac_key: bytes,
    root_a_xy: bytes,
    root_b_xy: bytes,
    counters: tuple[int, int] = (0, 0),
) -> None:
    """Take the blank element of a machine through the factory's steps; the pairing keys are the test's."""
    machine.power_on()
    _, session = look(I2cTransport(machine.i2c, machine.sleep_us))
    session.values["io_key"], session.values["mac_key"] = io_key, mac_key
    run_steps(all_steps(root_a_xy=root_a_xy, root_b_xy=root_b_xy, counters=counters), session)


def genesis() -> bytes:
    """A first ROOT with one example key for each role."""
    names = ("root-1", "release-1", "assign")
    owners = [public_xy(example_key(name)) for name in names]
    made = root.build_root(1, {role: (1, [xy]) for role, xy in enumerate(owners)}, 0, 0, ())
    return root.FORM.add_signature(made, kid_of(owners[0]), signer(example_key("root-1")))


def example_certificate(name: str) -> Any:
    return load_pem_x509_certificate(example_files()[f"{name}.crt"])


def example_device(
    machine: Machine, *, bootloader: Path, image: bytes, class_id: bytes, vendor_id: bytes, **given: Any
) -> Report:
    """Make a blank machine a device with the example keys; ``given`` goes into `Firmware` as it is."""
    firmware = {
        "bootloader": bootloader_image(bootloader.read_bytes(), str(bootloader), machine.chip.row),
        "chip": machine.chip.row,
        "image": image,
        "class_id": class_id,
        "vendor_id": vendor_id,
        "root_a_xy": public_xy(example_key("image-a")),
        "root_b_xy": public_xy(example_key("image-b")),
        "genesis_root": genesis(),
        "server_ca_der": example_certificate("server-ca").public_bytes(Encoding.DER),
        "server_url": "https://localhost",
    }
    ca = DeviceCa(key=example_key("device-ca"), certificate=example_certificate("device-ca"))
    report, _ = manufacture(machine, Firmware(**(firmware | given)), ca, "the machine")
    return report
