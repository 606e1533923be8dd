"""The simulated network: nodes with the real cores, trunks that delay, and a look at every route that changes.

Messages go by reference. One in SAMPLE is written and read again, as the wire would; sizes are those of the records.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from peertap.mesh.audience import Key
from peertap.mesh.score import link_cost
from peertap.types import TrunkId
from peertap.wire import control
from peertap.wire.control import Message, Routes, Want
from peertap.wire.presence import SignedLinkDown, SignedPresence
from peertap.wire.routes import SignedJoin, SignedRoute, signed_by
from tools.simulate.clock import Clock
from tools.simulate.node import SimNode
from tools.simulate.topology import Plan

SAMPLE: Final = 1009  # ours: a prime, so that no pattern of messages hides from it
RECORD_BYTES: Final = 2 + 16 + 1  # SPEC 4.4: length, tag, code
ROUTE_BYTES: Final = 143  # SPEC 4.4
KEY_BYTES: Final = 32  # SPEC 4.4: VTag and VFT
SILENT_S: Final = 1.05  # SPEC 7: probes for 0.55 s, then half a second without a Pong
DEAD_S: Final = 5.0  # SPEC 4.5
RESEND_S: Final = 0.2  # RFC 6298: a lost segment of a stream comes that much later


Signed = SignedRoute | SignedJoin | SignedPresence | SignedLinkDown


class WireError(Exception):
    """A message is another one after the wire, or has another size than was counted."""


@dataclass(slots=True, eq=False)
class Trunk:
    """A session between two nodes. `carries`: what is sent arrives; nobody is told when that ends."""

    a: int
    b: int
    delay_s: float
    carries: bool = True
    arrives_at: dict[int, float] = field(default_factory=dict)  # the last message to each end: in order

    def other(self, node: int) -> int:
        return self.b if node == self.a else self.a


class Trust:
    """Signatures, each really checked once in the whole mesh."""

    def __init__(self) -> None:
        self._good: dict[int, Signed] = {}  # by identity; kept, so that none is used again

    def __call__(self, signed: Signed) -> bool:
        if id(signed) in self._good:
            return True
        if isinstance(signed, SignedPresence | SignedLinkDown):
            if not signed.is_signed():
                return False
        elif not signed_by(signed.public, signed.signature, signed.signed_part()):
            return False
        self._good[id(signed)] = signed
        return True


class World:
    """All nodes of a plan; none runs before `boot`."""

    def __init__(self, plan: Plan, seed: int, *, loss: float = 0.0, watch: float = 1.0) -> None:
        """Args: watch: the share of changed routes that are followed to look for loops."""
        self.plan = plan
        self.clock: Final = Clock()
        self.random: Final = random.Random(seed)  # noqa: S311  a simulation repeats itself
        self.trust: Final = Trust()
        self.nodes: Final = [SimNode(number, plan, self) for number in range(len(plan.names))]
        self.trunks: dict[tuple[int, int], Trunk] = {}
        self.delays: Final = {(min(a, b), max(a, b)): delay for a, b, delay in plan.links}
        self.neighbours: Final[list[list[int]]] = [[] for _ in plan.names]
        for a, b in self.delays:
            self.neighbours[a].append(b)
            self.neighbours[b].append(a)
        self.cut: set[tuple[int, int]] = set()  # links that are broken
        self.liars: frozenset[int] = frozenset()  # a way through one of them may lead anywhere
        self.messages = self.adverts = self.loops = self.followed = self.sampled = 0
        self.changed_at = 0.0  # the last change of any route
        self.on_sent: Callable[[int, Message], Message | None] | None = None
        self._loss = loss
        self._watch = watch

    # Nodes and trunks

    def boot(self, number: int) -> None:
        """A node starts, and dials whoever is there."""
        self.nodes[number].boot(self.clock.now)
        for other in self.neighbours[number]:
            if self.nodes[other].is_up:
                self.link(number, other)

    def link(self, a: int, b: int) -> None:
        """A trunk between two nodes that run, where none is and the link is whole."""
        pair = (min(a, b), max(a, b))
        if pair in self.cut:
            return
        if pair in self.trunks:
            self.drop(self.trunks[pair])
        trunk = self.trunks[pair] = Trunk(*pair, self.delays[pair])
        cost = link_cost(2 * trunk.delay_s)
        for node in pair:
            self.nodes[node].add(trunk, cost)

    def drop(self, trunk: Trunk) -> None:
        """A trunk ends, and both ends are told."""
        if self.trunks.get((trunk.a, trunk.b)) is trunk:
            trunk.carries = False
            del self.trunks[trunk.a, trunk.b]
            for node in (trunk.a, trunk.b):
                if self.nodes[node].is_up:
                    self.nodes[node].remove(trunk)

    def kill(self, number: int, *, silently: bool) -> None:
        """A node ends; silently: its neighbours find out by themselves."""
        node = self.nodes[number]
        node.is_up = False
        for trunk in [one for pair, one in self.trunks.items() if number in pair]:
            if silently:
                self._falls_silent(trunk)
            else:
                self.drop(trunk)

    def break_link(self, a: int, b: int) -> None:
        """A link carries nothing any more, and nobody is told."""
        pair = (min(a, b), max(a, b))
        self.cut.add(pair)
        if pair in self.trunks:
            self._falls_silent(self.trunks[pair])

    def mend_link(self, a: int, b: int) -> None:
        pair = (min(a, b), max(a, b))
        self.cut.discard(pair)
        if self.nodes[a].is_up and self.nodes[b].is_up:
            self.link(a, b)

    def _falls_silent(self, trunk: Trunk) -> None:
        now = self.clock.now
        trunk.carries = False
        for node in (trunk.a, trunk.b):
            self.clock.at(now + SILENT_S, self._silence, node, trunk)
        self.clock.at(now + DEAD_S, self.drop, trunk)

    def _silence(self, node: int, trunk: Trunk) -> None:
        if self.nodes[node].is_up and self.trunks.get((trunk.a, trunk.b)) is trunk:
            self.nodes[node].silence(trunk)

    # Messages

    def send(self, source: int, number: TrunkId, message: Message) -> None:
        to = number - 1
        trunk = self.trunks.get((source, to) if source < to else (to, source))
        if trunk is None or not trunk.carries:
            return
        if self.on_sent is not None:
            changed = self.on_sent(source, message)
            if changed is None:
                return
            message = changed
        now = self.clock.now
        self.messages += 1
        size = size_of(message)
        self.nodes[source].sent_bytes += size
        if self.messages % SAMPLE == 0:
            self._round_trip(message, size)
        at = now + trunk.delay_s
        if self._loss and self.random.random() < self._loss:
            at += RESEND_S
        at = max(at, trunk.arrives_at.get(to, 0.0))
        trunk.arrives_at[to] = at
        self.clock.at(at, self._deliver, trunk, source, to, message, size)

    def _deliver(self, trunk: Trunk, source: int, to: int, message: Message, size: int) -> None:
        node = self.nodes[to]
        if trunk.carries and node.is_up:
            node.received_bytes += size
            if type(message) is Routes:
                self.adverts += len(message.adverts)
            node.receive(TrunkId(source + 1), message)

    def _round_trip(self, message: Message, size: int) -> None:
        data = control.emit(message)
        if control.parse_untrusted(data) != message or len(data) + RECORD_BYTES - 1 != size:
            raise WireError(f"{len(data)} bytes, {size} counted: {message}")
        self.sampled += 1

    # Routes

    def watch(self, node: int, changed: list[Key]) -> None:
        """Routes of a node changed."""
        self.changed_at = self.clock.now
        for key in changed:
            if self._watch >= 1 or self.random.random() < self._watch:
                self.followed += 1
                self._follow(node, key)

    def way(self, node: int, key: Key) -> list[int] | None:
        """The nodes on the way from here to the owner of a token; None where it ends before."""
        way = [node]
        while True:
            selected = self.nodes[way[-1]].fabric.routes.selected(key)
            if selected is None:
                return None
            if selected.trunk is None:
                return way
            way.append(selected.trunk - 1)
            if len(way) > len(self.nodes) or not self.carries(*way[-2:]):
                return None

    def carries(self, a: int, b: int) -> bool:
        """Whether frames pass between two neighbours now."""
        trunk = self.trunks.get((a, b) if a < b else (b, a))
        return trunk is not None and trunk.carries and self.nodes[a].is_up and self.nodes[b].is_up

    def _follow(self, start: int, key: Key) -> None:
        """Looks for a loop behind a node whose next hop has just changed; what a dead node knew is no part of it."""
        origin, at, seen = None, start, set[int]()
        while self.nodes[at].is_up:
            selected = self.nodes[at].fabric.routes.selected(key)
            if selected is None or selected.trunk is None:
                return
            if origin is None:
                origin = selected.advert.route.origin
            elif selected.advert.route.origin != origin:
                return
            seen.add(at)
            at = selected.trunk - 1
            if at in self.liars:
                return
            if at in seen:
                self.loops += 1
                return


def size_of(message: Message) -> int:
    """The bytes of a message's record."""
    if type(message) is Routes:
        return RECORD_BYTES + 6 + ROUTE_BYTES * len(message.adverts)
    if type(message) is Want:
        return RECORD_BYTES + 4 + KEY_BYTES * (len(message.more) + len(message.less))
    return RECORD_BYTES + len(message.body())
