"""``fota sign-list``: many images by one key, in one call; all of them are written, or none."""

import gc
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fota_signer import sign_command
from fota_signer.sign_command import Ready, SignOptions
from fota_signer.signing import Door
from fota_wire.errors import FotaError, InputError
from fota_wire.files import name_of, read_text, write_output
from fota_wire.host_kinds import FIRMWARE, require_kind
from fota_wire.host_values import UsageError

MAX_IMAGES = 1000
MAX_LIST = 1 << 20
_QUOTING = frozenset("'\"\\#")
"""Without these a line is its words, and `shlex`, which costs as much as to sign, has nothing to say."""
_NO_KEY = "--key=the-list-has-none"
"""What `sign_command.parse` reads in place of a key, which a line may not name twice."""


class Line(NamedTuple):
    """A line of the list: ``where`` it stands, for messages, and what it says."""

    where: str
    options: SignOptions


def run(listed: Path, door: Door, force: bool) -> list[tuple[SignOptions, str, dict[str, object]]]:
    """Sign what a file lists, and return of each image its options, line to print and fields as of `run`.

    Raises:
        UsageError: two steps. FotaError: with nothing written; names the line.
    """
    if door.prepare is not None or door.attach is not None:
        raise UsageError("--prepare and --attach are for one image: sign each by 'fota sign'")
    gc.disable()  # the process ends before there is much to collect
    lines = [Line(line.where, line.options._replace(force=force)) for line in _read(listed)]
    ready: list[Ready] = []
    for line in lines:
        with _about(line):
            require_kind(line.options.source, (FIRMWARE,), "FIRMWARE")
            ready.append(sign_command.ready(line.options))
    key = door.open("image")
    made = []
    for line, one in zip(lines, ready, strict=True):
        with _about(line):
            made.append(one.sign(key=key))
    _write(lines, [data for data, _ in made])
    return [
        (line.options, *sign_command.told(line.options, one, image))
        for line, one, (_, image) in zip(lines, ready, made, strict=True)
    ]


def _write(lines: Sequence[Line], images: Sequence[bytes]) -> None:
    written: list[Path] = []
    try:
        for line, data in zip(lines, images, strict=True):
            with _about(line):
                write_output(line.options.output, data, force=line.options.force)
            written.append(line.options.output)
    except BaseException:
        for path in written if not lines[0].options.force else []:
            path.unlink(missing_ok=True)
        raise


def _read(listed: Path) -> list[Line]:
    lines = []
    outputs: dict[Path, str] = {}
    for number, text in enumerate(read_text(listed, MAX_LIST).splitlines(), 1):
        where = f"{name_of(listed)}, line {number}"
        try:
            words = text.split() if _QUOTING.isdisjoint(text) else shlex.split(text, comments=True)
        except ValueError as exc:
            raise InputError(f"{where}: its quotes do not close") from exc
        if not words:
            continue
        options = sign_command.parse([_NO_KEY, *words])
        if options is None or options.password_file or options.as_json or options.force:
            raise InputError(
                f"{where}: not FIRMWARE -o FILE --version VERSION --security-counter NUMBER and what else"
                " 'fota sign' says of an image; key, password and --force are said once, for all"
            )
        before = outputs.setdefault(options.output.absolute(), where)
        if before != where:
            raise InputError(f"{where}: {options.output} is the output of {before} already")
        lines.append(Line(where, options))
    if not 1 <= len(lines) <= MAX_IMAGES:
        raise InputError(f"{name_of(listed)}: {len(lines)} images, not 1 to {MAX_IMAGES}")
    return lines


@contextmanager
def _about(line: Line) -> Iterator[None]:
    try:
        yield
    except FotaError as exc:
        raise type(exc)(f"{line.where}: {exc}", exc.code) from exc
