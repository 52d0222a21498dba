"""A factory's station: which chip is meant, what the batch has in common, and the glue to virtual devices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fota_wire.errors import InputError
from fota_wire.host_options import CA_CERT, CA_KEY, FILE, IMAGE_KEY_A, IMAGE_KEY_B, SECRET, VDEV, Whole

if TYPE_CHECKING:
    from fota_signer.factory.ca import DeviceCa
    from fota_signer.factory.line import Job
    from fota_signer.factory.packets import Transport
    from fota_vdev.machine import Machine
    from fota_wire.host_keys import Place

Function = Callable[..., Any]


def device_ca(
    key: "Path | Place", certificate: Path, password_file: Path | None, allow_example_keys: bool
) -> "DeviceCa":
    """Return the device CA; one that ends soon is warned of. Raises as `fota_signer.factory.ca.load_ca`."""
    from fota_signer.factory import ca

    loaded = ca.load_ca(key, certificate, password_file, allow_example_keys=allow_example_keys)
    notice = ca.notice(loaded.certificate)
    if notice:
        click.echo(f"fota: warning: {notice}", err=True)
    return loaded


def firmware_roots(root_a: Path, root_b: Path, allow_example_keys: bool) -> tuple[bytes, bytes]:
    """Return x||y of the firmware roots that a chip gets, for ever.

    Raises:
        InputError: a file holds no such key, or both hold the same.
        VerifyError: a published example key, which was not allowed.
    """
    from fota_signer.factory.line import require_two_roots
    from fota_wire.host_crypto import load_public_key, refuse_example_key

    roots = load_public_key(root_a, "image"), load_public_key(root_b, "image")
    for path, xy in zip((root_a, root_b), roots, strict=True):
        refuse_example_key(xy, allow_example_keys, str(path))
    require_two_roots(*roots)
    return roots


class Target:
    """One chip: in a virtual device's file, on an I2C bus of this computer, or on a USB kit."""

    def __init__(
        self,
        file: Path | None,
        i2c: int | None,
        kit: bool,
        address: int,
        bus_log: Path | None = None,
        bus_log_secrets: bool = False,
    ) -> None:
        if (file is not None) + (i2c is not None) + kit != 1:
            raise click.UsageError("name one chip: a virtual device's FILE, --i2c BUS, or --kit")
        if file is None and (bus_log is not None or bus_log_secrets):
            raise click.UsageError("only the bus of a virtual device can be captured")
        self.file, self.i2c, self.address = file, i2c, address
        self.bus_log, self.bus_log_secrets = bus_log, bus_log_secrets
        self.mark: Callable[[str], None] = lambda text: None

    @contextmanager
    def open(self) -> "Iterator[Transport]":
        """The way to the chip; a virtual device is saved whatever happened to it.

        Raises:
            InputError: no such virtual device, or Microchip's library is not installed.
            DeviceError: nothing answers there.
        """
        if self.file is None:
            from fota_signer.factory.cal import CalTransport

            hardware = CalTransport(self.i2c, self.address)
            try:
                yield hardware
            finally:
                hardware.close()
            return
        machine_class, _ = virtual()
        from fota_vdev.wires.bus_log import listening

        with (
            machine_class.load(self.file) as machine,
            listening(machine, self.bus_log, secrets=self.bus_log_secrets) as log,
        ):
            self.mark = log.mark
            try:
                yield on_machine(machine, self.address)
            finally:
                machine.power_off()
                machine.save(self.file)


def virtual() -> "tuple[type[Machine], Any]":
    """Return the classes of machine and element. ModuleNotFoundError: virtual devices are not installed."""
    from fota_vdev.atecc608 import Atecc608
    from fota_vdev.machine import Machine

    return Machine, Atecc608


def on_machine(machine: "Machine", address: int = 0x60) -> "Transport":
    """Return the way to the element of a virtual device, which is switched on.

    Raises:
        InputError: it has none.
    """
    from fota_signer.factory.i2c import I2cTransport

    if machine.element is None:
        raise InputError("the virtual device has no crypto element")
    machine.power_on()
    return I2cTransport(machine.i2c, machine.sleep_us, address)


def with_target(function: Function) -> Function:
    """Give a command FILE, --i2c, --kit and --address, as its keyword ``target``."""

    @click.argument("file", type=VDEV, required=False)
    @click.option("--i2c", type=Whole(), metavar="BUS", help="Chip on /dev/i2c-BUS of this computer.")
    @click.option("--kit", is_flag=True, help="Chip on a USB kit of Microchip's.")
    @click.option(
        "--address", type=Whole(0x08, 0x77), default="0x60", show_default=True, help="7-bit I2C address."
    )
    @click.option("--bus-log", type=FILE, help="Capture a virtual device's bus here, for `fota vdev trace`.")
    @click.option("--bus-log-secrets", is_flag=True, help="Do not mask the pairing keys in that log.")
    @wraps(function)
    def command(
        *args: Any,  # noqa: ANN401
        file: Path | None,
        i2c: int | None,
        kit: bool,
        address: int,
        bus_log: Path | None,
        bus_log_secrets: bool,
        **rest: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        target = Target(file, i2c, kit, address, bus_log, bus_log_secrets)
        return function(*args, target=target, **rest)

    return command


def with_job(function: Function) -> Function:
    """Give a command what a batch has in common, as its keyword ``load_job``, called to read the files."""

    @IMAGE_KEY_A
    @IMAGE_KEY_B
    @CA_KEY
    @CA_CERT
    @click.option(
        "--ca-password-file",
        type=SECRET,
        help="First line is the password of the CA's key (else FOTA_KEY_PASSWORD, else asked for).",
    )
    @click.option("--allow-example-keys", is_flag=True, help="Accept the published throw-away keys.")
    @click.option("--floor", type=Whole(0, 262143), default=0, show_default=True,
                  help="Lowest security counter that may ever boot.")  # fmt: skip
    @click.option(
        "--latch",
        is_flag=True,
        help="The chip's keys work only after a verified boot, by the bootloader's latch build; for ever.",
    )
    @wraps(function)
    def command(
        *args: Any,  # noqa: ANN401
        root_a: Path,
        root_b: Path,
        ca_key: "Path | Place",
        ca_cert: Path,
        ca_password_file: Path | None,
        allow_example_keys: bool,
        floor: int,
        latch: bool,
        **rest: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        def load_job(work: Path) -> "Job":
            from fota_signer.factory.line import Job

            roots = firmware_roots(root_a, root_b, allow_example_keys)
            return Job(
                root_a_xy=roots[0],
                root_b_xy=roots[1],
                ca=device_ca(ca_key, ca_cert, ca_password_file, allow_example_keys),
                work=work,
                floor=floor,
                latched=latch,
            )

        return function(*args, load_job=load_job, **rest)

    return command
