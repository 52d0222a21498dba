"""What is counted of a running server, by prometheus_client; `standing.py` says what is not counted but so.

Counted is where it happens: on the way of a check-in once a batch, elsewhere once an event. Labels have few
values, all of them ours: no device, no address, no token is ever one.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # when each series began is twice as much to send
REGISTRY = CollectorRegistry()
PLANES = ("device", "operator")
MAX_CODES = 64
"""Refusal codes that have a series of their own; the rest is ``other``."""

CHECKIN_OUTCOMES = ("quiet", "accepted", "report-refused", "forbidden", "busy", "mistake")
CHECKINS = Counter(
    "fota_checkins",
    "Check-ins by outcome: answered without a report, report accepted, report refused; not answered.",
    ["outcome"],
    registry=REGISTRY,
)
BATCH = Histogram(
    "fota_checkin_batch_size",
    "Check-ins that shared one transaction.",
    registry=REGISTRY,
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
REFUSALS = Counter("fota_refusals", "Refusals by plane and code.", ["plane", "code"], registry=REGISTRY)
HANDSHAKES = Counter(
    "fota_tls_handshakes", "TLS handshakes by plane: done, or failed.", ["plane", "result"], registry=REGISTRY
)
TURNED_AWAY = Counter(
    "fota_connections_refused",
    "Connections closed at once for want of room, by plane.",
    ["plane"],
    registry=REGISTRY,
)
WRITE_SECONDS = Histogram(
    "fota_database_write_seconds",
    "Time of a writing transaction, from asking for the write lock to the end of the commit.",
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
DATABASE_FAILURES = Counter(
    "fota_database_failures", "Transactions that the database failed.", registry=REGISTRY
)
PAYLOAD_BYTES = Counter("fota_payload_bytes", "Bytes of artifacts sent to devices.", registry=REGISTRY)
WEBHOOKS = Counter(
    "fota_webhook_messages", "Messages to webhooks: taken, or failed.", ["result"], registry=REGISTRY
)
MISTAKES = Counter(
    "fota_mistakes",
    "Requests that ended in a mistake of the server's, by plane.",
    ["plane"],
    registry=REGISTRY,
)

_codes: set[tuple[str, str]] = set()


def count_refusal(plane: str, code: str) -> None:
    """Count one refusal."""
    if (plane, code) not in _codes:
        if len(_codes) >= MAX_CODES:
            code = "other"
        _codes.add((plane, code))
    REFUSALS.labels(plane, code).inc()


def _begin_at_nought() -> None:
    """A series that is not there yet cannot be told from a server that does not count."""
    for outcome in CHECKIN_OUTCOMES:
        CHECKINS.labels(outcome)
    for result in ("taken", "failed"):
        WEBHOOKS.labels(result)
    for plane in PLANES:
        TURNED_AWAY.labels(plane)
        MISTAKES.labels(plane)
        for result in ("done", "failed"):
            HANDSHAKES.labels(plane, result)


_begin_at_nought()
