"""`fota device import` and `export`: attributes of many devices, as CSV or JSON lines.

A file is held as it is, up to 64 MiB; its lines are read twice, a page at a time. First all of them are
checked, here and by the server, and if one is wrong nothing is done; then they are taken in, page by page.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fota_cli.client import OperatorClient
from fota_cli.options import connected, filter_option
from fota_wire.errors import FotaError, InputError
from fota_wire.files import STREAM, name_of, place_of, read_input, write_output
from fota_wire.host_json import read_json
from fota_wire.host_options import DEVICES, FILE, FORCE, Command, OneOf
from fota_wire.host_print import print_result
from fota_wire.host_values import device_id

ROWS, BYTES = 250, 512 << 10
"""A page: so many rows, or so many bytes of lines if that is less."""
MAX_LINE = 64 << 10
TOLD = 5
TAGS = "tags"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file; ``fault``: why it is none, else None."""

    number: int
    size: int
    device_id: str
    words: dict[str, str | None]
    fault: str | None = None


@click.command("import", cls=Command)
@click.argument("file", type=DEVICES)
@click.option("--admit", is_flag=True, help="Let devices in that have not checked in yet, too.")
@click.option("--dry-run", is_flag=True, help="Only check all of it.")
@connected
def import_devices(client: OperatorClient, file: Path, admit: bool, dry_run: bool, as_json: bool) -> None:
    """Take in what FILE says of devices, CSV or JSON lines: all of it or, if a line is wrong, nothing.

    CSV: a first line of names, 'id' among them, and 'tags' for words with spaces between them; an empty cell
    says nothing. JSON lines: {"id": "...", "hardware": "C", "frozen": "", "region": null}; "" is a tag, null
    takes back. Given again, it changes nothing.
    """
    name, data = name_of(file), read_input(file)
    _require_sound(client, name, data, admit)
    if dry_run:
        print_result(
            {"lines": sum(1 for _ in _lines(name, data))}, as_json, f"{name}: nothing is wrong with it"
        )
        return
    done, changed, admitted = 0, 0, 0
    for page in _pages(_lines(name, data)):
        try:
            answer = client.post("devices/import", _body(page, admit), shown_by="fota device list")
        except FotaError as exc:
            where = f"{name}: lines {page[0].number} to {page[-1].number}"
            raise type(exc)(f"{where}: {exc}; {done} device(s) before are taken in: give it again") from exc
        done, changed = done + len(page), changed + answer["changed"]
        admitted += answer["admitted"]
    total = {"devices": done, "changed": changed, "admitted": admitted}
    print_result(total, as_json, f"{done} device(s): {changed} changed, {admitted} let in")


def _require_sound(client: OperatorClient, name: str, data: bytes, admit: bool) -> None:
    """Return if nothing is wrong with a file, by its form and by what the server knows.

    Raises:
        InputError: names the first lines that are wrong, and how many are.
    """
    faults: list[tuple[int, str]] = []
    count = 0
    for page in _pages(_unlike(_lines(name, data))):
        count += len(page)
        faults += [(line.number, line.fault) for line in page if line.fault]
        sound = [line for line in page if not line.fault]
        if sound:
            refused = client.post("devices/import", _body(sound, admit) | {"dry_run": True})["refused"]
            faults += [(sound[item["row"]].number, str(item["message"])) for item in refused]
    if not count:
        raise InputError(f"{name}: there is no device in it")
    if faults:
        told = "; ".join(f"line {number}: {why}" for number, why in sorted(faults)[:TOLD])
        more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        raise InputError(f"{name}: nothing is done, {len(faults)} of {count} line(s) wrong: {told}{more}")


def _body(page: list[Line], admit: bool) -> dict[str, object]:
    return {"devices": [{"id": line.device_id, "attributes": line.words} for line in page], "admit": admit}


def _pages(lines: Iterator[Line]) -> Iterator[list[Line]]:
    page: list[Line] = []
    size = 0
    for line in lines:
        if page and (len(page) == ROWS or size + line.size > BYTES):
            yield page
            page, size = [], 0
        page.append(line)
        size += line.size
    if page:
        yield page


