"""Virtual time: executed instructions at the core clock, plus the time that waits and transfers take."""

from collections.abc import Callable

PS_PER_S = 10**12
PS_PER_MS = 10**9
PS_PER_US = 10**6


class Clock:
    """Time in picoseconds since the machine was made; it never goes back and never stands for wall time.

    One executed instruction costs one core clock (`fota vdev limits` says so); everything else that
    takes time calls `advance` or, for a core that sleeps, `sleep`.
    """

    def __init__(self, executed: Callable[[], int]) -> None:
        self._executed = executed
        self._base_ps = 0
        self._base_count = 0
        self.hz = 4_000_000
        self.slept_ps = 0
        self.on_jump: Callable[[], None] = lambda: None
        self.before_rate: Callable[[], None] = lambda: None

    @property
    def ps(self) -> int:
        """Now, in picoseconds."""
        return self._base_ps + (self._executed() - self._base_count) * PS_PER_S // self.hz

    @property
    def us(self) -> int:
        """Now, in whole microseconds."""
        return self.ps // PS_PER_US

    def set_hz(self, hz: int) -> None:
        """Change the core clock; time that has passed keeps its old rate."""
        self.before_rate()
        self._base_ps, self._base_count = self.ps, self._executed()
        self.hz = hz

    def advance(self, ps: int) -> None:
        """Let ``ps`` picoseconds pass while the core is busy (polling, stalled) or off."""
        self._base_ps += ps
        self.on_jump()

    def sleep(self, ps: int) -> None:
        """Let ``ps`` picoseconds pass while the core sleeps in WFI."""
        self.slept_ps += ps
        self.advance(ps)

    def wait_until(self, deadline_ps: int) -> None:
        """Advance to ``deadline_ps``; nothing happens if it has passed."""
        delta = deadline_ps - self.ps
        if delta > 0:
            self.advance(delta)

    def cycles_until(self, deadline_ps: int) -> int:
        """Core clocks from now to ``deadline_ps``, rounded up; 0 if it has passed."""
        delta = deadline_ps - self.ps
        return 0 if delta <= 0 else -(-delta * self.hz // PS_PER_S)

    def state(self) -> tuple[int, int, int, int]:
        """Return what `restore` needs."""
        return self._base_ps, self._base_count, self.hz, self.slept_ps

    def restore(self, state: tuple[int, int, int, int]) -> None:
        """Go back to a `state`; only a snapshot of the whole machine may do this."""
        self._base_ps, self._base_count, self.hz, self.slept_ps = state
