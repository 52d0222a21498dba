"""What one gateway consists of: its folder, ``gateway.toml`` in it, and where everything lies.

gateway.toml   settings, the counterpart of the settings page: for root alone to write
trust.cbor     trust store (SPEC 1.3)
slot-a, slot-b images (SPEC 2); files, or block devices that gateway.toml names
journal        boot journal (SPEC 3): two pages of 2 KiB
floor          security floor, decimal
store          the agent's memory
run/           what ends with a boot: boot-report (SPEC 4), health, launcher.lock
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from fota_agent.boards.linux import storage
from fota_wire import bootreport, cose, layout, settings
from fota_wire.errors import FormatError, InputError
from fota_wire.files import read_input
from fota_wire.image import MAX_PROGRAM

TRIAL_S = 5400  # the agent gives a trial up after an hour; this is for one that hangs
DEFAULT_PAGE = 65536
STOP_S = 60


class Gateway:
    """One gateway's settings, read and checked.

    ``roots``: {KEYHASH: x||y} of the keys that may sign programs; ``tries`` of a trial; ``max_step`` of the
    security counter; ``trial_s``; ``stop_s`` that a program has to stop before it is killed; ``slots``:
    {slot: path}; ``slot_size`` and ``page_size`` in bytes; ``reserve``: bytes of the disk that downloads
    leave to the program, None = 5 %, at most 64 MiB; ``element``,
    ``updates``: tables of gateway.toml; ``health_command``: to be asked for the program's
    health, None = the program writes ``run/health``; ``trust``: the trust store.

    Raises:
        InputError: a file is missing, or not what it has to be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "gateway.toml"
        try:
            table = tomllib.loads(read_input(path, 65536).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise InputError(f"{path}: {exc}") from exc
        try:
            self._read(table)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:  # a number where a table has to be
            raise InputError(f"{path}: missing or unusable: {exc}") from exc
        try:
            self.trust = settings.unpack_trust_store(read_input(folder / "trust.cbor", 65536))
        except FormatError as exc:
            raise InputError(f"{folder}/trust.cbor: {exc}") from exc

    def _read(self, table: dict[str, Any]) -> None:
        self.device_id = bytes.fromhex(table["device_id"])
        if len(self.device_id) != 9:
            raise ValueError("device_id has 18 hex digits")
        keys = [bytes.fromhex(text) for text in table["image"]["keys"]]
        if not keys or any(len(xy) != 64 for xy in keys):
            raise ValueError("image.keys: x and y of each key, 128 hex digits")
        self.roots = {cose.key_hash(xy): xy for xy in keys}
        self.tries = _within(table["image"].get("tries", settings.DEFAULT_TRIES), 1, 15, "image.tries")
        self.max_step = _within(table["image"].get("max_step", 255), 1, layout.SEC_CNT_MAX, "image.max_step")
        self.trial_s = _within(table["image"].get("trial_s", TRIAL_S), 1, 86_400, "image.trial_s")
        self.stop_s = _within(table["image"].get("stop_s", STOP_S), 1, 3600, "image.stop_s")
        slots = table.get("slots", {})
        self._named = {layout.SLOT_A: "a" in slots, layout.SLOT_B: "b" in slots}
        self.reserve = None
        if "reserve" in slots:
            self.reserve = _within(slots["reserve"], 0, 1 << 40, "slots.reserve")
        self.slots = {
            layout.SLOT_A: self.folder / slots.get("a", "slot-a"),
            layout.SLOT_B: self.folder / slots.get("b", "slot-b"),
        }
        self.slot_size = _within(slots.get("size", MAX_PROGRAM), 4096, MAX_PROGRAM, "slots.size")
        self.page_size = DEFAULT_PAGE
        self.element: dict[str, Any] = dict(table["element"])
        self.updates: dict[str, Any] = dict(table.get("updates", {}))
        texts = [self.updates.get(name, "") for name in ("mirror", "proxy")]
        if any(type(text) is not str for text in texts) or type(self.updates.get("tls12", True)) is not bool:
            raise ValueError("updates.mirror is a text, updates.tls12 true or false, updates.proxy a text")
        command = table.get("health", {}).get("command")
        if command is not None and (not isinstance(command, list) or not command):
            raise ValueError('health.command is a list of words: ["curl", "..."]')
        self.health_command: list[str] | None = None if command is None else [str(word) for word in command]

    def slot(self, slot: int) -> storage.FileSlot:
        """Return one of the two."""
        named = self._named[slot]
        return storage.FileSlot(self.slots[slot], self.slot_size, self.page_size, named, self.reserve)

    @property
    def run(self) -> Path:
        """The folder of what ends with a boot."""
        return self.folder / "run"

    @property
    def report_path(self) -> Path:
        """The boot report; it stays between two boots, and holds zeros then: a full disk takes the next."""
        return self.run / "boot-report"

    def boot_report(self) -> bootreport.BootReport | None:
        """Return what the launcher left of this boot, or None: nothing is booted, or it could not say so.

        On a file system that is read-only the one that lies there may be of an earlier boot. To its own
        program the launcher says it in the environment, too, which no disk can take away.
        """
        try:
            if not os.statvfs(self.report_path).f_flag & os.ST_RDONLY and (
                raw := storage.read_plain(self.report_path)
            ):
                return bootreport.unpack(raw)
        except FormatError:
            return None
        except OSError:
            pass
        if os.environ.get("FOTA_GATEWAY") != str(self.folder.resolve()):
            return None
        try:
            return bootreport.unpack(bytes.fromhex(os.environ.get("FOTA_BOOT_REPORT", "")))
        except (FormatError, ValueError):
            return None

    @property
    def health_path(self) -> Path:
        """The program's own verdict: ``good`` or ``bad``."""
        return self.run / "health"

    @property
    def agent_lock_path(self) -> Path:
        """Held by the running agent."""
        return self.run / "agent.lock"

    @property
    def available_path(self) -> Path:
        """The update that waits for consent: manifest digest in hex, version."""
        return self.run / "available"

    @property
    def approved_path(self) -> Path:
        """The manifest digest, in hex, that somebody has agreed to."""
        return self.folder / "approved"

    @property
    def lock_path(self) -> Path:
        """Held by the running launcher, whose process id is in it."""
        return self.run / "launcher.lock"


def _within(value: object, low: int, high: int, what: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{what} is not a whole number of {low} to {high}")
    return value