def _unlike(lines: Iterator[Line]) -> Iterator[Line]:
    """Pass lines on; of those about one device all but the first are wrong."""
    first: dict[str, int] = {}
    for line in lines:
        before = first.setdefault(line.device_id, line.number)
        if line.fault is None and before != line.number:
            why = f"device {line.device_id} is in line {before} already"
            yield Line(line.number, line.size, line.device_id, {}, why)
        else:
            yield line


# Lines


def _lines(name: str, data: bytes) -> Iterator[Line]:
    """Yield the lines of a file that are not empty.

    Raises:
        InputError: it begins with a line of names that cannot be used.
    """
    stream = io.BytesIO(data.removeprefix(b"\xef\xbb\xbf"))
    names: list[str] | None = [] if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else None
    for number, raw in enumerate(stream, 1):
        line = raw.strip(b"\r\n")
        if not line.strip():
            continue
        if names is None:
            names = _names(f"{name}: line {number}", line)
            continue
        try:
            found = _of_json(line) if not names else _of_csv(line, names)
            yield Line(number, len(raw), device_id(found.pop("id", None) or "", "id"), found)
        except InputError as exc:
            yield Line(number, len(raw), f"line {number}", {}, str(exc))


def _text(line: bytes) -> str:
    if len(line) > MAX_LINE:
        raise InputError(f"longer than {MAX_LINE} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        raise InputError(f"not UTF-8 at byte {exc.start + 1}") from exc


def _cells(line: bytes) -> list[str]:
    try:
        return next(csv.reader([_text(line)], strict=True))
    except (csv.Error, StopIteration) as exc:
        raise InputError(f"no CSV: {exc}") from exc


def _names(where: str, line: bytes) -> list[str]:
    try:
        names = [cell.strip() for cell in _cells(line)]
    except InputError as exc:
        raise InputError(f"{where}: {exc}") from exc
    if "id" not in names:
        raise InputError(f"{where}: has to name the columns, 'id' among them; or else JSON lines")
    if len(set(names)) < len(names):
        raise InputError(f"{where}: a column is there twice")
    return names


def _of_csv(line: bytes, names: list[str]) -> dict[str, Any]:
    cells = _cells(line)
    if len(cells) != len(names):
        raise InputError(f"{len(cells)} cell(s) where the first line names {len(names)}")
    found: dict[str, Any] = {
        name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()
    }
    tags = found.pop(TAGS, "").split()
    both = [tag for tag in tags if tag in found]
    if both:
        raise InputError(f"{both[0][:40]!a} is a tag, and a column of its own")
    return found | dict.fromkeys(tags, "")


def _of_json(line: bytes) -> dict[str, Any]:
    found = read_json(_text(line))
    if not isinstance(found, dict) or not all(isinstance(value, str | None) for value in found.values()):
        raise InputError("has to be an object of names and texts, or null")
    return found


# Export


@click.command("export", cls=Command)
@click.option("--group", "-g", metavar="NAME", help="Only devices of this group.")
@filter_option
@click.option("--format", "form", type=OneOf("csv", "jsonl"), default="csv", show_default=True, help="Form.")
@click.option("-o", "--output", type=FILE, default=STREAM, help="File to write; else standard output.")
@FORCE
@connected
def export_devices(
    client: OperatorClient,
    group: str | None,
    text: str | None,
    form: str,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write what operators have said of devices, as 'fota device import' takes it."""
    rows: list[tuple[str, dict[str, str]]] = []
    for item in client.pages("devices", "devices", group=group, filter=text):
        words = {name: one["value"] for name, one in item["attributes"].items() if one["by"] == "operator"}
        rows.append((item["id"], words))
    written = _as_csv(rows) if form == "csv" else _as_lines(rows)
    write_output(output, written.encode(), force=force)
    told = f"{len(rows)} device(s) {place_of(output)}"
    print_result({"devices": len(rows)}, as_json, told, output=output)


def _as_csv(rows: list[tuple[str, dict[str, str]]]) -> str:
    columns = sorted({name for _, words in rows for name, value in words.items() if value})
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["id", *columns, TAGS])
    for one, words in rows:
        tags = " ".join(name for name, value in words.items() if not value)
        table.writerow([one, *(words.get(name, "") for name in columns), tags])
    return written.getvalue()


def _as_lines(rows: list[tuple[str, dict[str, str]]]) -> str:
    return "".join(json.dumps({"id": one, **words}, ensure_ascii=False) + "\n" for one, words in rows)
