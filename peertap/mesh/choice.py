"""Which of the ways to a token may be used, and which is (SPEC 6.1, RFC 8966)."""

from collections.abc import Iterable, Mapping, Set
from typing import Final

from peertap.mesh.entry import Entry, Neighbour, Selected
from peertap.mesh.precedence import better, winner
from peertap.types import TrunkId
from peertap.wire.control import INFINITE_METRIC, Advert
from peertap.wire.routes import KIND_TREE

VOLUNTARY_GAIN: Final = 0.8  # ours: by choice only to a route a fifth shorter
TREE_GAIN: Final = 0.5  # ours: a tree is the better the less it moves
TOLD_STEP: Final = 8  # ours: a metric that changed by less than an eighth is not told
TOLD_EXPIRY_S: Final = 3600  # ours: nor one that is good for less than an hour more
OWN_PATH_MTU: Final = 0xFFFF  # ours: the path to ourselves has no limit


def candidates(
    entry: Entry, neighbours: Mapping[TrunkId, Neighbour], demoted: Set[TrunkId] = frozenset()
) -> list[Selected]:
    """Feasible routes of the winning origin; by trunks that are not demoted, and will last, if there are any."""
    out = []
    if entry.own is not None:
        out.append(Selected(None, entry.own, entry.own.metric, OWN_PATH_MTU))
    for trunk, advert in entry.heard.items():
        neighbour = neighbours[trunk]
        metric = advert.metric + neighbour.cost
        if neighbour.is_silent or metric >= INFINITE_METRIC or not entry.is_feasible(advert):
            continue
        if entry.newest is None or better(advert.route.origin, entry.newest, advert.route.kind):
            out.append(Selected(trunk, advert, metric, neighbour.path_mtu(advert)))
    if len(out) > 1:
        best = winner(one.advert.route for one in out)
        out = [one for one in out if one.advert.route.origin == best]
        if demoted:
            out = [one for one in out if one.trunk not in demoted] or out
        return [one for one in out if one.trunk is None or not neighbours[one.trunk].is_retiring] or out
    return out


def nearest(ways: Iterable[Selected]) -> Selected | None:
    """The one with the least metric, if there is any."""
    return min(ways, key=lambda one: (one.metric, one.trunk or 0), default=None)


def alternatives(
    entry: Entry, neighbours: Mapping[TrunkId, Neighbour], demoted: Set[TrunkId] = frozenset()
) -> list[Selected]:
    """Other neighbours by which frames may go now, nearest first; those that are silent or demoted are none."""
    if entry.selected is None or entry.selected.trunk is None or len(entry.heard) < 2:
        return []
    found = detours(entry, neighbours, demoted)
    return [one for one in found if one.trunk is not None and entry.leads_away(one.trunk, one.advert)]


def detours(entry: Entry, neighbours: Mapping[TrunkId, Neighbour], demoted: Set[TrunkId]) -> list[Selected]:
    """All other neighbours that announce the route in use, nearest first; frames that take one may come back here."""
    if entry.selected is None:
        return []
    origin, found = entry.selected.advert.route.origin, []
    unfit = {entry.selected.trunk, *demoted}
    for trunk, advert in entry.heard.items():
        neighbour = neighbours[trunk]
        metric = advert.metric + neighbour.cost
        if trunk in unfit or neighbour.is_silent or neighbour.is_retiring or metric >= INFINITE_METRIC:
            continue
        if advert.route.origin == origin:
            found.append(Selected(trunk, advert, metric, neighbour.path_mtu(advert)))
    return sorted(found, key=lambda one: (one.metric, one.trunk or 0))


def is_much_nearer(metric: int, than: int, kind: int) -> bool:
    """Whether a way is worth a change that nobody is forced to."""
    return metric <= (TREE_GAIN if kind == KIND_TREE else VOLUNTARY_GAIN) * than


def is_near(new: Selected, said: Advert) -> bool:
    """Whether neighbours would hear nothing that matters: the same origin about as far, for as long.

    No loop comes of silence: what a neighbour goes by is never less than the least that this node had (RFC 8966 2.4).
    A later sequence number is for those who ask for it; under it nothing was announced yet, and what is announced must
    be farther than the next hop is, or that could go by us.
    """
    route, told = new.advert.route, said.route
    if route.sequence != told.sequence and new.trunk is not None and said.metric <= new.advert.metric:
        return False
    if said.path_mtu != new.path_mtu or route.origin != told.origin or route.expiry > told.expiry + TOLD_EXPIRY_S:
        return False
    return abs(new.metric - said.metric) <= said.metric // TOLD_STEP
