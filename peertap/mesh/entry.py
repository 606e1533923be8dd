"""What a node knows of one token, and of one neighbour (SPEC 6.1)."""

from dataclasses import dataclass, field
from typing import Final

from peertap.mesh.precedence import newer_or_same
from peertap.types import TrunkId
from peertap.wire.control import Advert
from peertap.wire.routes import Origin, SignedRoute

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
    """All that is known of one token."""

    heard: dict[TrunkId, Advert] = field(default_factory=dict)
    least: dict[TrunkId, int] = field(default_factory=dict)  # metric of the same sequence, where it grew since
    own: Advert | None = None
    distance: dict[Origin, tuple[int, int]] = field(default_factory=dict)  # (sequence, metric): feasibility
    selected: Selected | None = None
    said: Advert | None = None  # what neighbours are told of it
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
        least = self.least.pop(trunk, None)
        if before is None:
            return
        route, former = advert.route, before.route
        if route.sequence == former.sequence and route.origin == former.origin:
            least = before.metric if least is None else min(least, before.metric)
            if least < advert.metric:
                self.least[trunk] = least

    def unhear(self, trunk: TrunkId) -> Advert | None:
        """Forgets what a neighbour announced; returns it."""
        self.least.pop(trunk, None)
        return self.heard.pop(trunk, None)

    def is_feasible(self, advert: Advert) -> bool:
        """Whether the neighbour is nearer than this node ever was (RFC 8966, 2.4)."""
        return self._is_below(advert.route, advert.metric)

    def leads_away(self, trunk: TrunkId, advert: Advert) -> bool:
        """Whether no frame that goes there comes back: the neighbour uses only what is below the least it announced."""
        return self._is_below(advert.route, min(advert.metric, self.least.get(trunk, advert.metric)))

    def _is_below(self, route: SignedRoute, metric: int) -> bool:
        known = self.distance.get(route.origin)
        if known is None:
            return True
        sequence, least = known
        if route.sequence == sequence:
            return metric < least
        return newer_or_same(route.sequence, sequence)


@dataclass(slots=True)
class Neighbour:
    """`mtu`: the greatest payload of the trunk there, in bytes."""

    cost: int
    mtu: int
    tokens: int = 0
    refused: int = 0
    is_retiring: bool = False
    is_silent: bool = False

    def path_mtu(self, advert: Advert) -> int:
        """Of the way by this neighbour, in bytes."""
        return max(LEAST_PATH_MTU, min(advert.path_mtu, self.mtu))
