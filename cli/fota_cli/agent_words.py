"""What an agent does, in words for people."""

from collections.abc import Callable

from fota_agent import Hooks
from fota_agent.agent import Agent
from fota_agent.engine import actions

FELL_BACK = ("reverted", "rejected", "refused")

Say = Callable[[str], None]


class WordyHooks(Hooks):
    """Tells what the agent does, and remembers whether the device fell back."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._quarter = 0
        self.fell_back = ""

    def available(self, manifest: object) -> None:
        """Say that there is an update."""
        text = getattr(manifest, "text", None) or {}
        self._say(f"agent: {text.get('version', 'an update')} is available")

    def progress(self, done: int, total: int) -> None:
        """Say every quarter of a download."""
        quarter = done * 4 // total
        if quarter != self._quarter:
            self._quarter = quarter
            self._say(f"agent: {done} of {total} bytes")

    def log(self, line: str) -> None:
        """Say one thing that happened."""
        if line.startswith(FELL_BACK):
            self.fell_back = line
        self._say(f"agent: {line}")


class Words:
    """Says what the engine turns to, once each time."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._phase = ""

    def say_phase(self, agent: Agent) -> None:
        """Say what ``agent`` is about to do, if it is something else than before."""
        engine = agent.engine
        if engine.phase == self._phase:
            return
        self._phase = engine.phase
        wanted = engine.wanted
        name = (wanted.text or {}).get("version", f"sequence {wanted.sequence}") if wanted else ""
        words = {
            actions.CHECKIN: f"checks in with {agent.server}",
            actions.FETCH: f"downloads {name}",
            actions.REQUEST: f"asks the bootloader to try {name}",
            actions.CONFIRM: "confirms the running image",
            actions.REJECT: "rejects the running image",
            actions.REBOOT: "resets the device",
        }
        if engine.phase in words:
            self._say(f"agent: {words[engine.phase]}")
