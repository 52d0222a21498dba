"""How many connections one plane takes, counted from accept() on, before anybody has said who they are. Pure.

A connection is a *newcomer* until its client is known: on the device plane by a certificate of the device CA,
on the operator plane by a token in force. Newcomers are bounded in all and per address, so that no number of
them can take the room of those who are known, and no address the room of the others. Many devices behind one
address are not hindered: each is a newcomer for the time of its handshake only, and one that finds the door
full comes again.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Connections that one plane takes at a time: in all, and of clients not known yet."""

    connections: int = 16384
    newcomers: int = 2048
    newcomers_per_address: int = 256


@dataclass(slots=True, eq=False)
class Visit:
    """One connection: from where, and whether its client is known."""

    place: str
    known: bool = False


@dataclass(slots=True)
class Door:
    """Who is inside; ``enter`` and ``leave`` come in pairs."""

    room: Room
    inside: set[Visit] = field(default_factory=set)
    newcomers: int = 0
    newcomers_at: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> Visit | None:
        """Let a connection in, or return None: it is to be closed, unanswered."""
        place = place_of(address)
        if len(self.inside) >= self.room.connections or not self._has_place(place):
            return None
        visit = Visit(place)
        self.inside.add(visit)
        self._one_newcomer_more(place)
        return visit

    def vouch(self, visit: Visit) -> None:
        """Its client is known from now on; once is enough."""
        if visit in self.inside and not visit.known:
            visit.known = True
            self._one_newcomer_less(visit.place)

    def doubt(self, visit: Visit) -> bool:
        """It is over for us, and its client is heard out until it closes: a newcomer again, so that nobody
        fills the room of those who are known with what is over. False: there is no place for it.
        """
        if visit not in self.inside:
            return False
        if visit.known:
            if not self._has_place(visit.place):
                return False
            visit.known = False
            self._one_newcomer_more(visit.place)
        return True

    def leave(self, visit: Visit) -> None:
        """The connection is closed; once is enough."""
        if visit in self.inside:
            self.inside.remove(visit)
            if not visit.known:
                self._one_newcomer_less(visit.place)

    def _has_place(self, place: str) -> bool:
        at_place = self.newcomers_at.get(place, 0)
        return self.newcomers < self.room.newcomers and at_place < self.room.newcomers_per_address

    def _one_newcomer_more(self, place: str) -> None:
        self.newcomers += 1
        self.newcomers_at[place] += 1

    def _one_newcomer_less(self, place: str) -> None:
        self.newcomers -= 1
        self.newcomers_at[place] -= 1
        if not self.newcomers_at[place]:
            del self.newcomers_at[place]


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
