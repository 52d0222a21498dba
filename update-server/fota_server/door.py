"""How many connections one plane takes, counted from accept() on, before anybody has said who they are. Pure.

A connection is a *newcomer* until its client is known: on the device plane by a certificate of the device CA,
on the operator plane by a token in force. Newcomers are bounded in all and per address, so that no number of
them can take the room of those who are known, and no address the room of the others. Where few addresses
have taken all places together, one that has fewer of them takes its place from the oldest newcomer of the
address that has most. Many devices behind one address are not hindered: each is a newcomer for the time of
its handshake only, and one that finds the door full comes again.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Connections that one plane takes at a time: in all, and of clients not known yet."""

    connections: int = 16384
    newcomers: int = 2048
    newcomers_per_address: int = 256


@dataclass(slots=True, eq=False)
class Visit:
    """One connection: from where, whether its client is known, has asked anything, what closes it at once."""

    place: str
    known: bool = False
    asked: bool = False
    close: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Door:
    """Who is inside; ``enter`` and ``leave`` come in pairs, also for one that was closed to make room."""

    room: Room
    inside: set[Visit] = field(default_factory=set)
    newcomers: int = 0
    newcomers_at: dict[str, dict[Visit, None]] = field(default_factory=dict)  # the oldest first
    _places_by_size: defaultdict[int, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    _most: int = 0  # newcomers of the address that has most: what is asked at a flood takes one step

    def enter(self, address: str) -> Visit | None:
        """Let a connection in, or return None: it is to be closed, unanswered."""
        visit = Visit(place_of(address))
        if not self._make_place(visit.place, full=len(self.inside) >= self.room.connections):
            return None
        self.inside.add(visit)
        self._one_newcomer_more(visit)
        return visit

    def vouch(self, visit: Visit) -> None:
        """Its client is known from now on; once is enough."""
        if visit in self.inside and not visit.known:
            visit.known = True
            self._one_newcomer_less(visit)

    def doubt(self, visit: Visit) -> bool:
        """It is over for us, and its client is heard out until it closes: a newcomer again, so that nobody
        fills the room of those who are known with what is over. False: there is no place for it.
        """
        if visit not in self.inside:
            return False
        if visit.known:
            if not self._make_place(visit.place, full=False):
                return False
            visit.known = False
            self._one_newcomer_more(visit)
        return True

    def leave(self, visit: Visit) -> None:
        """The connection is closed; once is enough."""
        if visit in self.inside:
            self.inside.remove(visit)
            if not visit.known:
                self._one_newcomer_less(visit)

    def _make_place(self, place: str, *, full: bool) -> bool:
        """Tell whether this address may have one newcomer more, if need be in the place of another's."""
        its_own = len(self.newcomers_at.get(place, ()))
        if its_own >= self.room.newcomers_per_address:
            return False
        if not full and self.newcomers < self.room.newcomers:
            return True
        if self._most <= its_own:
            return False
        crowded = next(iter(self._places_by_size[self._most]))
        oldest = next(iter(self.newcomers_at[crowded]))
        self.leave(oldest)
        oldest.close()
        return True

    def _one_newcomer_more(self, visit: Visit) -> None:
        self.newcomers += 1
        at_place = self.newcomers_at.setdefault(visit.place, {})
        at_place[visit] = None
        self._sort_in(visit.place, len(at_place) - 1, len(at_place))

    def _one_newcomer_less(self, visit: Visit) -> None:
        self.newcomers -= 1
        at_place = self.newcomers_at[visit.place]
        del at_place[visit]
        self._sort_in(visit.place, len(at_place) + 1, len(at_place))
        if not at_place:
            del self.newcomers_at[visit.place]

    def _sort_in(self, place: str, before: int, after: int) -> None:
        """Keep an address, whose newcomers are one more or less now, among those that have as many."""
        self._places_by_size[before].pop(place, None)
        if after:
            self._places_by_size[after][place] = None
        if after > self._most or not self._places_by_size[self._most]:
            self._most = after


@lru_cache(maxsize=4096)
def place_of(address: str) -> str:
    """Return what counts as one address: IPv4 as it is, of IPv6 the network of 64 bits that one site has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
