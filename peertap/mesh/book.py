"""The book of peers: who is known from where, and whom to dial now. Pure.

Anyone who hears of a peer tells the book (`learn`); what a dial led to is told too (`reached`, `failed`, `lost`);
`wanted` says whom to dial now. Peers that the operator, a VLAN's record or trunk keeping chose are always wanted; of
the others only a few at a time, as RULES says, so that a node that has heard of thousands still dials few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from peertap.types import PeerId

MAX_PEERS: Final = 4096  # ours: 1,024 configured ones, and room for what others tell
MAX_ADDRESSES: Final = 16  # ours: of one peer, from all sources
ALWAYS_AT_ONCE: Final = 32  # ours: dials under way to peers that are always wanted
MAX_DIALS: Final = 3  # ours: to one peer, each to addresses that came in after the one before
OTHERS_AT_ONCE: Final = 4  # ours: dials under way to all others
FIRST_S: Final = 0.2  # ours: a peer that starts with us listens soon
SOON_S: Final = 60.0  # ours: that long both sides are likely starting
SOON_MOST_S: Final = 1.0  # ours: the longest wait in that time
MOST_S: Final = 15.0  # ours: after it
OTHERS_FIRST_S: Final = 2.0  # ours: for peers that nobody chose
OTHERS_MOST_S: Final = 300.0  # ours
GIVE_UP_FAILURES: Final = 6  # ours: then a peer that nobody chose is forgotten until it is heard of again
LASTED_S: Final = 5.0  # ours: a trunk that ends sooner counts as a dial that failed
QUICK_S: Final = 2.0  # ours: after a partition the first trunk is to be there within 3 s
QUICK_AT_ONCE: Final = 4  # ours: so many that were lost are tried in each of these spans, in turn: no storm
FRESH_S: Final = 20.0  # ours: so long after a loss twice as often: a neighbour that restarts is back by then
QUICK_FOR_S: Final = 600.0  # ours: then its loss is no news any more


class Source(IntEnum):
    """Who told of a peer; the lower, the more it is worth."""

    CONFIGURED = 0
    RECORD = 1  # the record of a VLAN, from its invite
    CHOSEN = 2  # trunk keeping
    LAN = 3  # a member's announcement on the LAN
    RENDEZVOUS = 4  # a member's record in the DHT
    CACHED = 5  # a trunk of a former process
    TOLD = 6  # a neighbour
    RELAY = 7  # a stranger on the LAN that relays for all
    BOOTSTRAP = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """When peers of a source are dialled.

    Args:
        share: so many of them are up or being dialled at most.
        enough: only while fewer trunks than that are up.
    """

    share: int
    enough: int = 1 << 30


NAMED: Final = frozenset({Source.CONFIGURED, Source.RECORD})
ALWAYS: Final = NAMED | {Source.CHOSEN}
RULES: Final[Mapping[Source, Rule]] = {  # ours: a few ways into the network each
    Source.LAN: Rule(8),
    Source.RENDEZVOUS: Rule(4),
    Source.CACHED: Rule(4, enough=2),
    Source.TOLD: Rule(4, enough=4),
    Source.RELAY: Rule(2, enough=1),
    Source.BOOTSTRAP: Rule(2, enough=1),
}


@dataclass(frozen=True, slots=True)
class Dial:
    """Whom to dial now.

    Args:
        addresses: in the order in which they are worth a try.
        is_quick: it was a neighbour until just now; one address is enough.
        worked: the address that led to a trunk last.
    """

    peer: PeerId
    addresses: tuple[str, ...]
    is_quick: bool = False
    worked: str | None = None


@dataclass(slots=True)
class _Peer:
    """What is known of one peer."""

    since: float
    order: float  # random: two nodes that hear the same dial in another order
    told: dict[Source, tuple[str, ...]] = field(default_factory=dict)
    worked: str | None = None
    worked_at: float = float("-inf")
    failures: int = 0
    retry_at: float = float("-inf")
    tried_at: float = float("-inf")
    up_at: float = float("-inf")
    lost_at: float = float("-inf")
    dials: int = 0  # under way
    news: tuple[str, ...] = ()  # addresses that no dial has tried

    @property
    def source(self) -> Source:
        return min(self.told)

    @property
    def is_chosen(self) -> bool:
        return self.source in ALWAYS

    @property
    def rank(self) -> tuple[int, int, float, float]:
        """The lower, the sooner it is dialled."""
        return (self.source, self.failures, -self.worked_at, self.order)

    def is_recent(self, now: float) -> bool:
        """Whether it was a neighbour until just now."""
        return now < self.lost_at + QUICK_FOR_S

    @property
    def has_address(self) -> bool:
        return self.worked is not None or any(self.told.values())

    def addresses(self) -> tuple[str, ...]:
        """What worked last, then by source."""
        first = () if self.worked is None else (self.worked,)
        told = [one for source in sorted(self.told) for one in self.told[source]]
        return tuple(dict.fromkeys((*first, *told)))[:MAX_ADDRESSES]


@dataclass(slots=True)
class _Tally:
    """How many dials are under way, and how many peers of a source are up or being dialled."""

    up: int
    chosen: int = 0
    others: int = 0
    busy: Counter[Source] = field(default_factory=Counter)

    def has_room(self, known: _Peer) -> bool:
        if known.is_chosen:
            return self.chosen < ALWAYS_AT_ONCE
        rule = RULES[known.source]
        return self.others < OTHERS_AT_ONCE and self.up < rule.enough and self.busy[known.source] < rule.share

    def begin(self, known: _Peer) -> None:
        self.busy[known.source] += known.dials == 1
        self.chosen += known.is_chosen
        self.others += not known.is_chosen

    def add(self, known: _Peer, *, is_up: bool) -> None:
        self.busy[known.source] += is_up or known.dials > 0
        if known.is_chosen:
            self.chosen += known.dials
        else:
            self.others += known.dials


class PeerBook:
    """All peers that this node has heard of."""

    def __init__(self, me: PeerId, random: Callable[[], float]) -> None:
        """Args: random: a number from 0 up to 1, for jitter."""
        self._me = me
        self._random = random
        self._peers: dict[PeerId, _Peer] = {}
        self._up: Counter[PeerId] = Counter()  # trunks; bounded by the number of trunks
        self._quick_at = float("-inf")

    def __len__(self) -> int:
        return len(self._peers)

    # What is told

    def learn(self, source: Source, peer: PeerId, addresses: Sequence[str], now: float) -> None:
        """Somebody told of a peer: these addresses stand for what the same source told before.

        News makes a peer worth a dial at once. At MAX_PEERS the least promising one that nobody chose is forgotten.
        """
        if peer == self._me or (not addresses and source is not Source.CHOSEN):
            return
        known = self._peers.get(peer)
        if known is None:
            if len(self._peers) >= MAX_PEERS and not self._forget_one(source):
                return
            known = self._peers[peer] = _Peer(now, self._random())
        before = known.addresses()
        known.told[source] = tuple(addresses[:MAX_ADDRESSES])
        news = tuple(one for one in known.told[source] if one not in before)
        if news or not before:
            known.since, known.failures, known.retry_at = now, 0, min(known.retry_at, now)
            known.news = (*news, *known.news)[:MAX_ADDRESSES]

    def replace(self, source: Source, peers: Mapping[PeerId, Sequence[str]], now: float) -> None:
        """All that this source tells: peers that it does not name any more lose it."""
        for peer in [one for one, known in self._peers.items() if source in known.told and one not in peers]:
            self.forget(source, peer)
        for peer, addresses in peers.items():
            self.learn(source, peer, addresses, now)

    def forget(self, source: Source, peer: PeerId) -> None:
        """This source does not name the peer any more; whom nobody chooses any more is no acquaintance either."""
        known = self._peers.get(peer)
        if known is not None:
            known.told.pop(source, None)
            if source in ALWAYS and not ALWAYS & known.told.keys():
                known.told.pop(Source.TOLD, None)
                known.told.pop(Source.CACHED, None)
            if not known.told:
                del self._peers[peer]

    # What dials lead to

    def reached(self, peer: PeerId, address: str | None, now: float) -> None:
        """There is one more trunk to a peer; `address` is where we dialled it, None: it dialled us."""
        self._up[peer] += 1
        known = self._peers.get(peer)
        if known is not None:
            known.up_at = now
            if address is not None:
                known.worked, known.worked_at = address, now

    def lost(self, peer: PeerId, now: float) -> None:
        """A trunk is gone."""
        self._up[peer] -= 1
        if self._up[peer] > 0:
            return
        del self._up[peer]
        known = self._peers.get(peer)
        if known is not None:
            if now >= known.up_at + LASTED_S:
                known.lost_at, known.failures = now, 0
                known.retry_at = now + FIRST_S * self._jitter()
            else:
                self.failed(peer, now)

    def failed(self, peer: PeerId, now: float, *, is_quick: bool = False) -> None:
        """A dial led to nothing (`ended` is said, too). A quick one leaves the others their pace."""
        known = self._peers.get(peer)
        if known is None:
            return
        if is_quick:
            return
        known.failures += 1
        first_s, most_s = (FIRST_S, MOST_S) if known.is_chosen else (OTHERS_FIRST_S, OTHERS_MOST_S)
        if known.is_chosen and now < known.since + SOON_S and known.lost_at == float("-inf"):
            most_s = SOON_MOST_S
        known.retry_at = now + min(first_s * 2.0 ** min(known.failures - 1, 16), most_s) * self._jitter()
        if not known.is_chosen and known.failures >= GIVE_UP_FAILURES and not known.is_recent(now):
            del self._peers[peer]

    def ended(self, peer: PeerId) -> None:
        """A dial is over, whatever it came to."""
        if peer in self._peers:
            self._peers[peer].dials = max(0, self._peers[peer].dials - 1)

    # What follows

    def wanted(self, now: float) -> list[Dial]:
        """Whom to dial now; each is under way until `ended`."""
        tally, found = self._tally(), []
        due = [one for one in self._peers.items() if self._may_dial(*one) and one[1].retry_at <= now]
        for peer, known in sorted(due, key=lambda one: one[1].rank):
            if tally.has_room(known):
                found.append(self._begin(peer, known, tally, now))
        return [*found, *self._quick(tally, now)] if now >= self._quick_at else found

    def next_deadline(self, now: float) -> float:
        """When `wanted` has more to say, if nothing is told before."""
        tally, due_at = self._tally(), float("inf")
        for peer, known in self._peers.items():
            if self._may_dial(peer, known) and tally.has_room(known):
                is_quick = known.failures > 0 and known.is_recent(max(now, self._quick_at))
                due_at = min(due_at, known.retry_at, self._quick_at if is_quick else known.retry_at)
        return due_at

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        """Where a peer may be, the best first."""
        known = self._peers.get(peer)
        return () if known is None else known.addresses()

    def is_chosen(self, peer: PeerId) -> bool:
        """Whether the operator, a record or trunk keeping wants it as a neighbour."""
        known = self._peers.get(peer)
        return known is not None and known.is_chosen

    def is_named(self, peer: PeerId) -> bool:
        """Whether the operator or a record names it."""
        known = self._peers.get(peer)
        return known is not None and bool(NAMED & known.told.keys())

    @property
    def trunks(self) -> int:
        """Peers to which there is a trunk."""
        return len(self._up)

    # Inside

    def _quick(self, tally: _Tally, now: float) -> list[Dial]:
        """A few of those that were neighbours until just now, in turn, whatever their backoff says."""
        lost = [
            (known.tried_at, known.order, peer)
            for peer, known in self._peers.items()
            if known.failures > 0 and known.is_recent(now) and self._may_dial(peer, known)
        ]
        found: list[Dial] = []
        for *_, peer in sorted(lost):
            known = self._peers[peer]
            if len(found) < QUICK_AT_ONCE and tally.has_room(known):
                found.append(self._begin(peer, known, tally, now, is_quick=True))
        if found:
            is_fresh = now < max(self._peers[one.peer].lost_at for one in found) + FRESH_S
            self._quick_at = now + (QUICK_S / 2 if is_fresh else QUICK_S) * self._jitter()
        return found

    def _begin(self, peer: PeerId, known: _Peer, tally: _Tally, now: float, *, is_quick: bool = False) -> Dial:
        addresses = known.news if known.dials else known.addresses()
        known.dials, known.tried_at, known.news = known.dials + 1, now, ()
        tally.begin(known)
        return Dial(peer, addresses, is_quick, known.worked)

    def _may_dial(self, peer: PeerId, known: _Peer) -> bool:
        """Not twice at a time, but for addresses that came in while others are silent still."""
        return peer not in self._up and known.has_address and known.dials < (MAX_DIALS if known.news else 1)

    def _tally(self) -> _Tally:
        tally = _Tally(len(self._up))
        for peer, known in self._peers.items():
            tally.add(known, is_up=peer in self._up)
        return tally

    def _forget_one(self, source: Source) -> bool:
        """Makes room for a peer of this source; False: all that are known are worth more."""
        idle = [one for one in self._peers.items() if one[0] not in self._up and not one[1].dials]
        peer, worst = max(idle, key=lambda one: one[1].rank, default=(None, None))
        if peer is None or worst is None or worst.is_chosen or worst.source < source:
            return False
        del self._peers[peer]
        return True

    def _jitter(self) -> float:
        return 0.5 + self._random() / 2
