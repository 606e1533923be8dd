"""The rendezvous among nodes that volunteer: Kademlia with records that only a key's owner can write (SPEC 12.3). Pure.

Servers   who serves, as far as we know; those near a key
Records   what a serving node keeps for others
Lookup    asks its way to the nodes nearest to a key
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from peertap.types import PeerId
from peertap.wire.rendezvous import MAX_NODES, MAX_RECORDS, Record

NEAREST: Final = 8  # ours: so many nodes keep a record
AT_ONCE: Final = 3  # ours: questions of one lookup under way
MAX_ASKED: Final = 32  # ours: by one lookup; hostile answers can make it no longer
MAX_SERVERS: Final = 256  # ours: 8 for each prefix that is likely to be there, and more
BUCKET: Final = 16  # ours: servers of one distance; the others are refused while these answer
MAX_SERVER_ADDRESSES: Final = 4
MAX_SERVER_FAILURES: Final = 3  # ours: in a row; then a server is forgotten
MAX_KEPT: Final = 8192  # ours: 10 MB
MAX_KEPT_PER_KEY: Final = 32  # ours: any member leads to the others
MAX_KEPT_PER_SOURCE: Final = 256  # ours: of one IP address
KEEP_S: Final = 7200.0  # ours: members say it again every half of it
CLOCK_S: Final = 86_400  # ours: a record whose time is further off is refused: it is another day's


def place(peer: PeerId) -> bytes:
    """Where a node is among the keys."""
    return blake3(b"PeerTap/1 dht node" + peer).digest()


def distance(a: bytes, b: bytes) -> int:
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


@dataclass(slots=True)
class _Server:
    addresses: tuple[str, ...]
    place: bytes
    failures: int = 0
    answered: bool = False


class Servers:
    """Nodes that serve. Those that answered are told to others; those that are only heard of are tried."""

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self._place = place(me)
        self._known: dict[PeerId, _Server] = {}
        self._buckets: Counter[int] = Counter()  # by the bits of their distance from us

    def __len__(self) -> int:
        return len(self._known)

    def heard(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """Somebody says that this node serves. At MAX_SERVERS, or with a full bucket, it is not noted."""
        if peer == self._me:
            return
        texts = tuple(addresses)[:MAX_SERVER_ADDRESSES]
        known = self._known.get(peer)
        if known is not None:
            if not known.answered:
                known.addresses = texts
        elif texts and len(self._known) < MAX_SERVERS:
            found = place(peer)
            bucket = self._bucket(found)
            if self._buckets[bucket] < BUCKET:
                self._buckets[bucket] += 1
                self._known[peer] = _Server(texts, found)

    def answered(self, peer: PeerId, address: str) -> None:
        """It does serve, there; hearsay makes room for it."""
        bucket = self._bucket(place(peer))
        if peer not in self._known and (self._buckets[bucket] >= BUCKET or len(self._known) >= MAX_SERVERS):
            rumours = [one for one, known in self._known.items() if not known.answered]
            rumours.sort(key=lambda one: self._bucket(self._known[one].place) != bucket)
            if rumours:
                self._forget(rumours[0])
        self.heard(peer, (address,))
        known = self._known.get(peer)
        if known is not None:
            known.answered, known.failures = True, 0
            known.addresses = tuple(dict.fromkeys((address, *known.addresses)))[:MAX_SERVER_ADDRESSES]

    def failed(self, peer: PeerId) -> None:
        known = self._known.get(peer)
        if known is not None:
            known.failures += 1
            if known.failures >= MAX_SERVER_FAILURES:
                self._forget(peer)

    def nearest(
        self, key: bytes, count: int = NEAREST, *, proven: bool = False
    ) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Those nearest to a key; with `proven` only those that answered us."""
        found = [one for one in self._known.items() if one[1].answered or not proven]
        found.sort(key=lambda one: distance(one[1].place, key))
        return [(peer, one.addresses) for peer, one in found[:count]]

    def told(self, key: bytes) -> tuple[str, ...]:
        """What is told to somebody who asks for a key: an address of each of the nearest that answered us."""
        return tuple(addresses[0] for _, addresses in self.nearest(key, MAX_NODES, proven=True))

    def _forget(self, peer: PeerId) -> None:
        self._buckets[self._bucket(self._known.pop(peer).place)] -= 1

    def _bucket(self, found: bytes) -> int:
        return distance(self._place, found).bit_length()


@dataclass(slots=True)
class _Kept:
    record: Record
    source: str
    until: float


