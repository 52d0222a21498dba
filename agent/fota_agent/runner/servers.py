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

from fota_wire import root as roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.engine.state import State
    from fota_agent.seams import Board, Transport


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
        self._factory = (board.server_url, board.server_ca)
        self._go = FIRST
        self._version = 0

    def aim(self, root: "roots.Root") -> None:
        """Choose where the next check-in goes. ``root``: the newest."""
        aim = getattr(self._transport, "aim", None)
        if aim is None:
            return
        known = places(root, self._worked_last(), self._factory)
        now = 0
        while now < len(known) and known[now][1:] != (self._board.server_url, self._board.server_ca):
            now += 1
        at = (0 if self._go == FIRST else now + self._go) % len(known)
        self._version, url, ca = known[at]
        board = self._board
        if (board.server_url, board.server_ca) != (url, ca):
            board.server_url, board.server_ca = url, ca
            aim(self._fixed or url)

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

    def _worked_last(self) -> "roots.Root | None":
        """Return the ROOT whose set worked last, None = the factory's, or the store has lost it."""
        for raw in self._state.roots:
            root = roots.unsafe_read_root(raw)  # it was verified when it was taken, and in this boot
            if root.version == self._state.server:
                return root
        return None


def places(
    newest: "roots.Root", worked_last: "roots.Root | None", factory: "tuple[str, bytes]"
) -> "list[tuple[int, str, bytes]]":
    """Return (ROOT version, address, CA certificates in DER) of all places, in the order of their trial."""
    found: list[tuple[int, str, bytes]] = []
    for root in (newest, worked_last or newest):
        for url in root.servers or [factory[0]]:
            found.append((root.version, url, b"".join(root.server_cas) or factory[1]))
    found.append((0, factory[0], factory[1]))
    return [place for at, place in enumerate(found) if place[1:] not in [other[1:] for other in found[:at]]]
