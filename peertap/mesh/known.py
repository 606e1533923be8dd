"""What a node knows of routes, and what may be asked of it (SPEC 6.1)."""

from collections.abc import Iterator

from peertap.mesh.audience import Key
from peertap.mesh.choice import alternatives, detours
from peertap.mesh.digests import digests
from peertap.mesh.entry import Entry, Neighbour, Selected
from peertap.types import TrunkId, VTag
from peertap.wire.routes import Origin


class KnownRoutes:
    """Tokens and neighbours of one node; RouteTable changes them, and bounds both."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._neighbours: dict[TrunkId, Neighbour] = {}
        self._transits: dict[TrunkId, Neighbour] = {}  # of those, who relays
        self.demoted: dict[Key, frozenset[TrunkId]] = {}  # they swallow frames; as many as members that are probed

    # Neighbours

    def has_neighbour(self, trunk: TrunkId) -> bool:
        return trunk in self._neighbours

    def transits(self) -> list[TrunkId]:
        """Neighbours that are no leaves, the nearest first."""
        return sorted(self._transits, key=lambda trunk: (self._transits[trunk].cost, trunk))

    def is_silent(self, trunk: TrunkId) -> bool:
        """Whether a neighbour should have answered, and has not."""
        return trunk in self._neighbours and self._neighbours[trunk].is_silent

    def may_stand_at(self, trunk: TrunkId) -> bool:
        """Whether a leaf can be root by this neighbour: it relays, and answers."""
        return trunk in self._transits and not self._transits[trunk].is_silent

    def vtags(self) -> set[VTag]:
        """Under which neighbours announced something."""
        return {key[0] for key, entry in self._entries.items() if entry.heard}

    def refusals(self, trunk: TrunkId) -> dict[str, int]:
        """How many routes of a neighbour were not taken, by reason."""
        return dict(self._neighbours[trunk].refused) if trunk in self._neighbours else {}

    def told_digests(self, trunk: TrunkId) -> dict[VTag, bytes]:
        """What a transit was told that still holds, by VTag."""
        bit = self._neighbours[trunk].bit
        told = ((key, entry.said) for key, entry in self._entries.items() if entry.told & bit)
        return digests((key, said) for key, said in told if said is not None)

    def heard_digests(self, trunk: TrunkId) -> dict[VTag, bytes]:
        """What a neighbour told us that still holds, by VTag."""
        return digests((key, entry.heard[trunk]) for key, entry in self._entries.items() if trunk in entry.heard)

    # Tokens

    def selected(self, key: Key) -> Selected | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.selected

    def origins(self, key: Key) -> list[Origin]:
        """The origins that a token was routed to so far."""
        entry = self._entries.get(key)
        return [] if entry is None else entry.origins()

    def owns(self, key: Key) -> bool:
        """Whether this node announces the token as its own."""
        entry = self._entries.get(key)
        return entry is not None and entry.own is not None

    def rivals(self, key: Key) -> list[TrunkId]:
        """Neighbours that announce a token of ours as somebody else's."""
        entry = self._entries.get(key)
        if entry is None or entry.own is None:
            return []
        origin = entry.own.route.origin
        return [trunk for trunk, advert in entry.heard.items() if advert.route.origin != origin]

    def is_feasible(self, key: Key, trunk: TrunkId) -> bool:
        """Whether frames to the token may go by this neighbour, whichever is selected."""
        entry = self._entries.get(key)
        advert = entry.heard.get(trunk) if entry is not None else None
        if entry is None or advert is None or entry.selected is None:
            return False
        selected = entry.selected
        return selected.trunk == trunk or (
            advert.route.origin == selected.advert.route.origin and entry.leads_away(trunk, advert)
        )

    def looks(self, key: Key) -> int:
        """A number that is another one once the alternatives to a token's route may have changed."""
        entry = self._entries.get(key)
        return -1 if entry is None else entry.looks

    def alternatives(self, key: Key) -> list[Selected]:
        """Other neighbours by which frames to the token may go now, nearest first; those that are silent are none."""
        entry = self._entries.get(key)
        return [] if entry is None else alternatives(entry, self._neighbours, self.demoted.get(key, frozenset()))

    def detours(self, key: Key) -> list[Selected]:
        """Other neighbours by which a source may begin, feasible or not, nearest first (SPEC 7.1)."""
        entry = self._entries.get(key)
        return [] if entry is None else detours(entry, self._neighbours, self.demoted.get(key, frozenset()))

    def hears_of(self, vtag: VTag, trunk: TrunkId) -> bool:
        """Whether a neighbour announces anything under a VTag."""
        return any(key[0] == vtag and trunk in entry.heard for key, entry in self._entries.items())

    def in_use(self) -> Iterator[tuple[Key, Selected]]:
        """All tokens with a route in use."""
        for key, entry in self._entries.items():
            if entry.selected is not None:
                yield key, entry.selected
