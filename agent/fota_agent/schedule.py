"""When this device takes updates: at once, once somebody agrees, not before a time, never; within windows."""

from fota_agent.transport.http import is_decimal
from fota_wire.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.suit import Manifest

AUTO, NOTIFY, DEFER, OFF = "auto", "notify", "defer", "off"
MODES = (AUTO, NOTIFY, DEFER, OFF)
DAY_S = 86_400


class Schedule:
    """``mode``: AUTO; NOTIFY, nothing before ``approve``; DEFER, no installation before ``until`` (s since
    1970); OFF, check-ins and reports only. ``windows``: [(from, to)] seconds of the UTC day in which the
    device may be reset for a new image; one that ends before it begins runs over midnight; none = always.

    Downloads wait for consent, not for windows: that is what brings an image within reach of a short one.
    """

    def __init__(self, mode: str = AUTO, until: int = 0, windows: "tuple[tuple[int, int], ...]" = ()) -> None:
        if mode not in MODES:
            raise InputError(f"update mode {mode} is none of {', '.join(MODES)}")
        if type(until) is not int or until < 0:
            raise InputError(f"until is {until}, not whole seconds since 1970")
        for window in windows:
            if not _is_window(window):
                raise InputError(f"window {window} is not (from, to) within the seconds of a day")
        self.mode = mode
        self.until = until
        self.windows = windows
        self._approved: bytes | None = None

    def approve(self, manifest_digest: bytes) -> None:
        """Agree to the one update that was told (mode NOTIFY). InputError: no digest of 32 bytes."""
        if not isinstance(manifest_digest, bytes) or len(manifest_digest) != 32:
            raise InputError("agree to a manifest digest, 32 bytes: Hooks.available tells it")
        self._approved = manifest_digest

    def may_download(self, manifest: "Manifest") -> bool:
        """Tell whether the image may be fetched into the other slot."""
        if self.mode == NOTIFY:
            return self._approved == manifest.manifest_digest
        return self.mode != OFF

    def may_install(self, manifest: "Manifest", time: "int | None") -> bool:
        """Tell whether the device may be reset into the new image at ``time`` (s since 1970, None: not
        known).
        """
        if not self.may_download(manifest):
            return False
        if self.mode == DEFER and (time is None or time < self.until):
            return False
        return not self.windows or (time is not None and self._in_window(time % DAY_S))

    def _in_window(self, second: int) -> bool:
        for start, end in self.windows:
            if (start <= second < end) if start < end else (second >= start or second < end):
                return True
        return False


def _is_window(window: "tuple[int, int]") -> bool:
    """Check what callers gave, whatever the annotation says."""
    if [type(second) for second in window] != [int, int]:
        return False
    return 0 <= window[0] < DAY_S and 0 <= window[1] <= DAY_S and window[0] != window[1]


def parse_window(text: str) -> "tuple[int, int]":
    """Return (from, to) in seconds of the day of ``HH:MM-HH:MM``. InputError if it is none."""
    parts = [part.split(":") for part in text.split("-")]
    if len(parts) != 2 or any(len(part) != 2 for part in parts):
        raise InputError(f"window {text} is not like 02:00-04:30")
    numbers = [digits for part in parts for digits in part]
    if not all(0 < len(digits) <= 2 and is_decimal(digits) for digits in numbers):
        raise InputError(f"window {text} is not like 02:00-04:30")
    hours = [int(part[0]) for part in parts]
    minutes = [int(part[1]) for part in parts]
    if max(hours) > 24 or max(minutes) > 59:
        raise InputError(f"window {text} is not like 02:00-04:30")
    return hours[0] * 3600 + minutes[0] * 60, hours[1] * 3600 + minutes[1] * 60
