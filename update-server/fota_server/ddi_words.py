"""hawkBit's Direct Device Integration API in words: what devices send, strictly read, and what they get.

Pure. Fields that are not known are ignored, as hawkBit does; what is used has its type and its range, or the
whole body is refused and nothing of it is kept.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fota_server.logs import one_line
from fota_wire.errors import FormatError

MAX_BODY = 65536
MAX_ACTION = (1 << 31) - 1
"""Clients keep an action's number in 32 bits, signed."""
MAX_ATTRIBUTES = 100
MAX_TEXT = 128
"""Characters of an attribute's name and of its value."""
DETAILS_KEPT, DETAIL_LENGTH = 10, 256
"""Of what one feedback tells, the last lines, each cut at so many characters. No feedback is refused for
telling too much: the word that ends an action may be in it.
"""
_MAX_DIGITS = 20

EXECUTIONS = (
    *("closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "download", "downloaded"),
)
FINISHED = ("success", "failure", "none")
MODES = ("merge", "replace", "remove")
FORCED, SKIP = "forced", "skip"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a device says of an action: how it goes (`EXECUTIONS`), how it ended (`FINISHED`), and lines."""

    execution: str
    finished: str
    details: tuple[str, ...]

    @property
    def verdict(self) -> bool | None:
        """Return whether the device says that it is done, or that it failed; None: it is still at it."""
        return self.finished != "failure" if self.execution == "closed" else None

    @property
    def gives_up(self) -> bool:
        """Return whether a device that was asked to cancel says that it has."""
        return self.execution in ("closed", "canceled")

    @property
    def why(self) -> str:
        """Return the last line that the device said, or what there is instead."""
        return self.details[-1] if self.details else "the device gave no reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a device tells of itself, and what that does to what it told before (`MODES`)."""

    mode: str
    values: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The one file of a release that devices get; hashes in lower-case hex, ``size`` in bytes."""

    release_id: int
    version: str
    name: str
    size: int
    sha256: str
    sha1: str
    md5: str


# -- what devices send ---------------------------------------------------------------------------------------


def parse_feedback(raw: bytes) -> Feedback:
    """Return the feedback in a body; its ``id`` is not looked at: clients disagree on it, the URL names one.

    Raises:
        FormatError: it is none.
    """
    status = _object_in(_read(raw), "status")
    execution, finished = status.get("execution"), _object_in(status, "result").get("finished")
    if execution not in EXECUTIONS:
        raise FormatError(f"status.execution has to be one of {', '.join(EXECUTIONS)}", "feedback")
    if finished not in FINISHED:
        raise FormatError(f"status.result.finished has to be one of {', '.join(FINISHED)}", "feedback")
    told = status.get("details") or []
    if not isinstance(told, list) or not all(isinstance(line, str) for line in told):
        raise FormatError("status.details has to be a list of texts", "feedback")
    details = tuple(one_line(line)[:DETAIL_LENGTH] for line in told[-DETAILS_KEPT:])
    return Feedback(execution=execution, finished=finished, details=details)


def parse_attributes(raw: bytes) -> Attributes:
    """Return the attributes in a body of configData.

    Raises:
        FormatError: it has none, or too many, or ones that are too long.
    """
    body = _read(raw)
    mode, data = body.get("mode") or "merge", _object_in(body, "data")
    if mode not in MODES:
        raise FormatError(f"mode has to be one of {', '.join(MODES)}", "attributes")
    if len(data) > MAX_ATTRIBUTES:
        raise FormatError(f"data has more than {MAX_ATTRIBUTES} attributes", "attributes")
    values = {}
    for name, value in data.items():
        text = json.dumps(value) if isinstance(value, int) else value if isinstance(value, str) else None
        if not 1 <= len(name) <= MAX_TEXT or text is None or len(text) > MAX_TEXT:
            raise FormatError(
                f"data: a name has 1 to {MAX_TEXT} characters, a value is a text of up to {MAX_TEXT}",
                "attributes",
            )
        if not (name + text).isprintable():
            raise FormatError("data: names and values have to be printable", "attributes")
        values[name] = text
    return Attributes(mode=mode, values=values)


def _read(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            raw.decode(),
            object_pairs_hook=_once,
            parse_int=_whole,
            parse_float=_short,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as exc:
        raise FormatError(
            "the body is not JSON that can be taken: an object, each name once", "json"
        ) from exc
    if not isinstance(value, dict):
        raise FormatError("the body has to be a JSON object", "json")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, each of whose names is there once and, as its texts, can be said again: JSON can
    write half a character (RFC 8259 8.2).
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    for name, value in pairs:
        for text in (name, *(value if isinstance(value, list) else (value,))):
            if isinstance(text, str):
                text.encode()
    return found


def _whole(digits: str) -> int:
    return int(_short(digits))


def _short(number: str) -> str:
    if len(number) > _MAX_DIGITS:
        raise ValueError("a number of that many digits")
    return number  # nothing that we read is a fraction: it stays a text


def _no_number(name: str) -> None:
    raise ValueError(name)


def _object_in(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict):
        raise FormatError(f"{name} has to be an object", "json")
    return value


def require_host(host: str) -> str:
    """Return what the client calls this server: links have to name it so, or its TLS would not find it.

    Raises:
        FormatError: no host can be called that.
    """
    if not _HOST.fullmatch(host):
        raise FormatError("the Host field names no host", "host")
    return host


# -- what they get -------------------------------------------------------------------------------------------


def sleep_text(seconds: int) -> str:
    """Return when to poll again as all clients read it, ``HH:MM:SS``."""
    seconds = max(1, min(seconds, 86399))
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def base(sleep: str, links: Mapping[str, str]) -> dict[str, Any]:
    """Return the answer to a poll; ``links``: where to go on, by their names in DDI."""
    return {
        "config": {"polling": {"sleep": sleep}},
        "_links": {name: {"href": href} for name, href in links.items()},
    }


def artifact(file: File, root: str) -> dict[str, Any]:
    """Return how a file is described below ``root``, the URL of the device: three hashes and four links,
    since each client compares another hash and takes another link.
    """
    href = f"{root}/softwaremodules/{file.release_id}/artifacts/{file.name}"
    both = {"download": href, "download-http": href, "md5sum": href + ".MD5SUM"}
    both["md5sum-http"] = both["md5sum"]
    return {
        "filename": file.name,
        "hashes": {"sha1": file.sha1, "md5": file.md5, "sha256": file.sha256},
        "size": file.size,
        "_links": {name: {"href": link} for name, link in both.items()},
    }


def deployment(action: int, mode: str, file: File, name: str, root: str) -> dict[str, Any]:
    """Return an action: one chunk with one file, which is all that the smaller clients take."""
    chunk = {"part": "bApp", "version": file.version, "name": name, "artifacts": [artifact(file, root)]}
    return {"id": str(action), "deployment": {"download": mode, "update": mode, "chunks": [chunk]}}


def cancel(action: int) -> dict[str, Any]:
    """Return the order to stop an action."""
    return {"id": str(action), "cancelAction": {"stopId": str(action)}}
