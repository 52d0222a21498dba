"""Options of every command (not for devices): one type per kind of value, over `fota_wire.host_values`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from fota_wire import check
from fota_wire import host_kinds as kinds
from fota_wire.errors import InputError
from fota_wire.files import STREAM, stream_of
from fota_wire.host_chips import CHIPS
from fota_wire.host_values import device_id, moment, one_of, seconds, shown, uuid_bytes, whole


def label_of(param: click.Parameter | None) -> str:
    """Return what a message calls a parameter."""
    if param is None:
        return "value"
    return param.human_readable_name if isinstance(param, click.Argument) else max(param.opts, key=len)


class FileName(click.ParamType[Path]):
    """Name of a file or folder; whether it is there is found out by who opens it. ``-`` is a stream."""

    def __init__(self, *kinds: str, name: str = "file", stream: bool = True) -> None:
        """``kinds``: what the file may be, of `fota_wire.host_kinds`; none: anything, or it is written."""
        self.name, self.kinds, self._stream = name, kinds, stream

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401
        """Return the path."""
        if isinstance(value, Path):
            return value
        if not value:
            raise InputError(f"{label_of(param)}: an empty name is no {self.name}")
        path = Path(value)
        if path == STREAM and (value != str(STREAM) or not self._stream):  # ./- is a name
            return path.absolute()
        _take_stream(path, param, ctx)
        if not (ctx and ctx.resilient_parsing):  # completion
            variable = getattr(param, "envvar", None)
            by_variable = isinstance(variable, str) and os.environ.get(variable) == value
            label = label_of(param) + (f" [{variable}]" if by_variable else "")
            kinds.require_kind(path, self.kinds, label)
        return path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete names."""
        return [CompletionItem(incomplete, type="dir" if self.name == "folder" else "file")]


class KeyName(FileName):
    """A private key to sign with: a file's name, or where a store keeps it (`fota_wire.host_keys`)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the path, or the `host_keys.Place`."""
        from fota_wire.host_keys import place_of

        if not isinstance(value, str):
            return value
        place = place_of(value)
        return super().convert(value, param, ctx) if isinstance(place, Path) else place


class KeyStore(click.ParamType[Any]):
    """Where a store keeps keys, or is to keep one that is made."""

    name = "uri"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the `host_keys.Place`. InputError: it is none."""
        from fota_wire.host_keys import STORES, place_of

        place = place_of(value) if isinstance(value, str) else value
        if isinstance(place, Path):
            schemes = ", ".join(f"{scheme}:" for scheme in STORES)
            raise InputError(f"{label_of(param)}: {shown(value)} names no store: it begins with {schemes}")
        return place


def _take_stream(path: Path, param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Note that a stream goes to ``param``: what one of two would read of it, the other would miss.

    Raises:
        InputError: it went to another before.
    """
    label = label_of(param)
    is_output = label.endswith(("output", "-out", "--prepare"))
    stream = ("output" if path == STREAM else None) if is_output else stream_of(path)
    if ctx is None or stream is None:
        return
    holder = ctx.meta.setdefault("fota.streams", {}).setdefault(stream, label)
    if holder != label:
        raise InputError(f"{label}: {path} is taken already, by {holder}")


LARGEST = (1 << 63) - 1


class Whole(click.ParamType[int]):
    """A whole number of ``low`` to ``high`` (None: as large as a database counts)."""

    name = "n"

    def __init__(self, low: int = 0, high: int | None = None) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Return the number."""
        found = whole(str(value), label_of(param), self._low, self._high)
        if found > LARGEST:
            raise InputError(f"{label_of(param)}: {str(value)[:40]!r} is too large")
        return found


class Seconds(click.ParamType[float]):
    """A number of seconds."""

    name = "seconds"

    def __init__(self, low: float = 0) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return the number."""
        return seconds(str(value), label_of(param), self._low)


class Moment(click.ParamType[int]):
    """A time such as 2026-12-01T08:00, in seconds since 1970; UTC if no offset is said."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Return the seconds."""
        return moment(str(value), label_of(param))


