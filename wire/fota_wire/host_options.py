"""Options of every command (not for devices): one type per kind of value, over `fota_wire.host_values`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from fota_wire.errors import InputError
from fota_wire.files import STREAM, stream_of
from fota_wire.host_chips import CHIPS, STM32
from fota_wire.host_values import seconds, uuid_bytes, whole


def _label(param: click.Parameter | None) -> str:
    if param is None:
        return "value"
    return param.human_readable_name if isinstance(param, click.Argument) else param.opts[-1]


class FileName(click.ParamType[Path]):
    """Name of a file or folder; whether it is there is found out by who opens it. ``-`` is a stream."""

    def __init__(self, name: str = "file", *, stream: bool = True) -> None:
        self.name, self._stream = name, stream

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401
        """Return the path."""
        if isinstance(value, Path):
            return value
        if not value:
            raise InputError(f"{_label(param)}: an empty name is no {self.name}")
        path = Path(value)
        if path == STREAM and (value != str(STREAM) or not self._stream):  # ./- is a name
            return path.absolute()
        _take_stream(path, param, ctx)
        return path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete names."""
        return [CompletionItem(incomplete, type="dir" if self.name == "folder" else "file")]


def _take_stream(path: Path, param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Note that a stream goes to ``param``: what one of two would read of it, the other would miss.

    Raises:
        InputError: it went to another before.
    """
    label = _label(param)
    is_output = label.endswith(("output", "-out"))
    stream = ("output" if path == STREAM else None) if is_output else stream_of(path)
    if ctx is None or stream is None:
        return
    holder = ctx.meta.setdefault("fota.streams", {}).setdefault(stream, label)
    if holder != label:
        raise InputError(f"{label}: {path} is taken already, by {holder}")


class Whole(click.ParamType[int]):
    """A whole number of ``low`` to ``high`` (None: no limit)."""

    name = "n"

    def __init__(self, low: int = 0, high: int | None = None) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Return the number."""
        return whole(str(value), _label(param), self._low, self._high)


class Seconds(click.ParamType[float]):
    """A number of seconds."""

    name = "seconds"

    def __init__(self, low: float = 0) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return the number."""
        return seconds(str(value), _label(param), self._low)


class Uuid(click.ParamType[bytes]):
    """A UUID, 16 bytes in the program."""

    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:  # noqa: ANN401
        """Return the 16 bytes."""
        return value if isinstance(value, bytes) else uuid_bytes(str(value), _label(param))


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
FOLDER = FileName("folder", stream=False)
OWN_FILE = FileName("file", stream=False)
"""A file that is read and written in place (a virtual device, a ledger, a record): never a stream."""
UUID = Uuid()
CHIP = click.Choice(tuple(CHIPS))
STM32_CHIP = click.Choice(tuple(STM32))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
FORCE = click.option("--force", is_flag=True, help="Replace the output if it exists.")


def _image_key(slot: str, more: str) -> Decorator:
    return click.option(
        f"--image-key-{slot}",
        f"root_{slot}",
        cls=Renamed,
        old=f"--root-{slot}",
        type=FILE,
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
    type=FILE,
    required=True,
    help="First ROOT document.",
)


def class_option(said: str, *, required: bool = False) -> Decorator:
    """Return ``--class``, a device class."""
    return click.option(
        "--class", "class_id", cls=Renamed, old="--class-id", type=UUID, required=required, help=said
    )


CA_KEY = click.option(
    "--ca-key",
    cls=Renamed,
    old="--device-ca-key",
    type=FILE,
    required=True,
    help="Key of the device CA, PEM.",
)
CA_CERT = click.option(
    "--ca-cert",
    cls=Renamed,
    old="--device-ca-cert",
    type=FILE,
    required=True,
    help="Certificate of the device CA, PEM.",
)
