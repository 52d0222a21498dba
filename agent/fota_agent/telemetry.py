"""The bounded queue of what the application publishes, until the server has it (SPEC 5.5)."""

from fota_wire.checkin import MAX_TELEMETRY, MAX_VALUE, is_topic
from fota_wire.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.state import State

MAX_VALUES = 24
MAX_BYTES = 2048  # of topics and values together


def encode(topic: str, value: object) -> str:
    """Return the JSON text of ``value``.

    Raises:
        InputError: no usable topic, no JSON value, or longer than 256 bytes.
    """
    import json

    if not is_topic(topic):
        raise InputError(f"topic {topic}: use 1 to 32 letters, digits, '.', '_', '-', '/'")
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as exc:
        raise InputError(f"{topic}: not a JSON value: {exc}") from exc
    if len(text.encode()) > MAX_VALUE:
        raise InputError(f"{topic}: longer than {MAX_VALUE} bytes as JSON")
    return text


def add(state: "State", value: "tuple[str, int, str]") -> None:
    """Queue (topic, time, JSON text); the oldest make room."""
    queue = state.telemetry
    queue.append(value)
    while len(queue) > MAX_VALUES or sum([len(topic) + len(text) for topic, _, text in queue]) > MAX_BYTES:
        queue.pop(0)
    state.dirty = True


def batch(state: "State") -> "list[tuple[str, int, str]]":
    """Return what the next check-in carries, the oldest first."""
    return state.telemetry[:MAX_TELEMETRY]


def delivered(state: "State", sent: "list[tuple[str, int, str]]") -> None:
    """Forget what the server has stored; values that were queued meanwhile stay."""
    kept = [value for value in state.telemetry if not any(value is item for item in sent)]
    if len(kept) != len(state.telemetry):
        state.telemetry = kept
        state.dirty = True