class OneOf(click.Choice[str]):
    """One of some words."""

    def __init__(self, *words: str) -> None:
        super().__init__(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the word."""
        return one_of(str(value), self.choices, label_of(param))


class DeviceId(click.ParamType[str]):
    """Id of a device, 18 hex digits; in small letters in the program."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the id."""
        return device_id(str(value), label_of(param))


class Address(click.ParamType[str]):
    """A server's address as devices take it; ``path``: with a path behind it."""

    name = "url"

    def __init__(self, *, path: bool = False) -> None:
        self._path = path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the address."""
        from fota_wire.host_address import require_address

        require_address(str(value), label_of(param), path=self._path)
        return str(value)


class CampaignGroup(click.ParamType[str]):
    """The group of a device in CAMPAIGNs (SPEC 5.8)."""

    name = "group"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the group, "" for none. InputError: it is none."""
        try:
            return check.campaign_group(value) if value else ""
        except InputError as exc:
            raise InputError(f"{label_of(param)}: {shown(value)}: {exc}") from exc


class Uuid(click.ParamType[bytes]):
    """A UUID, 16 bytes in the program."""

    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:  # noqa: ANN401
        """Return the 16 bytes."""
        return value if isinstance(value, bytes) else uuid_bytes(str(value), label_of(param))


class Command(click.Command):
    """A command that refuses an option given twice, unless it may be: one value would be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed.

        Raises:
            click.UsageError: an option that takes one value was given twice, or without it.
        """
        try:
            opts, _, given = self.make_parser(ctx).parse_args(args=list(args))
        except click.UsageError as exc:
            exc.ctx = exc.ctx or ctx  # click's parser does not say whose option it is
            raise
        if not ctx.resilient_parsing and not any(param.is_eager for param in given):  # completion; --help
            _refuse_twice(ctx, opts, given)
        return super().parse_args(ctx, args)


def _refuse_twice(ctx: click.Context, opts: Any, given: list[click.Parameter]) -> None:  # noqa: ANN401
    first: dict[str | None, click.Option] = {}
    for param in given:
        if not isinstance(param, click.Option) or param.multiple:
            continue
        before = first.get(param.name)
        if before is None:
            first[param.name] = param
        elif before is not param:
            raise click.UsageError(f"{label_of(before)} and {label_of(param)} exclude each other", ctx)
        elif not param.is_flag and getattr(param, "old", None) not in opts:  # old names: Renamed says it
            raise click.UsageError(f"{label_of(param)} is given twice, and takes one value", ctx)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Renamed(click.Option):
    """An option that had the name ``old``: still taken, shown nowhere, said to be old where it is used."""

    def __init__(self, *args: Any, old: str, **attrs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **attrs)
        self.old = old

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:  # noqa: ANN401
        """Let the parser know both names, and keep their values apart."""
        super().add_to_parser(parser, ctx)
        parser.add_option(obj=self, opts=[self.old], dest=self.old, action="store", nargs=self.nargs)

    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, ParameterSource]:  # noqa: ANN401
        """Return what was given by either name.

        Raises:
            click.UsageError: it was given by both.
        """
        if self.old not in opts:
            return super().consume_value(ctx, opts)
        if self.name in opts:
            raise click.UsageError(f"{self.old} is the old name of {self.opts[-1]}: give one of them", ctx)
        click.echo(f"fota: note: {self.old} is deprecated, it is called {self.opts[-1]} now", err=True)
        return opts[self.old], ParameterSource.COMMANDLINE


