"""What a node knows of one token, and of one neighbour (SPEC 6.1)."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from peertap.mesh.precedence import newer_or_same
from peertap.types import TrunkId
from peertap.wire.control import Advert
from peertap.wire.routes import Origin, SignedRoute

MAX_ORIGINS: Final = 8  # ours: feasibility kept for so many origins of a token; the oldest goes
LEAST_PATH_MTU: Final = 1232  # SPEC 2.3: a neighbour that announces less is not believed


@dataclass(frozen=True, slots=True)
class Selected:
    """The route in use: by this trunk (None: this node owns the token)."""

    trunk: TrunkId | None
    advert: Advert
    metric: int
    path_mtu: int


@dataclass(slots=True)
class Entry:
    """All that is known of one token. A relay has one for each token of the mesh, so what is rare takes no room."""

    heard: dict[TrunkId, Advert] = field(default_factory=dict)
    least: dict[TrunkId, int] | None = None  # metric of the same sequence, where it grew since
    own: Advert | None = None
    origin: Origin | None = None  # of what was announced last, and the feasibility distance there
    sequence: int = 0
    distance: int = 0
    others: dict[Origin, tuple[int, int]] | None = None  # sequence and distance of origins before it, oldest first
    selected: Selected | None = None
    said: Advert | None = None  # what neighbours are told of it
    told: int = 0  # the transits that were told so, as bits (Neighbour.bit)
    askers: tuple[TrunkId, ...] = ()  # neighbours that wait for a later sequence number
    newest: Origin | None = None  # unicast: once this one was used, no older one is (SPEC 6.1)
    changed_at: float = float("-inf")
    stepped_at: float = float("-inf")  # a request made us step, or was passed on
    empty_since: float | None = None
    looks: int = 0  # how often it was looked at anew: what did not change since need not be asked again

    def hear(self, trunk: TrunkId, advert: Advert) -> None:
        """A neighbour announces this; what it announced before is remembered where that was less."""
        before = self.heard.get(trunk)
        self.heard[trunk] = advert
        if before is None:
            return
        least = self.least.pop(trunk, None) if self.least is not None else None
        route, former = advert.route, before.route
        if route.sequence == former.sequence and route.origin == former.origin:
            least = before.metric if least is None else min(least, before.metric)
            if least < advert.metric:
                if self.least is None:
                    self.least = {}
                self.least[trunk] = least

    def unhear(self, trunk: TrunkId) -> Advert | None:
        """Forgets what a neighbour announced; returns it."""
        if self.least is not None:
            self.least.pop(trunk, None)
        return self.heard.pop(trunk, None)

    def unhear_all(self) -> None:
        self.heard.clear()
        self.least = None

    def is_feasible(self, advert: Advert) -> bool:
        """Whether the neighbour is nearer than this node ever was (RFC 8966, 2.4)."""
        return self._is_below(advert.route, advert.metric)

    def leads_away(self, trunk: TrunkId, advert: Advert) -> bool:
        """Whether no frame that goes there comes back: the neighbour uses only what is below the least it announced."""
        least = advert.metric if self.least is None else self.least.get(trunk, advert.metric)
        return self._is_below(advert.route, min(advert.metric, least))

    def is_nearer(self, trunk: TrunkId) -> bool:
        """Whether a neighbour announces what makes our own announcement infeasible for it, and so of no use."""
        advert, said = self.heard.get(trunk), self.said
        if advert is None or said is None or advert.metric > said.metric:
            return False
        route, ours = advert.route, said.route
        return route.origin == ours.origin and newer_or_same(route.sequence, ours.sequence)

    def distance_to(self, origin: Origin) -> tuple[int, int] | None:
        """The sequence number and the least metric that this node announced for an origin."""
        if origin == self.origin:
            return self.sequence, self.distance
        return None if self.others is None else self.others.get(origin)

    def origins(self) -> list[Origin]:
        """Those that a distance is kept for."""
        return [*(self.others or ()), *(() if self.origin is None else (self.origin,))]

    def keep_distance(self, route: SignedRoute, metric: int) -> None:
        """This is announced from now on (RFC 8966, 3.7.3)."""
        if route.origin != self.origin:
            self._turn_to(route.origin, (route.sequence, metric))
        if route.sequence == self.sequence:
            self.distance = min(self.distance, metric)
        elif newer_or_same(route.sequence, self.sequence):
            self.sequence, self.distance = route.sequence, metric

    def forget_distances(self) -> None:
        """No neighbour goes by this node any more: whichever it goes by next, no frame comes back."""
        self.origin, self.sequence, self.distance, self.others = None, 0, 0, None

    def _turn_to(self, origin: Origin, first: tuple[int, int]) -> None:
        """Another origin is announced; what is known of the one before is kept."""
        others = {} if self.others is None else self.others
        known = others.pop(origin, first)
        if self.origin is not None:
            others[self.origin] = (self.sequence, self.distance)
        while len(others) >= MAX_ORIGINS:
            del others[next(iter(others))]
        self.origin, (self.sequence, self.distance) = origin, known
        self.others = others or None

    def _is_below(self, route: SignedRoute, metric: int) -> bool:
        known = self.distance_to(route.origin)
        if known is None:
            return True
        sequence, least = known
        if route.sequence == sequence:
            return metric < least
        return newer_or_same(route.sequence, sequence)


@dataclass(slots=True)
class Neighbour:
    """`mtu`: the greatest payload of the trunk there, in bytes. `bit`: of a transit, in Entry.told; 0: a leaf."""

    cost: int
    mtu: int
    bit: int = 0
    tokens: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # its routes, by reason
    is_retiring: bool = False
    is_silent: bool = False

    def path_mtu(self, advert: Advert) -> int:
        """Of the way by this neighbour, in bytes."""
        return max(LEAST_PATH_MTU, min(advert.path_mtu, self.mtu))
