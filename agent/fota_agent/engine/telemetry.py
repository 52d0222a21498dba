"""The bounded queue of what the application publishes, until the server has it (SPEC 5.5)."""

from fota_wire.checkin import MAX_TELEMETRY, MAX_VALUE, is_topic, parse_value
from fota_wire.errors import FormatError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from fota_agent.seams import Queue

MAX_VALUES = 24
MAX_BYTES = 2048  # of topics and values together


def encode(topic: object, value: object) -> "tuple[str, str]":
    """Return the plain text of ``topic``, which may be an Enum's, and the JSON text of ``value``.

    Raises:
        TypeError: ``topic`` is no text.
        InputError: no usable topic, no JSON value, or longer than 256 bytes.
    """
    import json

    if not isinstance(topic, str):
        raise TypeError(f"topic is a {type(topic).__name__}, not a text: publish(topic, value)")
    if not is_topic(topic):
        raise InputError(f"topic {topic[:64]}: use 1 to 32 letters, digits, '.', '_', '-', '/'")
    try:
        _check(topic, value)
        text = json.dumps(value)
    except InputError:
        raise
    except Exception as exc:  # nested without end, changed meanwhile, or a value's own code that fails
        raise InputError(f"{topic}: not a JSON value: {exc}") from exc
    if len(text.encode()) > MAX_VALUE:
        raise _too_long(topic)
    return topic.encode().decode(), text  # formatted, an Enum's would be its name


def _check(topic: str, value: object) -> None:
    """Return if JSON can say ``value``, whatever the interpreter's own ``json`` would make of it, and if it
    may fit. InputError.
    """
    todo, left = [value], MAX_VALUE
    while todo:
        item = todo.pop()
        left -= 1 + (len(item) if isinstance(item, (str, list, tuple, dict)) else 0)
        if left < 0:  # JSON takes at least that much; so what holds itself ends here, too
            raise _too_long(topic)
        if isinstance(item, str):
            item.encode()  # half a character is none
        elif isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise InputError(f"{topic}: not a JSON value: its keys are no texts")
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, (list, tuple)):
            todo.extend(item)
        elif not (item is None or isinstance(item, int) or _is_finite(item)):
            raise InputError(f"{topic}: not a JSON value: {type(item).__name__} {str(item)[:32]}")


def _is_finite(item: object) -> bool:
    try:
        return isinstance(item, float) and item - item == 0
    except NameError:  # an interpreter that was built without floats
        return False


def _too_long(topic: str) -> InputError:
    return InputError(f"{topic}: longer than {MAX_VALUE} bytes as JSON")


def add(state: "Queue", value: "tuple[str, int, str]") -> None:
    """Queue (topic, time, JSON text); the oldest make room."""
    queue = state.telemetry
    queue.append(value)
    while len(queue) > MAX_VALUES or sum([len(topic) + len(text) for topic, _, text in queue]) > MAX_BYTES:
        queue.pop(0)
    state.dirty = True


def batch(state: "Queue", limit: int = MAX_TELEMETRY) -> "list[tuple[str, int, str]]":
    """Return what the next check-in carries, the oldest first."""
    if not limit:  # no memory for that
        return []
    state.telemetry = sound(state.telemetry)
    return state.telemetry[:limit]


def sound(items: "Iterable[Any]") -> "list[tuple[str, int, str]]":
    """Return those of ``items`` that can be sent; a bad one costs itself and nothing else."""
    kept = []
    for item in items:
        try:
            kept.append(parse_value(list(item)))
        except (FormatError, TypeError):
            continue
    return kept


def delivered(state: "Queue", sent: "list[tuple[str, int, str]]") -> None:
    """Forget what the server has stored; values that were queued meanwhile stay."""
    kept = [value for value in state.telemetry if not any(value is item for item in sent)]
    if len(kept) != len(state.telemetry):
        state.telemetry = kept
        state.dirty = True