FILE = FileName()
"""A file to write, or one of any kind."""
IMAGE = FileName(kinds.IMAGE)
MANIFEST = FileName(kinds.MANIFEST)
ROOT = FileName(kinds.ROOT)
CAMPAIGN = FileName(kinds.CAMPAIGN)
FIRMWARE = FileName(kinds.FIRMWARE)
FOREIGN = FileName(kinds.FOREIGN, stream=False)
BOOTLOADER = FileName(kinds.ELF, kinds.ESPRESSIF)
PARTITIONS = FileName(kinds.PARTITIONS)
ROM = FileName(kinds.ROM)
PRIVATE_KEY = FileName(kinds.PRIVATE)
SIGNING_KEY = KeyName(kinds.PRIVATE)
STORE = KeyStore()
SIGNATURE = FileName(kinds.SIGNATURE)
SIGNING_OR_PUBLIC_KEY = KeyName(kinds.PRIVATE, kinds.PUBLIC)
KEY_OF_ANY_KIND = KeyName(kinds.PRIVATE, kinds.PUBLIC, kinds.CERTIFICATE)
FOREIGN_KEY = FileName(kinds.PRIVATE, kinds.DER_PRIVATE)
PUBLIC_KEY = FileName(kinds.PUBLIC)
CERTIFICATE = FileName(kinds.CERTIFICATE)
SECRET = FileName(kinds.SECRET)
TOKEN = FileName(kinds.TOKEN)
HEX = FileName(kinds.HEX)
PLAN = FileName(kinds.PLAN)
ROLLOUT = FileName(kinds.ROLLOUT)
POLICY = FileName(kinds.POLICY)
RELEASE_POLICY = FileName(kinds.RELEASE_POLICY, stream=False)
LINKER_MAP = FileName(kinds.LINKER_MAP)
COMPONENTS = FileName(kinds.COMPONENTS, stream=False)
STAND_INS = FileName(kinds.STAND_INS, stream=False)
DEVICES = FileName(kinds.DEVICES)
SIGN_LIST = FileName(kinds.SIGN_LIST)
TRAIL = FileName(kinds.TRAIL)
BUS_LOG = FileName(kinds.BUS_LOG)
LOG_KEY = FileName(kinds.LOG_KEY)
ATTESTATION = FileName(kinds.ATTESTATION)
WITNESS_KEY = FileName(kinds.WITNESS_KEY)
CHECKPOINT = FileName(kinds.CHECKPOINT)

OWN_FILE = FileName(stream=False)
"""A file that is read and written in place, as the next four are: never a stream."""
LAST_CHECKPOINT = FileName(kinds.CHECKPOINT, stream=False)
VDEV = FileName(kinds.VDEV, stream=False)
LEDGER = FileName(kinds.DATABASE, stream=False)
RECORD = FileName(kinds.RECORD, stream=False)

FOLDER = FileName(kinds.FOLDER, name="folder", stream=False)
SERVER = FileName(kinds.SERVER, name="folder", stream=False)
BACKUP = FileName(kinds.BACKUP, name="folder", stream=False)
GATEWAY = FileName(kinds.GATEWAY, name="folder", stream=False)
CARD = FileName(kinds.CARD, name="folder", stream=False)
UUID = Uuid()
CHIP = OneOf(*CHIPS)
CAMPAIGN_GROUP = click.option(
    "--campaign-group",
    type=CampaignGroup(),
    default="",
    help="Group of the device in CAMPAIGNs, for good. Agents older than this option do not start by it.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
FORCE = click.option("--force", is_flag=True, help="Replace the output if it exists.")


def _image_key(slot: str, more: str) -> Decorator:
    return click.option(
        f"--image-key-{slot}",
        f"root_{slot}",
        cls=Renamed,
        old=f"--root-{slot}",
        type=PUBLIC_KEY,
        required=True,
        help=f"Public IMAGE key {slot.upper()} (PEM), the chip's firmware root {slot.upper()}{more}.",
    )


IMAGE_KEY_A = _image_key("a", "")
IMAGE_KEY_B = _image_key("b", ", there to outlive A")
GENESIS_ROOT = click.option(
    "--root",
    "genesis_root",
    cls=Renamed,
    old="--genesis-root",
    type=ROOT,
    required=True,
    help="First ROOT document.",
)


def class_option(said: str, *, required: bool = False) -> Decorator:
    """Return ``--class``, a device class."""
    return click.option(
        "--class", "class_id", cls=Renamed, old="--class-id", type=UUID, required=required, help=said
    )


SERVER_CA = click.option(
    "--server-ca",
    type=CERTIFICATE,
    multiple=True,
    required=True,
    help="CA that the server's certificate may come from, PEM, one or more in a file; repeat.",
)


CA_KEY = click.option(
    "--ca-key",
    cls=Renamed,
    old="--device-ca-key",
    type=SIGNING_KEY,
    required=True,
    help="Key of the device CA: PEM, or where a store has it (docs/signing.md).",
)
CA_CERT = click.option(
    "--ca-cert",
    cls=Renamed,
    old="--device-ca-cert",
    type=CERTIFICATE,
    required=True,
    help="Certificate of the device CA, PEM.",
)
