"""Options of every command (not for devices): one type per kind of value, over `fota_wire.host_values`."""

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from fota_wire.errors import InputError
from fota_wire.files import STREAM
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
        if path != STREAM:
            return path
        if value != str(STREAM) or not self._stream:  # ./- is a name
            return path.absolute()
        _take_stream(param, ctx)
        return path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete names."""
        return [CompletionItem(incomplete, type="dir" if self.name == "folder" else "file")]


def _take_stream(param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Note that standard input or output goes to ``param``.

    Raises:
        InputError: it went to another before.
    """
    if ctx is None:
        return
    taken = ctx.meta.setdefault("fota.streams", {})
    label = _label(param)
    way = "output" if label.endswith(("output", "-out")) else "input"
    if taken.setdefault(way, label) != label:
        raise InputError(f"{label}: - is taken already, by {taken[way]}")


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


FILE = FileName()
FOLDER = FileName("folder", stream=False)
OWN_FILE = FileName("file", stream=False)
"""A file that is read and written in place (a virtual device, a ledger, a record): never a stream."""
UUID = Uuid()
CHIP = click.Choice(tuple(CHIPS))
STM32_CHIP = click.Choice(tuple(STM32))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
FORCE = click.option("--force", is_flag=True, help="Replace the output if it exists.")
