"""Distance-vector routes over tokens, free of loops at every instant (SPEC 6.1, RFC 8966).

A route is feasible when it is newer than, or as new as and nearer than, anything that this node ever announced for
the same (token, origin). Only feasible routes are used. With none left the route is withdrawn and a new sequence
number asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from peertap.mesh.audience import Audience, Key
from peertap.mesh.choice import OWN_PATH_MTU, candidates, is_much_nearer, is_near, nearest
from peertap.mesh.entry import Entry, Neighbour, Selected
from peertap.mesh.known import KnownRoutes
from peertap.mesh.precedence import SEQUENCE_MODULUS, better, newer_or_same, winner
from peertap.mesh.signatures import Signatures
from peertap.mesh.waiting import REQUEST_GAP_S, Waiting
from peertap.types import TrunkId, VTag
from peertap.wire.control import INFINITE_METRIC, Advert, Routes, SequenceRequest
from peertap.wire.routes import KIND_TREE, KIND_UNICAST, Origin, SignedRoute

Outgoing = tuple[TrunkId, SequenceRequest]

MAX_TOKENS: Final = 65_536  # ours: bounds the table; a new token is refused beyond it
MAX_TOKENS_PER_TRUNK: Final = 16_384  # ours: one neighbour cannot fill the table alone
VOLUNTARY_GAP_S: Final = 10.0  # PROTOCOL 5: at most one voluntary change in 10 s
REQUEST_HOPS: Final = 32  # SPEC 2.1: as the hop limit of packets
CLOCK_AHEAD_S: Final = 3600.0  # ours: an owner's clock may be so far ahead of ours
DISTANCE_KEPT_S: Final = 180.0  # RFC 8966, 3.7.3 and appendix B: source table entries live 3 minutes


class RouteTable(KnownRoutes):
    """The routes of one node.

    `take_changed` gives the keys whose selected route changed since it was last called.
    """

    def __init__(self, is_signed: Callable[[SignedRoute], bool] | None = None) -> None:
        """Args: is_signed: whether a route's signature is right; by default checked once and remembered."""
        super().__init__()
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
        neighbour = self._neighbours[trunk] = Neighbour(cost, mtu, is_silent=is_silent)
        if not is_leaf:
            self._is_transit(trunk, neighbour)
        self._audience.add(trunk, self._announced(), is_leaf=is_leaf)

    def neighbour_is_leaf(self, trunk: TrunkId, *, is_leaf: bool) -> bool:
        """The neighbour's role is this now; returns whether that is news."""
        neighbour = self._neighbours[trunk]
        if is_leaf == (neighbour.bit == 0):
            return False
        wanted = self._audience.becomes(trunk, self._announced(), is_leaf=is_leaf)
        if is_leaf:
            for entry in self._entries.values():
                entry.told &= ~neighbour.bit
            self._transits.pop(trunk).bit = 0
            return True
        self._is_transit(trunk, neighbour)
        for key in wanted:
            if key in self._entries:
                self._entries[key].told |= neighbour.bit
        return True

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
        self._transits.pop(trunk, None)
        self._retiring -= gone.is_retiring
        self._audience.remove(trunk)
        out = []
        if gone.tokens or gone.bit:
            for key, entry in list(self._entries.items()):
                entry.told &= ~gone.bit
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

    def forget(self, vtag: VTag, now: float) -> None:
        """We carry this VTag no longer: what neighbours announced under it goes."""
        for key, entry in self._entries.items():
            if key[0] == vtag:
                self._unhear_all(key, entry, now)

    def unwant(self, keys: Iterable[Key], now: float) -> None:
        """As a leaf: we want to be told of these no longer, so nobody would tell us of their end."""
        for key in keys:
            if key in self._entries:
                self._unhear_all(key, self._entries[key], now)

    def unhear(self, trunk: TrunkId, vtag: VTag, now: float) -> list[Outgoing]:
        """What a neighbour announced under a VTag is not what it says it did, and goes; returns requests to send."""
        out: list[Outgoing] = []
        neighbour = self._neighbours[trunk]
        for key, entry in list(self._entries.items()):
            if key[0] == vtag and entry.unhear(trunk) is not None:
                neighbour.tokens -= 1
                out += self._reselect(key, entry, now)
                self._is_far(trunk, neighbour, key, entry)
        return out

    def set_cost(self, trunk: TrunkId, cost: int, now: float) -> list[Outgoing]:
        """The trunk's cost changed, for example with its round-trip time; returns requests to send."""
        neighbour = self._neighbours[trunk]
        if neighbour.cost == cost:
            return []
        neighbour.cost = cost
        return self._reselect_by(trunk, now)

    def demote(self, key: Key, trunks: frozenset[TrunkId], now: float) -> list[Outgoing]:
        """These neighbours swallow frames to a token, no others (SPEC 7.1); returns requests to send."""
        self.demoted.pop(key, None)
        self.demoted |= {key: trunks} if trunks else {}
        entry = self._entries.get(key)
        return [] if entry is None else self._reselect(key, entry, now)

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
                self._tell(key, entry)
            if is_leaf:
                self._unhear_all(key, entry, now)

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
        entries, cost, bit, is_heard = self._entries, neighbour.cost, neighbour.bit, not neighbour.is_silent
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
                    self._is_far(trunk, neighbour, key, entry)
                continue
            selected = None if entry is None else entry.selected
            used = None if selected is None else selected.advert.route
            fault = None if used is route else self._fault(route, used, now_unix)
            if fault is not None:
                self.refuse(trunk, fault)
                continue
            is_new = entry is None
            if entry is None:
                entry = self._new_entry(key, neighbour)
                if entry is None:
                    self.refuse(trunk, "too many")
                    continue
            entry.looks += 1
            self._ways_changed = True
            if trunk in entry.heard:
                entry.hear(trunk, advert)
            elif neighbour.tokens >= MAX_TOKENS_PER_TRUNK:
                self.refuse(trunk, "too many")
                continue
            else:
                entry.heard[trunk] = advert
                neighbour.tokens += 1
            taken.append(route)
            metric = advert.metric + cost
            if is_new and is_heard and metric < INFINITE_METRIC:  # the only way
                self._use(key, entry, Selected(trunk, advert, metric, neighbour.path_mtu(advert)))
            elif selected is None or not self._is_as_usual(key, entry, selected, trunk, advert, cost):
                out += self._reselect(key, entry, now)
            if bit and not entry.told & bit:
                self._is_far(trunk, neighbour, key, entry)
        return out, taken

    def refuse(self, trunk: TrunkId, why: str) -> None:
        """A neighbour's route was not taken."""
        self.refused += 1
        self._neighbours[trunk].refused[why] += 1

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
            self._audience.owe_at_once(trunk, key)
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

    def batches(self, now: float) -> Iterator[tuple[TrunkId, Routes]]:
        """What to send now: one unacknowledged batch a trunk; later changes of a token replace earlier ones."""
        return self._audience.batches(self._advert_for, now)

    def is_settled(self, trunk: TrunkId) -> bool:
        """Whether a neighbour that relays has taken all that there is to say to it."""
        return self._audience.is_settled(trunk)

    def hurry(self) -> None:
        """What there is to say is said now: this node goes."""
        self._audience.hurry()

    def acknowledged(self, trunk: TrunkId, batch: int, now: float) -> None:
        self._audience.acknowledged(trunk, batch, now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, or has to look whether it has."""
        return self._waiting.next_deadline()

    def next_batch_at(self) -> float | None:
        """When `batches` has something to send that waits only for its time."""
        return self._audience.next_deadline()

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
        for key, since in self._waiting.take_gone(now):
            entry = self._entries.get(key)
            if entry is not None and entry.empty_since is not None:
                if self._audience.have_taken(key, since):
                    entry.forget_distances()
                else:
                    self._waiting.go(key, since, now)
        self._waiting.looked(now)
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
                    self._is_far(trunk, self._neighbours[trunk], key, entry)
            if entry.empty_since is not None and entry.empty_since + DISTANCE_KEPT_S < now:
                self._drop(key)
        return out

    # Looking

    def take_ways_changed(self) -> bool:
        """Whether there may be other alternatives than when this was last asked."""
        changed, self._ways_changed = self._ways_changed, False
        return changed

    @property
    def has_changed(self) -> bool:
        """Whether `take_changed` gives anything."""
        return bool(self._changed)

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
        entry = self._entries.pop(key)
        self._audience.forgotten(key, lambda trunk: self._withdrawn(self._neighbours[trunk].bit, entry))

    def _unhear_all(self, key: Key, entry: Entry, now: float) -> None:
        """What neighbours announced of a token goes."""
        if entry.heard:
            for trunk in entry.heard:
                self._neighbours[trunk].tokens -= 1
            entry.unhear_all()
            self._reselect(key, entry, now)

    def _is_transit(self, trunk: TrunkId, neighbour: Neighbour) -> None:
        """A neighbour gets the lowest bit that no other has."""
        taken = sum(one.bit for one in self._transits.values())
        neighbour.bit = ~taken & (taken + 1)
        self._transits[trunk] = neighbour

    def _reselect_by(self, trunk: TrunkId, now: float) -> list[Outgoing]:
        """Everything that this neighbour has announced is looked at anew."""
        out: list[Outgoing] = []
        if self._neighbours[trunk].tokens:
            for key, entry in list(self._entries.items()):
                if trunk in entry.heard:
                    out += self._reselect(key, entry, now)
        return out

    def _reselect(self, key: Key, entry: Entry, now: float, *, forced: bool = False) -> list[Outgoing]:
        entry.looks += 1
        self._ways_changed = True
        ways = candidates(entry, self._neighbours, self.demoted.get(key, frozenset()))
        old, stay = entry.selected, None
        new = nearest(ways)
        if new is not None and old is not None and not forced and new.trunk != old.trunk:
            stay = next((one for one in ways if one.trunk == old.trunk), None)
            if stay is not None and new.advert.route.origin == old.advert.route.origin:
                new = self._settle(key, entry, new, stay, now)
        requests = self._ask_for_better(key, entry, new, now)
        entry.empty_since = None if entry.heard or entry.own else now
        if entry.empty_since is not None:
            self._waiting.go(key, now, now)
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
        if self._waiting.is_starved(key) or (self.demoted and key in self.demoted):
            return False
        if trunk != selected.trunk:
            return not is_much_nearer(metric, selected.metric, route.kind) or self._waiting.is_postponed(key)
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
            entry.keep_distance(new.advert.route, new.metric)
            if new.advert.route.kind != KIND_TREE:
                entry.newest = new.advert.route.origin
            if old is not None and entry.said is not None and is_near(new, entry.said):
                self._tell_few(key, entry, entry.said, old, new)
                return
            entry.said = Advert(new.advert.route, new.metric, new.path_mtu)
            self._answer(key, entry)
        if not self._is_leaf or any(one is not None and one.trunk is None for one in (old, new)):
            self._tell(key, entry)

    def _tell_few(self, key: Key, entry: Entry, told: Advert, old: Selected, new: Selected) -> None:
        """Hardly anything changed: those hear of it who asked, the former next hop, and the new one."""
        entry.said = Advert(new.advert.route, told.metric, told.path_mtu)
        entry.keep_distance(new.advert.route, told.metric)
        self._answer(key, entry)
        whom: set[TrunkId] = set()
        if old.trunk != new.trunk and not self._is_leaf:
            whom = {one for one in (old.trunk, new.trunk) if one in self._transits}
        for trunk in sorted(whom):
            self._audience.owe(trunk, key)

    def _answer(self, key: Key, entry: Entry) -> None:
        """Who asked for a later sequence number hears of it without waiting."""
        for trunk in entry.askers:
            if trunk in self._neighbours:
                self._audience.owe_at_once(trunk, key)
        entry.askers = ()

    def _tell(self, key: Key, entry: Entry) -> None:
        """All who were told of a token, or could use it now, are owed its state."""
        told, heard, is_there = entry.told, entry.heard, entry.selected is not None
        owe = self._audience.owe if is_there else self._audience.owe_at_once
        for trunk, neighbour in self._transits.items():
            if told & neighbour.bit or (is_there and (trunk not in heard or not entry.is_nearer(trunk))):
                owe(trunk, key)
        for trunk in self._audience.wanting(key):
            owe(trunk, key)

    def _is_far(self, trunk: TrunkId, neighbour: Neighbour, key: Key, entry: Entry) -> None:
        """A neighbour announces something: where it was not told of our way, and could use it now, it is owed that."""
        bit = neighbour.bit
        if bit and not entry.told & bit and entry.selected is not None and not entry.is_nearer(trunk):
            self._audience.owe(trunk, key)

    def _ask_for_better(self, key: Key, entry: Entry, new: Selected | None, now: float) -> list[Outgoing]:
        """Where the best origin has only infeasible routes, it is asked for a later sequence number."""
        used = None if new is None else new.advert.route
        wanted = winner(advert.route for advert in entry.heard.values())
        if wanted is None or (
            used is not None and (wanted == used.origin or not better(wanted, used.origin, used.kind))
        ):
            self._waiting.feed(key)
            return []
        return self._ask(key, entry, wanted, now)

    def _settle(self, key: Key, entry: Entry, new: Selected, stay: Selected, now: float) -> Selected:
        """A better way, if it is much better, and the last change is a while ago; else it is looked at again then."""
        if not is_much_nearer(new.metric, stay.metric, new.advert.route.kind):
            return stay
        again_at = entry.changed_at + VOLUNTARY_GAP_S
        if now < again_at:
            self._waiting.postpone(key, again_at)
            return stay
        return new

    def _ask(self, key: Key, entry: Entry, origin: Origin, now: float) -> list[Outgoing]:
        """The best origin has only infeasible routes: ask it for a later sequence number, again until it comes."""
        known = entry.distance_to(origin)
        announcers = [trunk for trunk, advert in entry.heard.items() if advert.route.origin == origin]
        asked = self._waiting.ask(key, origin, announcers if known is not None else (), now)
        if known is None:
            return []
        wanted = (known[0] + 1) % SEQUENCE_MODULUS
        request = SequenceRequest(key[0], key[1], origin, wanted, REQUEST_HOPS)
        return [(trunk, request) for trunk in asked]

    def _advert_for(self, trunk: TrunkId, key: Key) -> Advert | None:
        """What a neighbour is told of a token now: what it may use, that it may use nothing any more, or nothing."""
        entry = self._entries.get(key)
        if entry is None or entry.said is None:
            return None
        bit = self._neighbours[trunk].bit
        if not self._tells(trunk, entry.selected):
            return self._withdrawn(bit, entry)
        if bit and not entry.told & bit:
            if entry.is_nearer(trunk):
                return None
            entry.told |= bit
        return entry.said

    @staticmethod
    def _withdrawn(bit: int, entry: Entry) -> Advert | None:
        """For who was told of a token, and is told no more: of a transit that is known, a leaf may have been."""
        if entry.said is None or (bit and not entry.told & bit):
            return None
        entry.told &= ~bit
        return Advert(entry.said.route, INFINITE_METRIC, entry.said.path_mtu)

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

    def _fault(self, route: SignedRoute, used: SignedRoute | None, now_unix: float) -> str | None:
        """Why a route cannot be taken: it is not signed, or not for now; `used`: the one in use, which is."""
        if route.expiry < now_unix:
            return "expired"
        if route.origin.start_ms > (now_unix + CLOCK_AHEAD_S) * 1000:
            return "ahead"
        if route.kind not in (KIND_UNICAST, KIND_TREE):
            return "misplaced"
        return None if route == used or self._is_signed(route) else "forged"
