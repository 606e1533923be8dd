"""Distance-vector routes over tokens, free of loops at every instant (SPEC 6.1, RFC 8966).

A route is feasible when it is newer than, or as new as and nearer than, anything that this node ever announced for
the same (token, origin). Only feasible routes are used. With none left the route is withdrawn and a new sequence
number asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from peertap.mesh.audience import Audience, Key
from peertap.mesh.entry import Entry, Neighbour, Selected
from peertap.mesh.precedence import SEQUENCE_MODULUS, better, newer_or_same, winner
from peertap.mesh.signatures import Signatures
from peertap.mesh.waiting import REQUEST_GAP_S, Waiting
from peertap.types import TrunkId, VTag
from peertap.wire.control import INFINITE_METRIC, Advert, Routes, SequenceRequest
from peertap.wire.routes import KIND_TREE, KIND_UNICAST, Origin, SignedRoute

Outgoing = tuple[TrunkId, SequenceRequest]

MAX_TOKENS: Final = 65_536  # ours: bounds the table; a new token is refused beyond it
MAX_TOKENS_PER_TRUNK: Final = 16_384  # ours: one neighbour cannot fill the table alone
MAX_ORIGINS: Final = 8  # ours: feasibility kept for so many origins of a token; the oldest goes
VOLUNTARY_GAP_S: Final = 10.0  # PROTOCOL 5: at most one voluntary change in 10 s
VOLUNTARY_GAIN: Final = 0.8  # ours: and only to a route a fifth shorter
TREE_GAIN: Final = 0.5  # ours: a tree is the better the less it moves
TOLD_STEP: Final = 8  # ours: a metric that changed by less than an eighth is not told
TOLD_EXPIRY_S: Final = 3600  # ours: nor one that is good for less than an hour more
REQUEST_HOPS: Final = 32  # SPEC 2.1: as the hop limit of packets
CLOCK_AHEAD_S: Final = 3600.0  # ours: an owner's clock may be so far ahead of ours
OWN_PATH_MTU: Final = 0xFFFF  # ours: the path to ourselves has no limit
DISTANCE_KEPT_S: Final = 180.0  # RFC 8966, 3.7.3 and appendix B: source table entries live 3 minutes


class RouteTable:
    """The routes of one node.

    `take_changed` gives the keys whose selected route changed since it was last called.
    """

    def __init__(self, is_signed: Callable[[SignedRoute], bool] | None = None) -> None:
        """Args: is_signed: whether a route's signature is right; by default checked once and remembered."""
        self._entries: dict[Key, Entry] = {}
        self._neighbours: dict[TrunkId, Neighbour] = {}
        self._audience: Final = Audience()
        self._retiring = 0
        self._is_signed: Final = is_signed or Signatures().are_right
        self._ways_changed = False
        self._changed: dict[Key, None] = {}
        self._waiting: Final = Waiting()
        self._is_leaf = False
        self.stands_at: TrunkId | None = None  # as a leaf we can be root by this neighbour alone
        self.refused = 0

    # Neighbours

    def add_neighbour(
        self, trunk: TrunkId, *, cost: int, mtu: int, is_silent: bool = False, is_leaf: bool = False
    ) -> None:
        """A trunk came up: it is owed everything, or what it wants."""
        self._neighbours[trunk] = Neighbour(cost, mtu, is_silent=is_silent)
        self._audience.add(trunk, self._announced(), is_leaf=is_leaf)

    def neighbour_is_leaf(self, trunk: TrunkId, *, is_leaf: bool) -> bool:
        """The neighbour's role is this now; returns whether that is news."""
        is_news = is_leaf != self._audience.is_leaf(trunk)
        if is_news:
            self._audience.becomes(trunk, self._announced(), is_leaf=is_leaf)
        return is_news

    def has_neighbour(self, trunk: TrunkId) -> bool:
        return trunk in self._neighbours

    def transits(self) -> list[TrunkId]:
        """Neighbours that are no leaves, the nearest first."""
        found = [trunk for trunk in self._neighbours if not self._audience.is_leaf(trunk)]
        return sorted(found, key=lambda trunk: (self._neighbours[trunk].cost, trunk))

    def is_silent(self, trunk: TrunkId) -> bool:
        """Whether a neighbour should have answered, and has not."""
        neighbour = self._neighbours.get(trunk)
        return neighbour is not None and neighbour.is_silent

    def may_stand_at(self, trunk: TrunkId) -> bool:
        """Whether a leaf can be root by this neighbour: it relays, and answers."""
        return not self._audience.is_leaf(trunk) and not self.is_silent(trunk)

    def retire(self, trunk: TrunkId, now: float) -> list[Outgoing]:
        """A trunk is to close soon: nothing goes by it that can go by another; returns requests to send."""
        self._retiring += not self._neighbours[trunk].is_retiring
        self._neighbours[trunk].is_retiring = True
        return self._reselect_by(trunk, now)

    def silence(self, trunk: TrunkId, now: float, *, is_silent: bool) -> list[Outgoing]:
        """A neighbour should have answered, and nothing goes by it; or it spoke again. Returns requests to send."""
        self._neighbours[trunk].is_silent = is_silent
        return self._reselect_by(trunk, now)

    def remove_neighbour(self, trunk: TrunkId, now: float) -> list[Outgoing]:
        """A trunk went down; returns requests to send."""
        gone = self._neighbours.pop(trunk)
        self._retiring -= gone.is_retiring
        self._audience.remove(trunk)
        out = []
        if gone.tokens:
            for key, entry in list(self._entries.items()):
                if entry.unhear(trunk) is not None:
                    out += self._reselect(key, entry, now)
        return out

    def want(self, trunk: TrunkId, more: Iterable[Key], less: Iterable[Key]) -> None:
        """A leaf wants to be told of these tokens, and of those no longer."""
        self._audience.want(trunk, more, less)

    def refresh(self, trunk: TrunkId, vtag: VTag) -> None:
        """The neighbour carries this VTag from now on: it is owed what we announce under it."""
        self._audience.refresh(trunk, vtag, self._announced())

    def refresh_all(self, trunk: TrunkId) -> None:
        """The neighbour carries by another policy: it is owed everything again."""
        self._audience.refresh_all(trunk, self._announced())

    def vtags(self) -> set[VTag]:
        """Under which neighbours announced something."""
        return {key[0] for key, entry in self._entries.items() if entry.heard}

    def forget(self, vtag: VTag, now: float) -> None:
        """We carry this VTag no longer: what neighbours announced under it goes."""
        for key, entry in self._entries.items():
            if key[0] == vtag and entry.heard:
                for trunk in entry.heard:
                    self._neighbours[trunk].tokens -= 1
                entry.heard.clear()
                entry.least.clear()
                self._reselect(key, entry, now)

    def set_cost(self, trunk: TrunkId, cost: int, now: float) -> list[Outgoing]:
        """The trunk's cost changed, for example with its round-trip time; returns requests to send."""
        neighbour = self._neighbours[trunk]
        if neighbour.cost == cost:
            return []
        neighbour.cost = cost
        return self._reselect_by(trunk, now)

    # Own tokens

    @property
    def is_leaf(self) -> bool:
        """Whether this node announces its own tokens alone."""
        return self._is_leaf

    def becomes(self, now: float, *, is_leaf: bool) -> None:
        """This node has another role. A leaf forgets what it was told: from now on it is told what it wants."""
        self._is_leaf = is_leaf
        for key, entry in self._entries.items():
            if entry.selected is not None and entry.selected.trunk is not None:
                self._audience.changed(key)
            if is_leaf and entry.heard:
                for trunk in entry.heard:
                    self._neighbours[trunk].tokens -= 1
                entry.heard.clear()
                entry.least.clear()
                self._reselect(key, entry, now)

    def stand_at(self, trunk: TrunkId | None) -> None:
        """As a leaf we can be root by this neighbour alone: so nothing passes through us (SPEC 6.5)."""
        before, self.stands_at = self.stands_at, trunk
        for key, entry in self._entries.items():
            if entry.own is not None and entry.own.route.kind == KIND_TREE:
                for one in (before, trunk):
                    if one in self._neighbours and one is not None:
                        self._audience.owe(one, key)

    def own(self, route: SignedRoute, now: float, metric: int = 0) -> None:
        """Announces a token of ours, or announces it again with a later sequence number.

        Args:
            metric: what it starts from; the same each time for an origin.
        """
        entry = self._entries.setdefault(route.key, Entry())
        entry.own = Advert(route, metric, OWN_PATH_MTU)
        self._reselect(route.key, entry, now, forced=True)

    def disown(self, key: Key, now: float) -> list[Outgoing]:
        """Withdraws a token of ours."""
        entry = self._entries.get(key)
        if entry is None or entry.own is None:
            return []
        entry.own = None
        return self._reselect(key, entry, now, forced=True)

    # From the wire

    def received_untrusted(
        self, trunk: TrunkId, adverts: Iterable[Advert], now: float, now_unix: float
    ) -> tuple[list[Outgoing], list[SignedRoute]]:
        """Takes a neighbour's adverts; the caller has checked that it relays these VTags.

        Returns: requests to send, and the routes that were well signed and taken, news or not.
        """
        neighbour = self._neighbours[trunk]
        entries, cost = self._entries, neighbour.cost
        out: list[Outgoing] = []
        taken: list[SignedRoute] = []
        for advert in adverts:
            route = advert.route
            key = route.key
            entry = entries.get(key)
            if advert.metric == INFINITE_METRIC:
                if entry is not None and entry.unhear(trunk) is not None:
                    neighbour.tokens -= 1
                    out += self._reselect(key, entry, now)
                continue
            selected = None if entry is None else entry.selected
            used = None if selected is None else selected.advert.route
            if used is not route and not self._is_valid(route, used, now_unix):
                self.refused += 1
                neighbour.refused += 1
                continue
            if entry is None:
                entry = self._new_entry(key, neighbour)
                if entry is None:
                    self.refused += 1
                    continue
            if trunk not in entry.heard:
                if neighbour.tokens >= MAX_TOKENS_PER_TRUNK:
                    self.refused += 1
                    continue
                neighbour.tokens += 1
                self._ways_changed = True
            entry.hear(trunk, advert)
            entry.looks += 1
            taken.append(route)
            if selected is None or not self._is_as_usual(key, entry, selected, trunk, advert, cost):
                out += self._reselect(key, entry, now)
        return out, taken

    def requested(self, trunk: TrunkId, request: SequenceRequest, now: float) -> tuple[str, TrunkId | None]:
        """Takes a request for a later sequence number.

        A request is not signed: it can make an owner step by one, and be passed on, once in REQUEST_GAP_S a token.

        Returns: ("answered", None) when what we announce is late enough (it is announced to the asker again),
        ("own", None) when it is ours to step, ("forward", trunk) when it is to be passed on, ("drop", None) otherwise.
        """
        key = (request.vtag, request.token)
        entry = self._entries.get(key)
        if entry is None or entry.selected is None:
            return "drop", None
        route = entry.selected.advert.route
        if route.origin != request.origin:
            return "drop", None
        if newer_or_same(route.sequence, request.sequence):
            self._audience.owe(trunk, key)
            return "answered", None
        if trunk not in entry.askers:
            entry.askers = (*entry.askers, trunk)
        if now < entry.stepped_at + REQUEST_GAP_S:
            return "drop", None
        by = entry.selected.trunk
        if by is None and request.sequence != (route.sequence + 1) % SEQUENCE_MODULUS:
            return "drop", None  # nobody can have had the one before
        if by is not None and (self._is_leaf or request.hops <= 1):
            return "drop", None
        entry.stepped_at = now
        return ("own", None) if by is None else ("forward", by)

    # To the wire

    def batches(self) -> Iterator[tuple[TrunkId, Routes]]:
        """What to send now: one unacknowledged batch a trunk; later changes of a token replace earlier ones."""
        return self._audience.batches(self._advert_for)

    def acknowledged(self, trunk: TrunkId, batch: int) -> None:
        self._audience.acknowledged(trunk, batch)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, or has to look whether it has."""
        return self._waiting.next_deadline()

    def tick(self, now: float) -> list[Outgoing]:
        """Asks again for routes that are still missing, and takes better ones now; returns requests to send."""
        out: list[Outgoing] = []
        if not self._waiting.is_due(now):
            return out
        for key in self._waiting.take_postponed(now):
            if key in self._entries:
                out += self._reselect(key, self._entries[key], now)
        for key, gap_s in self._waiting.take_starved(now):
            entry = self._entries.get(key)
            if entry is not None and entry.heard:
                out += self._reselect(key, entry, now)
                self._waiting.starve_longer(key, now, gap_s)
        self._waiting.looked()
        return out

    def expire(self, now: float, now_unix: float) -> list[Outgoing]:
        """Forgets routes past their expiry, and the distances of tokens that are long gone; returns requests."""
        out: list[Outgoing] = []
        for key, entry in list(self._entries.items()):
            for trunk, advert in list(entry.heard.items()):
                if advert.route.expiry < now_unix:
                    entry.unhear(trunk)
                    self._neighbours[trunk].tokens -= 1
                    out += self._reselect(key, entry, now)
            if entry.empty_since is not None and entry.empty_since + DISTANCE_KEPT_S < now:
                self._drop(key)
        return out

    # Looking

    def selected(self, key: Key) -> Selected | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.selected

    def origins(self, key: Key) -> list[Origin]:
        """The origins that a token was routed to so far."""
        entry = self._entries.get(key)
        return [] if entry is None else list(entry.distance)

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
        if entry is None or entry.selected is None or entry.selected.trunk is None or len(entry.heard) < 2:
            return []
        origin, used, found = entry.selected.advert.route.origin, entry.selected.trunk, []
        for trunk, advert in entry.heard.items():
            neighbour = self._neighbours[trunk]
            metric = advert.metric + neighbour.cost
            if trunk == used or neighbour.is_silent or neighbour.is_retiring or metric >= INFINITE_METRIC:
                continue
            if advert.route.origin == origin and entry.leads_away(trunk, advert):
                found.append(Selected(trunk, advert, metric, neighbour.path_mtu(advert)))
        return sorted(found, key=lambda one: (one.metric, one.trunk or 0))

    def hears_of(self, vtag: VTag, trunk: TrunkId) -> bool:
        """Whether a neighbour announces anything under a VTag."""
        return any(key[0] == vtag and trunk in entry.heard for key, entry in self._entries.items())

    def in_use(self) -> Iterator[tuple[Key, Selected]]:
        """All tokens with a route in use."""
        for key, entry in self._entries.items():
            if entry.selected is not None:
                yield key, entry.selected

    def refused_from(self, trunk: TrunkId) -> int:
        """How many routes of this neighbour were not signed, or not for now."""
        return self._neighbours[trunk].refused

    def take_ways_changed(self) -> bool:
        """Whether there may be other alternatives than when this was last asked."""
        changed, self._ways_changed = self._ways_changed, False
        return changed

    def take_changed(self) -> list[Key]:
        changed = list(self._changed)
        self._changed.clear()
        return changed

    # Inside

    def _new_entry(self, key: Key, neighbour: Neighbour) -> Entry | None:
        """Room for a token, if there is any for this neighbour."""
        if neighbour.tokens >= MAX_TOKENS_PER_TRUNK:
            return None
        if len(self._entries) >= MAX_TOKENS:
            self._make_room()
            if len(self._entries) >= MAX_TOKENS:
                return None
        made = self._entries[key] = Entry()
        return made

    def _make_room(self) -> None:
        """The table is full: tokens that nobody announces any more go before their time."""
        for key in [key for key, entry in self._entries.items() if entry.empty_since is not None]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        """Forgets a token that nobody announces; who has yet to be told that it is gone is told."""
        said = self._entries.pop(key).said
        if said is not None:
            self._audience.forgotten(key, Advert(said.route, INFINITE_METRIC, said.path_mtu))

    def _reselect_by(self, trunk: TrunkId, now: float) -> list[Outgoing]:
        """Everything that this neighbour has announced is looked at anew."""
        out: list[Outgoing] = []
        if self._neighbours[trunk].tokens:
            for key, entry in list(self._entries.items()):
                if trunk in entry.heard:
                    out += self._reselect(key, entry, now)
        return out

    def _candidates(self, entry: Entry) -> list[Selected]:
        """Feasible routes of the winning origin; by trunks that will last, if there are any."""
        out = []
        if entry.own is not None:
            out.append(Selected(None, entry.own, entry.own.metric, OWN_PATH_MTU))
        for trunk, advert in entry.heard.items():
            neighbour = self._neighbours[trunk]
            if neighbour.is_silent:
                continue
            metric = advert.metric + neighbour.cost
            outdated = entry.newest is not None and not better(advert.route.origin, entry.newest, advert.route.kind)
            if metric < INFINITE_METRIC and not outdated and entry.is_feasible(advert):
                out.append(Selected(trunk, advert, metric, neighbour.path_mtu(advert)))
        if len(out) > 1:
            best = winner(one.advert.route for one in out)
            out = [one for one in out if one.advert.route.origin == best]
            if self._retiring:
                lasting = [one for one in out if one.trunk is None or not self._neighbours[one.trunk].is_retiring]
                return lasting or out
        return out

    def _reselect(self, key: Key, entry: Entry, now: float, *, forced: bool = False) -> list[Outgoing]:
        entry.looks += 1
        self._ways_changed = True
        candidates = self._candidates(entry)
        old, stay = entry.selected, None
        new = min(candidates, key=lambda one: (one.metric, one.trunk or 0), default=None)
        if new is not None and old is not None and not forced and new.trunk != old.trunk:
            stay = next((one for one in candidates if one.trunk == old.trunk), None)
            if stay is not None and new.advert.route.origin == old.advert.route.origin:
                new = self._settle(key, entry, new, stay, now)
        requests = self._ask_for_better(key, entry, new, now)
        entry.empty_since = None if entry.heard or entry.own else now
        if new == old:
            return requests
        if stay is not None and new is not stay:
            entry.changed_at = now  # by choice: of what comes back one by one, the first is not the best
        self._use(key, entry, new)
        return requests

    def _is_as_usual(
        self, key: Key, entry: Entry, selected: Selected, trunk: TrunkId, advert: Advert, cost: int
    ) -> bool:
        """Most adverts: one more way that is not to be taken, or the way in use became shorter. Notes what changed."""
        route, used, metric = advert.route, selected.advert.route, advert.metric + cost
        if route.sequence != used.sequence or route.origin != used.origin or self._retiring:
            return False
        if self._waiting.is_starved(key):
            return False
        if trunk != selected.trunk:
            return metric > (TREE_GAIN if route.kind == KIND_TREE else VOLUNTARY_GAIN) * selected.metric
        if metric > selected.metric or self._waiting.is_waiting(key) or self._neighbours[trunk].is_silent:
            return False
        mtu = self._neighbours[trunk].path_mtu(advert)
        if metric < selected.metric or mtu != selected.path_mtu:
            self._use(key, entry, Selected(trunk, advert, metric, mtu))
        return True

    def _use(self, key: Key, entry: Entry, new: Selected | None) -> None:
        """A route is in use from now on, or none; whom it concerns is told."""
        old, entry.selected = entry.selected, new
        self._changed[key] = None
        if new is not None:
            self._keep_distance(entry, new.advert.route, new.metric)
            if new.advert.route.kind != KIND_TREE:
                entry.newest = new.advert.route.origin
            if old is not None and entry.said is not None and _is_near(new, entry.said):
                self._tell_few(key, entry, entry.said, old, new)
                return
            entry.said, entry.askers = Advert(new.advert.route, new.metric, new.path_mtu), ()
        if not self._is_leaf or any(one is not None and one.trunk is None for one in (old, new)):
            self._audience.changed(key, unless=new.trunk if new is not None and old is None else None)

    def _tell_few(self, key: Key, entry: Entry, told: Advert, old: Selected, new: Selected) -> None:
        """Hardly anything changed: those hear of it who asked, the former next hop, and the new one."""
        entry.said = Advert(new.advert.route, told.metric, told.path_mtu)
        self._keep_distance(entry, new.advert.route, told.metric)
        whom = {trunk for trunk in entry.askers if trunk in self._neighbours}
        if old.trunk != new.trunk and not self._is_leaf:
            hops = (old.trunk, new.trunk)
            whom |= {one for one in hops if one in self._neighbours and not self._audience.is_leaf(one)}
        for trunk in sorted(whom):
            self._audience.owe(trunk, key)
        entry.askers = ()

    def _ask_for_better(self, key: Key, entry: Entry, new: Selected | None, now: float) -> list[Outgoing]:
        """Where the best origin has only infeasible routes, it is asked for a later sequence number."""
        used = None if new is None else new.advert.route
        wanted = winner(advert.route for advert in entry.heard.values())
        if wanted is None or (
            used is not None and (wanted == used.origin or not better(wanted, used.origin, used.kind))
        ):
            self._waiting.feed(key)
            return []
        requests = self._ask(key, entry, wanted)
        self._waiting.starve(key, now)
        return requests

    def _settle(self, key: Key, entry: Entry, new: Selected, stay: Selected, now: float) -> Selected:
        """A better way, if it is much better, and the last change is a while ago; else it is looked at again then."""
        gain = TREE_GAIN if new.advert.route.kind == KIND_TREE else VOLUNTARY_GAIN
        if new.metric > gain * stay.metric:
            return stay
        again_at = entry.changed_at + VOLUNTARY_GAP_S
        if now < again_at:
            self._waiting.postpone(key, again_at)
            return stay
        return new

    @staticmethod
    def _keep_distance(entry: Entry, route: SignedRoute, metric: int) -> None:
        known = entry.distance.get(route.origin)
        if known is not None and known[0] == route.sequence:
            if metric < known[1]:
                entry.distance[route.origin] = (route.sequence, metric)
        elif known is None or newer_or_same(route.sequence, known[0]):
            entry.distance[route.origin] = (route.sequence, metric)
        while len(entry.distance) > MAX_ORIGINS:
            del entry.distance[next(iter(entry.distance))]

    def _ask(self, key: Key, entry: Entry, origin: Origin) -> list[Outgoing]:
        """The best origin has only infeasible routes: ask it for a later sequence number, again until it comes."""
        if self._waiting.is_starved(key) or origin not in entry.distance:
            return []
        wanted = (entry.distance[origin][0] + 1) % SEQUENCE_MODULUS
        request = SequenceRequest(key[0], key[1], origin, wanted, REQUEST_HOPS)
        return [(trunk, request) for trunk, advert in entry.heard.items() if advert.route.origin == origin]

    def _advert_for(self, trunk: TrunkId, key: Key) -> Advert | None:
        """What a neighbour is told of a token now: what it may use, or that it may use nothing."""
        entry = self._entries.get(key)
        if entry is None or entry.said is None:
            return None
        if not self._tells(trunk, entry.selected):
            return Advert(entry.said.route, INFINITE_METRIC, entry.said.path_mtu)
        return entry.said

    def _tells(self, trunk: TrunkId, selected: Selected | None) -> bool:
        """Whether a neighbour hears that we have this route."""
        if selected is None or selected.trunk == trunk:
            return False
        if not self._is_leaf:
            return True
        return selected.trunk is None and (selected.advert.route.kind != KIND_TREE or self.stands_at == trunk)

    def _announced(self) -> Iterator[Key]:
        """What a neighbour that is told of everything hears of."""
        for key, entry in self._entries.items():
            if entry.selected is not None and (entry.selected.trunk is None or not self._is_leaf):
                yield key

    def _is_valid(self, route: SignedRoute, used: SignedRoute | None, now_unix: float) -> bool:
        """Whether a route is signed and for now; `used`: the one in use, which is."""
        if route.kind not in (KIND_UNICAST, KIND_TREE) or route.expiry < now_unix:
            return False
        if route.origin.start_ms > (now_unix + CLOCK_AHEAD_S) * 1000:
            return False
        return route == used or self._is_signed(route)


def _is_near(new: Selected, said: Advert) -> bool:
    """Whether neighbours would hear nothing that matters: the same origin about as far, for as long.

    No loop comes of silence: what a neighbour goes by is never less than the least that this node had (RFC 8966 2.4).
    A later sequence number is for those who ask for it.
    """
    route, told = new.advert.route, said.route
    if said.path_mtu != new.path_mtu or route.origin != told.origin or route.expiry > told.expiry + TOLD_EXPIRY_S:
        return False
    return abs(new.metric - said.metric) <= said.metric // TOLD_STEP