class Records:
    """What is kept for others, bounded in all directions; nothing is overwritten but by its owner's later word."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, bytes], _Kept] = {}  # by (owner, slot)
        self._by_key: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self._by_source: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, record: Record, source: str, now: float, now_unix: float) -> bool:
        """Keeps a record whose signature holds; says whether it did. At a limit the oldest of that kind goes.

        Args:
            source: the IP address that it came from.
        """
        name = (record.owner, record.slot)
        former = self._kept.get(name)
        if abs(record.time - now_unix) > CLOCK_S or (former is not None and former.record.time > record.time):
            return False
        if not record.is_signed():
            return False
        if former is not None:
            self._drop(name)
        if self._by_source[source] >= MAX_KEPT_PER_SOURCE:
            self._drop(next(one for one, kept in self._kept.items() if kept.source == source))
        same = self._by_key.get(record.key, [])
        if len(same) >= MAX_KEPT_PER_KEY:
            self._drop(same[0])
        if len(self._kept) >= MAX_KEPT:  # whoever has most here loses
            busiest = max(self._by_source, key=lambda one: self._by_source[one])
            self._drop(next(one for one, kept in self._kept.items() if kept.source == busiest))
        self._kept[name] = _Kept(record, source, now + KEEP_S)
        self._by_key.setdefault(record.key, []).append(name)
        self._by_source[source] += 1
        return True

    def get(self, key: bytes, now: float) -> tuple[Record, ...]:
        """The latest of a key, at most MAX_RECORDS."""
        self.tidy(now)
        return tuple(self._kept[name].record for name in self._by_key.get(key, [])[-MAX_RECORDS:])

    def tidy(self, now: float) -> None:
        """Forgets what was not said again. They stand in the order in which they came."""
        while self._kept:
            name, kept = next(iter(self._kept.items()))
            if kept.until > now:
                break
            self._drop(name)

    def _drop(self, name: tuple[bytes, bytes]) -> None:
        kept = self._kept.pop(name)
        names = self._by_key[kept.record.key]
        names.remove(name)
        if not names:
            del self._by_key[kept.record.key]
        self._by_source[kept.source] -= 1
        if not self._by_source[kept.source]:
            del self._by_source[kept.source]


class Lookup:
    """Asks nodes nearer and nearer to a key, until the nearest that are known have answered."""

    def __init__(self, key: bytes, start: Iterable[tuple[PeerId, tuple[str, ...]]]) -> None:
        self.key: Final = key
        self.records: Final[dict[bytes, Record]] = {}  # by slot, the latest; at most MAX_ASKED answers' worth
        self._known: dict[PeerId, tuple[str, ...]] = {}
        self._asked: set[PeerId] = set()
        self._answered: set[PeerId] = set()
        self._failed: set[PeerId] = set()
        self._add(start)

    def next(self) -> tuple[PeerId, tuple[str, ...]] | None:
        """Whom to ask now; None: nobody, or nobody before somebody answers."""
        waiting = len(self._asked) - len(self._answered) - len(self._failed)
        if waiting >= AT_ONCE or len(self._asked) >= MAX_ASKED:
            return None
        for peer in self._order()[:NEAREST]:
            if peer not in self._asked:
                self._asked.add(peer)
                return peer, self._known[peer]
        return None

    def answered(
        self, peer: PeerId, nodes: Iterable[tuple[PeerId, tuple[str, ...]]], records: Iterable[Record]
    ) -> None:
        """Args: records: of this key, with a signature that holds."""
        self._answered.add(peer)
        self._add(list(nodes)[:MAX_NODES])
        for record in list(records)[:MAX_RECORDS]:
            former = self.records.get(record.slot)
            if former is None or former.time < record.time:
                self.records[record.slot] = record

    def failed(self, peer: PeerId) -> None:
        self._failed.add(peer)

    def nearest(self) -> list[tuple[PeerId, tuple[str, ...]]]:
        """The nearest that answered."""
        return [(peer, self._known[peer]) for peer in self._order() if peer in self._answered][:NEAREST]

    def _order(self) -> list[PeerId]:
        alive = [peer for peer in self._known if peer not in self._failed]
        return sorted(alive, key=lambda peer: distance(place(peer), self.key))

    def _add(self, nodes: Iterable[tuple[PeerId, tuple[str, ...]]]) -> None:
        for peer, addresses in nodes:
            if addresses and len(self._known) < MAX_ASKED * MAX_NODES:
                self._known.setdefault(peer, addresses)
