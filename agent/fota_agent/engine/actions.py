"""What the update engine may ask of its runner; each action is named by the engine's state.

| State | Action | Outcome: next state |
|---|---|---|
| IDLE | wait until a time | timer: NONCE, or HEALTH in a trial |
| HEALTH | ask whether the trial is healthy | health: NONCE, HEALTH, REJECT; CONFIRM if local |
| NONCE | draw 16 bytes from the element | nonce: CHECKIN |
| CHECKIN | send the check-in | response: IDLE, CONFIRM, COMPARE_RUNNING, ASK_* |
| CONFIRM | write the journal: confirmed | confirmed: IDLE |
| REJECT | write the journal: trial over | rejected: REBOOT |
| COMPARE_* | hash a slot | hashed: IDLE (runs already), INSPECT, ASK_DOWNLOAD; refused |
| ASK_DOWNLOAD | ask the application | allowed: RESUME, ERASE; asked again later |
| RESUME | find the last complete page | resumed: FETCH |
| ERASE | erase the pages of the image | erased: FETCH |
| FETCH | download into the slot | fetched: COMPARE_WRITTEN |
| INSPECT | read the image's own counters | inspected: ASK_INSTALL; malformed: refused |
| ASK_INSTALL | ask the application | allowed: REQUEST; asked again later |
| REQUEST | write the journal: staged | requested: REBOOT |
| REBOOT | reset | none: the next boot begins anew |

From any state: failed, for want of memory again and again: what waits to be told is lost, then REBOOT.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.checkin import Request
    from fota_wire.suit import Manifest

IDLE, HEALTH, NONCE, CHECKIN, CONFIRM, REJECT = "idle", "health", "nonce", "checkin", "confirm", "reject"
COMPARE_RUNNING, COMPARE_INACTIVE, COMPARE_WRITTEN = "compare-running", "compare-inactive", "compare-written"
RESUME, ERASE, FETCH, INSPECT = "resume", "erase", "fetch", "inspect"
ASK_DOWNLOAD, ASK_INSTALL = "ask-download", "ask-install"
REQUEST, REBOOT = "request", "reboot"


class Action:
    """What the runner is to do; ``kind`` is the engine's state. Fields that the kind does not use are empty.

    ``until``: IDLE, not before that time. ``request``: CHECKIN. ``claims``: CHECKIN, the report's fields or
    None. ``size``: COMPARE_*, ERASE, RESUME: bytes from the start of the slot. ``manifest``, ``offset``:
    FETCH.
    ``reason``: REJECT.
    """

    def __init__(
        self,
        kind: str,
        until: int = 0,
        size: int = 0,
        offset: int = 0,
        reason: int = 0,
        request: "Request | None" = None,
        claims: "Claims | None" = None,
        manifest: "Manifest | None" = None,
    ) -> None:
        self.kind = kind
        self.until = until
        self.size = size
        self.offset = offset
        self.reason = reason
        self.request = request
        self.claims = claims
        self.manifest = manifest


class Claims:
    """What a report says beside the boot report: the server's ``nonce``, ``root_version``, ``trial``,
    ``installed`` and ``events`` (SPEC 5.4).
    """

    def __init__(
        self,
        nonce: bytes,
        root_version: int,
        trial: bool,
        installed: "bytes | None",
        events: "list[tuple[str, str]]",
    ) -> None:
        self.nonce = nonce
        self.root_version = root_version
        self.trial = trial
        self.installed = installed
        self.events = events

    def content(self) -> "tuple[object, ...]":
        """Return what a later report would have to say again if it changed."""
        return (self.root_version, self.trial, self.installed)
