"""Who is in the mesh: what nodes say of themselves, passed on among relays (SPEC 11).

    a neighbour's message ─▶ known? ▸ for now? ▸ signed? ─▶ kept ─▶ passed on 0.1 s later, but to whom it came from
                                                            └─▶ the view: who can be reached by links that count

A node is seen while a way of links leads to it: a link counts as long as its far end names it in its last presence,
and its near end has not said that it is gone. So a node that dies, and a whole half of the mesh beyond a cut, is gone
as soon as its neighbours notice, and nobody alone can make another vanish. Who relays for nobody else is known to its
neighbours alone, and is told by them of a few relays.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from peertap.mesh.allowance import Allowance
from peertap.mesh.score import UNKNOWN_RTT_S
from peertap.types import PeerId, TrunkId
from peertap.wire.presence import MAX_LINKS, Link, LinkDown, Presence, SignedLinkDown, SignedPresence

REFRESH_S: Final = 600.0  # PROTOCOL 8: said again
LIFETIME_S: Final = 1500  # ours: two of them, and some patience
CLOCK_AHEAD_S: Final = 3600.0  # SPEC 6.1: an author's clock may be so far ahead of ours
CLOCK_BEHIND_S: Final = 600.0  # ours: or behind; so long what is over is remembered, so that nobody can replay it
HOLD_S: Final = 0.1  # ours: what comes in by several neighbours at once is passed on once
MAX_PER_HOLD: Final = 64  # ours: a newcomer is told of a large mesh at a pace that it can verify
VIEW_S: Final = 1.0  # ours: so long the view is not made anew
DOUBT_S: Final = 5.0  # ours: that long a trunk that the other end names may still be coming up
MAX_KNOWN: Final = 4096  # ours: bounds the memory; a larger mesh is not seen whole
MAX_KNOWN_BY_TRUNK: Final = 2048  # ours: one neighbour cannot fill it alone
MAX_TOLD: Final = 32  # ours: relays that others may choose from
NEAREST_TOLD: Final = 16  # ours: half of them the nearest, the rest by chance
MAX_CHECKS: Final = 1024  # ours: signatures of one neighbour's messages, at once
CHECKS_PER_S: Final = MAX_PER_HOLD / HOLD_S  # and over time, as fast as they are passed on
MAX_SAYINGS: Final = 8  # ours: of one author at once
SAYINGS_PER_S: Final = 0.4  # ours: and over time
MAX_OWN_SAYINGS: Final = 4  # ours: less than others take
OWN_SAYINGS_PER_S: Final = 0.2  # ours
NEVER: Final = float("inf")

Message = SignedPresence | SignedLinkDown


@dataclass(frozen=True, slots=True)
class Seen:
    """A node that is there: so many links away, at about this round trip in s."""

    peer: PeerId
    presence: Presence
    hops: int
    rtt_s: float


@dataclass(slots=True)
class _Known:
    """What is known of a node; also without a way to it, and after its time, so that it cannot be replayed."""

    message: SignedPresence
    allowance: Allowance
    tellers: set[TrunkId]  # who told us of it
    downs: dict[PeerId, SignedLinkDown] = field(default_factory=dict)  # by neighbours that it names

    @property
    def said(self) -> Presence:
        return self.message.said

    def ends_at(self) -> float:
        """Unix time."""
        return self.said.sequence / 1000 + self.said.lifetime_s


@dataclass(slots=True)
class _Neighbour:
    peer: PeerId
    relays: bool
    checks: Allowance
    pending: dict[tuple[PeerId, PeerId], Message] = field(default_factory=dict)  # (author, about)
    told: dict[PeerId, int] = field(default_factory=dict)  # where it is no relay: sequences of those it was told of
    brought: int = 0  # nodes that we first heard of by it


class Presences:
    """One node's part: what it says of itself, and what it knows of others."""

    def __init__(
        self,
        me: PeerId,
        sign: Callable[[bytes], bytes],
        rtt_of: Callable[[TrunkId], float | None],
        random: Callable[[], float],
        now: float,
        is_signed: Callable[[Message], bool] | None = None,
    ) -> None:
        """Args: random: a number from 0 up to 1; is_signed: whether a message's signature is right."""
        self._me: Final = me
        self._sign: Final = sign
        self._rtt_of: Final = rtt_of
        self._random: Final = random
        self._is_signed: Final = is_signed or (lambda message: message.is_signed())
        self.load = 0  # of 255; told along with something else
        self._own = Presence(0, 0)
        self._said: SignedPresence | None = None
        self._sequence = 0
        self._allowance: Final = Allowance(MAX_OWN_SAYINGS, OWN_SAYINGS_PER_S, now)
        self._say_at = NEVER
        self._neighbours: dict[TrunkId, _Neighbour] = {}
        self._known: dict[PeerId, _Known] = {}
        self._doubts: dict[PeerId, float] = {}  # it names us as a neighbour, and we know no trunk
        self._flush_at = NEVER
        self._view: dict[PeerId, Seen] = {}
        self._look_at = NEVER
        self._looked_at = float("-inf")

    # Neighbours

    def add_neighbour(self, trunk: TrunkId, peer: PeerId, now: float, now_unix: float, *, relays: bool) -> None:
        """A trunk came up, and its other end said what it is, or that it is something else.

        A relay is told of all by a relay, others of a few when we look.
        """
        if trunk in self._neighbours:
            if self._neighbours[trunk].relays == relays:
                return
            self._neighbours[trunk].relays = relays
        else:
            self._neighbours[trunk] = _Neighbour(peer, relays, Allowance(MAX_CHECKS, CHECKS_PER_S, now))
        if self._said is not None:
            self._owe(trunk, (self._said,), now)
        if relays and self._own.relays:
            for known in self._known.values():
                if now_unix < known.ends_at() and known.said.relays:
                    self._owe(trunk, (known.message, *known.downs.values()), now)
        self._doubts.pop(peer, None)
        self._say_soon(now)
        self._look_soon(now)

    def remove_neighbour(self, trunk: TrunkId, now: float, now_unix: float) -> None:
        """A trunk is gone; with the last one to a node, all hear of it."""
        gone = self._neighbours.pop(trunk, None)
        if gone is None:
            return
        for known in self._known.values():
            known.tellers.discard(trunk)
        if not self._is_neighbour(gone.peer):
            self._deny(gone.peer, now, now_unix)
            self._say_soon(now)
        self._look_soon(now)

    # Our own

    def describe(self, own: Presence, now: float, now_unix: float) -> None:
        """What we say of ourselves is this now; sequence, lifetime, load and links are filled in."""
        before, self._own = self._own, own
        if own.relays != before.relays:
            for neighbour in self._neighbours.values():
                neighbour.pending.clear()
                neighbour.told.clear()
        if before.relays and not own.relays:  # all hear that the relay is gone, neighbours that the node is not
            self._goodbye(before, now_unix)
            self._say_at = now + 2 * HOLD_S
        else:
            self._say_soon(now)
        self._look_soon(now)

    def leave(self, now_unix: float) -> None:
        """This node goes down, and says so."""
        self._goodbye(self._own, now_unix)

    # From the wire

    def received_untrusted(self, trunk: TrunkId, message: Message, now: float, now_unix: float) -> str | None:
        """Takes a neighbour's message; returns why it was refused, where that is its fault."""
        neighbour = self._neighbours.get(trunk)
        if neighbour is None:
            return None
        if not neighbour.relays and message.author != neighbour.peer:
            return "passed on by no relay"
        if isinstance(message, SignedPresence):
            return self._presence(trunk, neighbour, message, now, now_unix)
        return self._link_down(trunk, neighbour, message, now)

    # Time

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        return min(self._say_at, self._flush_at, self._look_at, *self._doubts.values(), NEVER)

    def tick(self, now: float, now_unix: float) -> None:
        """Says what is due."""
        if self._say_at <= now:
            self._say_again(now, now_unix)
        for peer in [peer for peer, due_at in self._doubts.items() if due_at <= now]:
            del self._doubts[peer]
            self._deny(peer, now, now_unix)
        if self._look_at <= now:
            self._look(now, now_unix)

    def expire(self, now_unix: float) -> None:
        """What is over is not seen any more; once it would not be taken again, either, it is forgotten."""
        if any(peer not in self._known or self._known[peer].ends_at() <= now_unix for peer in self._view):
            self._look_at = float("-inf")
        for peer in [one for one, known in self._known.items() if known.ends_at() + CLOCK_BEHIND_S < now_unix]:
            del self._known[peer]

    def take(self, now: float) -> Iterator[tuple[TrunkId, Message]]:
        """What to say now."""
        if self._flush_at > now:
            return
        self._flush_at = NEVER
        for trunk, neighbour in self._neighbours.items():
            for name in list(neighbour.pending)[:MAX_PER_HOLD]:
                yield trunk, neighbour.pending.pop(name)
            if neighbour.pending:
                self._flush_at = now + HOLD_S

    # Looking

    def seen(self, now_unix: float) -> dict[PeerId, Seen]:
        """All nodes that are there, as far as we hear; we are not among them."""
        if self._look_at < NEVER:
            self._view = dict(self._nearest_first(now_unix))
        return self._view

    # Inside: others

    def _presence(
        self, trunk: TrunkId, neighbour: _Neighbour, message: SignedPresence, now: float, now_unix: float
    ) -> str | None:
        said, author = message.said, message.author
        if author == self._me and said.sequence <= self._sequence:
            return None
        known = self._known.get(author)
        if known is not None and said.sequence <= known.said.sequence:
            if said.sequence == known.said.sequence:
                known.tellers.add(trunk)
                neighbour.pending.pop((author, author), None)
                self._look_soon(now)
            return None
        issued_at = said.sequence / 1000
        if issued_at + said.lifetime_s + CLOCK_BEHIND_S < now_unix:
            return "old"
        if issued_at > now_unix + CLOCK_AHEAD_S:
            return "ahead of our clock"
        if not said.relays and author != neighbour.peer:
            return "of no relay, and passed on"
        if known is None and (neighbour.brought >= MAX_KNOWN_BY_TRUNK or len(self._known) >= MAX_KNOWN):
            return "too many"
        if not neighbour.checks.take(now):
            return "too often"
        if not self._is_signed(message):
            return "forged"
        if author == self._me:  # a former process of this node, whose clock was ahead; others believe it still
            self._sequence, self._said = said.sequence, None
            self._say_soon(now)
            return None
        if known is None:
            known = self._known[author] = _Known(message, Allowance(MAX_SAYINGS, SAYINGS_PER_S, now), {trunk})
            neighbour.brought += 1
        if not known.allowance.take(now):
            return "its author says too much"
        known.message = message
        known.tellers = {trunk}
        known.downs.clear()
        if said.relays:
            self._pass_on(message, now, unless=trunk)
        if any(link.peer == self._me for link in said.links) and not self._is_neighbour(author):
            self._doubts[author] = now + DOUBT_S
        self._look_soon(now)
        return None

    def _link_down(self, trunk: TrunkId, neighbour: _Neighbour, message: SignedLinkDown, now: float) -> str | None:
        author, said = message.author, message.said
        known = self._known.get(said.peer)
        if known is None or said.sequence != known.said.sequence or author in known.downs:
            if known is not None and known.downs.get(author) == message:
                neighbour.pending.pop((author, said.peer), None)
            return None
        tells_us = not self._own.relays and author == neighbour.peer
        if not tells_us and not any(link.peer == author for link in known.said.links):
            return None
        if not neighbour.checks.take(now):
            return "too often"
        if not self._is_signed(message):
            return "forged"
        if tells_us:
            known.tellers.discard(trunk)
        else:
            known.downs[author] = message
            self._pass_on(message, now, unless=trunk)
        self._look_soon(now)
        return None

    def _pass_on(self, message: Message, now: float, unless: TrunkId | None = None) -> None:
        """From a relay to the other relays; the rest is told when we look."""
        if not self._own.relays:
            return
        for trunk, neighbour in self._neighbours.items():
            if trunk != unless and neighbour.relays and neighbour.peer != message.author:
                self._owe(trunk, (message,), now)

    def _owe(self, trunk: TrunkId, messages: Iterable[Message], now: float) -> None:
        neighbour = self._neighbours[trunk]
        for message in messages:
            about = message.said.peer if isinstance(message, SignedLinkDown) else message.author
            neighbour.pending[message.author, about] = message
        if neighbour.pending:
            self._flush_at = min(self._flush_at, now + HOLD_S)

    def _is_neighbour(self, peer: PeerId) -> bool:
        return any(neighbour.peer == peer for neighbour in self._neighbours.values())

    def _deny(self, peer: PeerId, now: float, now_unix: float) -> None:
        """Who names us as a neighbour is none."""
        known = self._known.get(peer)
        if known is None or self._is_neighbour(peer) or known.ends_at() < now_unix or not self._own.relays:
            return
        if self._me not in known.downs and any(link.peer == self._me for link in known.said.links):
            known.downs[self._me] = SignedLinkDown.sign(self._me, self._sign, LinkDown(peer, known.said.sequence))
            self._pass_on(known.downs[self._me], now)
            self._look_soon(now)

    # Inside: ourselves

    def _say_soon(self, now: float) -> None:
        """Something that we say of ourselves may have changed."""
        self._say_at = min(self._say_at, max(now, self._allowance.ready_at()))

    def _goodbye(self, own: Presence, now_unix: float) -> None:
        if self._said is not None:
            self._say(own, 0, now_unix)
            self._flush_at = float("-inf")

    def _say_again(self, now: float, now_unix: float) -> None:
        own = replace(self._own, links=self._links())
        again_at = self._sequence / 1000 + REFRESH_S * 7 / 8
        if self._said is not None and _names(own) == _names(self._said.said) and now_unix < again_at:
            self._say_at = now + again_at - now_unix
        elif not self._allowance.take(now):
            self._say_at = self._allowance.ready_at()
        else:
            self._say(own, LIFETIME_S, now_unix)
            self._flush_at = min(self._flush_at, now + HOLD_S)
            self._say_at = now + REFRESH_S * (1 - self._random() / 8)

    def _say(self, own: Presence, lifetime_s: int, now_unix: float) -> None:
        self._sequence = max(self._sequence + 1, int(now_unix * 1000))
        said = replace(own, sequence=self._sequence, lifetime_s=lifetime_s, load=self.load)
        self._said = SignedPresence.sign(self._me, self._sign, said)
        for neighbour in self._neighbours.values():
            neighbour.pending[self._me, self._me] = self._said

    def _links(self) -> tuple[Link, ...]:
        """The relays that are our neighbours, the nearest first; who is none names none."""
        if not self._own.relays:
            return ()
        nearest: dict[PeerId, float | None] = {}
        for trunk, neighbour in self._neighbours.items():
            if neighbour.relays:
                nearest[neighbour.peer] = self._rtt_of(trunk)
        found = sorted(nearest.items(), key=lambda one: (one[1] is None, one[1] or 0.0, one[0]))
        return tuple(Link(peer, rtt_s) for peer, rtt_s in found[:MAX_LINKS])

    # Inside: the view

    def _look_soon(self, now: float) -> None:
        self._look_at = min(self._look_at, max(now, self._looked_at + VIEW_S))

    def _look(self, now: float, now_unix: float) -> None:
        self._view = dict(self._nearest_first(now_unix))
        self._looked_at, self._look_at = now, NEVER
        if not self._own.relays:
            return
        for trunk, neighbour in self._neighbours.items():
            if not neighbour.relays:
                self._tell_some(trunk, neighbour, now)

    def _tell_some(self, trunk: TrunkId, user: _Neighbour, now: float) -> None:
        """Who is no relay hears of a few that it could use, and when they are gone."""
        for peer in [peer for peer in user.told if peer not in self._view]:
            gone = LinkDown(peer, user.told.pop(peer))
            self._owe(trunk, (SignedLinkDown.sign(self._me, self._sign, gone),), now)
        relays = [peer for peer, seen in self._view.items() if seen.presence.relays and peer not in user.told]
        room = MAX_TOLD - len(user.told)
        nearest, others = relays[:NEAREST_TOLD], relays[NEAREST_TOLD:]
        others.sort(key=lambda _: self._random())
        for peer in (*user.told, *[*nearest, *others][:room]):
            sequence = self._view[peer].presence.sequence
            if peer != user.peer and user.told.get(peer) != sequence:
                user.told[peer] = sequence
                self._owe(trunk, (self._known[peer].message,), now)

    def _nearest_first(self, now_unix: float) -> Iterator[tuple[PeerId, Seen]]:
        """The shortest way by links that count, to each node that is there (Dijkstra)."""
        ways: list[tuple[float, int, PeerId]] = []
        for trunk, neighbour in self._neighbours.items():
            heapq.heappush(ways, (self._rtt_of(trunk) or UNKNOWN_RTT_S, 1, neighbour.peer))
        alive = {peer: known for peer, known in self._known.items() if now_unix < known.ends_at()}
        links: dict[PeerId, list[tuple[PeerId, float]]] = defaultdict(list)
        for peer, known in alive.items():
            if not self._own.relays:  # the ways beyond our neighbours are not ours to know
                if known.tellers:
                    heapq.heappush(ways, (self._far(known), 2, peer))
                continue
            for link in known.said.links:
                if link.peer not in known.downs:
                    links[link.peer].append((peer, link.rtt_s if link.rtt_s is not None else UNKNOWN_RTT_S))
        done: set[PeerId] = {self._me}
        while ways:
            rtt_s, hops, peer = heapq.heappop(ways)
            if peer in done:
                continue
            done.add(peer)
            if peer in alive:
                yield peer, Seen(peer, alive[peer].said, hops, rtt_s)
            for beyond, link_s in links[peer]:
                heapq.heappush(ways, (rtt_s + link_s, hops + 1, beyond))

    def _far(self, known: _Known) -> float:
        """As no relay: how far a relay is that neighbours told of, as far as we can say."""
        links = {link.peer: link.rtt_s for link in known.said.links}
        near_s = min((one for one in links.values() if one is not None), default=UNKNOWN_RTT_S)
        tellers = ((self._rtt_of(trunk) or UNKNOWN_RTT_S, self._neighbours[trunk].peer) for trunk in known.tellers)
        return min(here_s + (links.get(peer) or near_s) for here_s, peer in tellers)


def _names(own: Presence) -> tuple[object, ...]:
    """What of a presence is worth saying at once: all but the load and the round trips."""
    plain = replace(own, sequence=0, lifetime_s=0, load=0, links=())
    return plain, frozenset(link.peer for link in own.links)
