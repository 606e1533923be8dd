"""Whom a node tells of its routes, and what each is still owed (SPEC 6.1, 6.5).

A transit is told of every token, a leaf of those that it wants. Each has one batch under way; what changes meanwhile
waits, and of a token only the latest state. Who has said something often of late waits for PACE_S, and then says all
that changed: in a busy mesh most of it is no news by then, or a neighbour knows better.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from peertap.mesh.allowance import Allowance
from peertap.types import Token, TrunkId, VTag
from peertap.wire.control import MAX_ROUTES_PER_BATCH, Advert, Routes

Key = tuple[VTag, Token]

AT_ONCE: Final = 16  # ours: so often something is said without waiting; what a small mesh has to say never waits
PACE_S: Final = 0.1  # ours: then whatever nobody asked for is said so often at most
LEAF_PACE_S: Final = 0.3  # ours: to a leaf, which has fewer ways and less power; a loss waits for neither
MAX_WANTS: Final = 16_384  # ours: tokens that one leaf asks about


@dataclass(slots=True)
class _Listener:
    """`wants`: of a leaf, what it is told of; None: of everything. `owed`: None: what holds when it is sent."""

    wants: dict[Key, None] | None
    owed: dict[Key, Advert | None] = field(default_factory=dict)
    batch: int = 0
    again_at: float = float("-inf")  # to a leaf
    pace: Allowance = field(default_factory=lambda: Allowance(AT_ONCE, 1 / LEAF_PACE_S, 0.0))
    is_waiting: bool = False  # a batch is under way
    settled_at: float = float("-inf")  # when it had last taken all that there was to say


class Audience:
    """The neighbours of one node, as those who hear of its routes."""

    def __init__(self) -> None:
        self._all: dict[TrunkId, _Listener] = {}
        self._transits: dict[TrunkId, _Listener] = {}
        self._wanting: dict[Key, dict[TrunkId, None]] = {}  # the leaves that want a token
        self._ready: dict[TrunkId, None] = {}  # owed something, and no batch is under way
        self._urgent: dict[TrunkId, None] = {}  # of those: who asked for it, and who is owed more than a batch
        self._again_at = float("-inf")  # before that only what is urgent is said
        self._pace: Final = Allowance(AT_ONCE, 1 / PACE_S, 0.0)
        self._later: dict[TrunkId, None] = {}  # leaves that were told something a moment ago
        self._later_at = float("inf")

    def add(self, trunk: TrunkId, everything: Iterable[Key], *, is_leaf: bool) -> None:
        """A neighbour that is owed everything, or nothing until it says what it wants."""
        made = self._all[trunk] = _Listener({} if is_leaf else None)
        if not is_leaf:
            self._transits[trunk] = made
            self._owe(trunk, made, everything)

    def remove(self, trunk: TrunkId) -> None:
        for key in self._all.pop(trunk).wants or ():
            self._wants_no_more(trunk, key)
        self._transits.pop(trunk, None)
        self._ready.pop(trunk, None)
        self._urgent.pop(trunk, None)
        self._later.pop(trunk, None)

    def is_leaf(self, trunk: TrunkId) -> bool:
        return trunk not in self._transits

    def becomes(self, trunk: TrunkId, everything: Iterable[Key], *, is_leaf: bool) -> Iterable[Key]:
        """The neighbour has another role; returns what it wanted as a leaf."""
        listener = self._all[trunk]
        wanted = listener.wants or {}
        for key in wanted:
            self._wants_no_more(trunk, key)
        if is_leaf:
            listener.wants = {}
            listener.owed.clear()
            self._transits.pop(trunk, None)
        else:
            listener.wants = None
            self._transits[trunk] = listener
            self._owe(trunk, listener, everything)
        return wanted

    def want(self, trunk: TrunkId, more: Iterable[Key], less: Iterable[Key]) -> None:
        """A leaf wants to be told of these tokens, and of those no longer."""
        listener = self._all[trunk]
        if listener.wants is None:
            return
        for key in less:
            if key in listener.wants:
                del listener.wants[key]
                listener.owed.pop(key, None)
                self._wants_no_more(trunk, key)
        for key in more:
            if key not in listener.wants and len(listener.wants) < MAX_WANTS:
                listener.wants[key] = None
                self._wanting.setdefault(key, {})[trunk] = None
                self._owe(trunk, listener, (key,))

    def refresh(self, trunk: TrunkId, vtag: VTag, everything: Iterable[Key]) -> None:
        """A neighbour takes a VTag from now on."""
        listener = self._all[trunk]
        known = everything if listener.wants is None else listener.wants
        self._owe(trunk, listener, [key for key in known if key[0] == vtag])

    def refresh_all(self, trunk: TrunkId, everything: Iterable[Key]) -> None:
        """A neighbour takes other VTags from now on, which it cannot name."""
        listener = self._all[trunk]
        self._owe(trunk, listener, list(everything if listener.wants is None else listener.wants))

    def wanting(self, key: Key) -> Iterable[TrunkId]:
        """The leaves that want to be told of a token."""
        return self._wanting.get(key, ())

    def owe(self, trunk: TrunkId, key: Key) -> None:
        """This neighbour is owed a token's state."""
        listener = self._all[trunk]
        listener.owed[key] = None
        if not listener.is_waiting:
            self._ready[trunk] = None

    def owe_at_once(self, trunk: TrunkId, key: Key) -> None:
        """This neighbour waits for a token's state."""
        self.owe(trunk, key)
        if not self._all[trunk].is_waiting:
            self._urgent[trunk] = None

    def forgotten(self, key: Key, withdrawal: Callable[[TrunkId], Advert | None]) -> None:
        """A token is forgotten: who has yet to be told that it is gone is told so."""
        for trunk, listener in self._all.items():
            if key in listener.owed:
                last = withdrawal(trunk)
                if last is None:
                    del listener.owed[key]
                else:
                    listener.owed[key] = last

    def is_settled(self, trunk: TrunkId) -> bool:
        """Whether a neighbour has taken all that there is to say."""
        listener = self._all[trunk]
        return not listener.is_waiting and not listener.owed

    def next_deadline(self) -> float | None:
        """When there is something to send that waits only for its time."""
        if self._ready:
            return min(self._again_at, self._later_at)
        return self._later_at if self._later else None

    def hurry(self) -> None:
        """What is owed is said now."""
        self._again_at = float("-inf")
        self._ready.update(self._later)
        self._later.clear()
        for trunk in self._ready:
            self._all[trunk].again_at = float("-inf")

    def batches(
        self, advert_for: Callable[[TrunkId, Key], Advert | None], now: float
    ) -> Iterator[tuple[TrunkId, Routes]]:
        """What to send now; `advert_for`: what a neighbour is told of a token, if anything."""
        for trunk in self._take_due(now):
            listener = self._all[trunk]
            if listener.is_waiting:
                continue  # the rest goes when it has taken this
            owed, looked = listener.owed, 0
            adverts: list[Advert] = []
            for key, last in owed.items():
                looked += 1
                advert = last or advert_for(trunk, key)
                if advert is not None:
                    adverts.append(advert)
                    if len(adverts) == MAX_ROUTES_PER_BATCH:
                        break
            if looked == len(owed):
                owed.clear()
            else:
                for key in list(islice(owed, looked)):
                    del owed[key]
            if adverts:
                listener.batch += 1
                listener.is_waiting, listener.again_at = True, listener.pace.again_at(now)
                yield trunk, Routes(listener.batch & 0xFFFFFFFF, tuple(adverts))

    def have_taken(self, key: Key, since: float) -> bool:
        """Whether all neighbours have taken what there was to say of a token at that time."""
        return all(one.settled_at > since or (not one.is_waiting and key not in one.owed) for one in self._all.values())

    def acknowledged(self, trunk: TrunkId, batch: int, now: float) -> None:
        """The neighbour has taken a batch."""
        listener = self._all[trunk]
        if batch == listener.batch & 0xFFFFFFFF:
            listener.is_waiting = False
            if listener.owed:
                self._ready[trunk] = None
            else:
                listener.settled_at = now
            if len(listener.owed) >= MAX_ROUTES_PER_BATCH:
                self._urgent[trunk] = None

    # Inside

    def _take_due(self, now: float) -> dict[TrunkId, None]:
        """Who is told now; leaves that were told a moment ago are told together later."""
        due, self._urgent = self._urgent, {}
        if now >= self._later_at:
            due.update(self._later)
            self._later, self._later_at = {}, float("inf")
        if now >= self._again_at and self._ready:
            for trunk in self._ready:
                listener = self._all[trunk]
                if listener.wants is None or now >= listener.again_at:
                    due[trunk] = None
                elif trunk not in due:
                    self._later[trunk] = None
            if self._later:
                self._later_at = min(self._later_at, now + LEAF_PACE_S)
            self._ready = {}
            self._again_at = self._pace.again_at(now)
        return due

    def _owe(self, trunk: TrunkId, listener: _Listener, keys: Iterable[Key]) -> None:
        for key in keys:
            listener.owed[key] = None
        if listener.owed and not listener.is_waiting:
            self._ready[trunk] = None

    def _wants_no_more(self, trunk: TrunkId, key: Key) -> None:
        wanting = self._wanting[key]
        del wanting[trunk]
        if not wanting:
            del self._wanting[key]
