"""Where the server is, and by which CAs it proves that: what ROOT says last, what worked last, the factory's.

| Event | Next check-in goes to |
|---|---|
| boot | the newest set's first address |
| check-in succeeds | the same place; its set is the one that worked last from now on |
| and nothing is left to tell, and it was not the newest set | the newest set's first address, once |
| check-in fails | the next place: the newest set's, those of the set that worked last, the factory's |

So a set that is wrong, or wrong for a while, locks no device out. Of all that only the version of the ROOT
whose set worked last is kept over a reset; a power cut before it is written means to find it out again.
"""

from fota_wire import check
from fota_wire import root as roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fota_agent.engine.state import State
    from fota_agent.seams import Board, Transport

    Set = tuple[int, list[str], Sequence[bytes | memoryview]]  # ROOT version, addresses, CAs in DER
    Place = tuple[int, str, Sequence[bytes | memoryview]]


FIRST, SAME, NEXT = -1, 0, 1


class Servers:
    """Points ``transport`` of ``board`` at one place after the other. A transport that cannot be pointed, and
    a ``fixed`` address, stay where they are; CAs change with ROOT all the same.
    """

    def __init__(self, board: "Board", transport: "Transport", state: "State", fixed: "str | None") -> None:
        self._board = board
        self._transport = transport
        self._state = state
        self._fixed = fixed
        self._factory = (0, [board.server_url], board.server_cas)
        self._go = FIRST
        self._version = 0

    def aim(self, root: "roots.Root") -> None:
        """Choose where the next check-in goes. ``root``: the newest."""
        aim = getattr(self._transport, "aim", None)
        if aim is None:
            return
        known = places((root.version, root.servers, root.server_cas), self._worked_last(root), self._factory)
        board = self._board
        now = 0
        while now < len(known) and known[now][1:] != (board.server_url, board.server_cas):
            now += 1
        at = (0 if self._go == FIRST else now + self._go) % len(known)
        self._version, url, cas = known[at]
        if (board.server_url, board.server_cas) != (url, cas):
            board.server_url = url
            if board.server_cas != cas:  # else TLS has the same ones in use already
                board.server_cas = [check.bstr(ca, "server CA") for ca in cas]
            aim(self._fixed or url)
        if root.server_cas == board.server_cas:
            root.server_cas = board.server_cas  # one copy of them is enough

    def worked(self, root: "roots.Root", settled: bool) -> None:
        """The check-in has brought a fresh answer of ours. ``root``: the newest by now; ``settled``: nothing
        is left to tell the server, so that a try elsewhere costs no report.
        """
        if self._state.server != self._version:
            self._state.server = self._version
            self._state.dirty = True
        self._go = FIRST if settled and self._version != root.version else SAME

    def begun(self) -> None:
        """A check-in begins: unless it ``worked``, the next one goes to the next place."""
        self._go = NEXT

    def _worked_last(self, newest: "roots.Root") -> "Set | None":
        """Return the set that worked last if it is neither the newest nor the factory's, nor was lost."""
        if self._state.server not in (0, newest.version):
            for raw in self._state.roots:
                known = roots.unsafe_read_servers(raw)  # it was verified when it was taken, and in this boot
                if known[0] == self._state.server:
                    return known
        return None


def places(newest: "Set", worked_last: "Set | None", factory: "Set") -> "list[Place]":
    """Return all places, in the order of their trial; the version of the factory's is 0."""
    found: list[Place] = []
    for version, urls, cas in (newest, worked_last or newest):
        for url in urls or factory[1]:
            found.append((version, url, cas or factory[2]))
    found.append((0, factory[1][0], factory[2]))
    return [place for at, place in enumerate(found) if place[1:] not in [other[1:] for other in found[:at]]]
