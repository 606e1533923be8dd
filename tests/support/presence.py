"""A mesh of presence cores alone, on a fake clock: messages as bytes, trunks that delay and keep order."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from peertap.identity.node import NodeIdentity
from peertap.mesh.presence import Message, Presences
from peertap.types import PeerId, TrunkId
from peertap.wire import control
from peertap.wire.presence import Presence
from tests.support.identities import identity

UNIX = 1_800_000_000.0
DELAY_S = 0.02
DEAD_S = 5.0  # SPEC 4.5


class Town:
    """Nodes by name; a trunk between two is known to both ends by one number."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.nodes: dict[str, Presences] = {}
        self.identities: dict[str, NodeIdentity] = {}
        self.leaves: set[str] = set()
        self.skew: dict[str, float] = {}
        self.trunks: dict[TrunkId, tuple[str, str]] = {}
        self.refused: list[tuple[str, str, str]] = []  # at, from, why
        self.said: list[tuple[float, str, str, Message]] = []
        self._numbers = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def peer(self, name: str) -> PeerId:
        return self.identities[name].peer_id

    def unix(self, name: str) -> float:
        return UNIX + self.now + self.skew.get(name, 0.0)

    def start(self, name: str, *, is_leaf: bool = False, **said: object) -> Presences:
        """A node starts, or starts again, and remembers nothing."""
        own = self.identities[name] = identity(name)
        node = self.nodes[name] = Presences(own.peer_id, own.sign, lambda _: DELAY_S, self.random.random, self.now)
        (self.leaves.add if is_leaf else self.leaves.discard)(name)
        node.describe(Presence(0, 0, is_leaf=is_leaf, relays=not is_leaf, **said), self.now, self.unix(name))  # type: ignore[arg-type]
        return node

    def link(self, a: str, b: str) -> TrunkId:
        number = TrunkId(next(self._numbers))
        self.trunks[number] = (a, b)
        for one, other in ((a, b), (b, a)):
            relays = other not in self.leaves
            self.nodes[one].add_neighbour(number, self.peer(other), self.now, self.unix(one), relays=relays)
        return number

    def cut(self, number: TrunkId, *, after_s: float = DEAD_S) -> None:
        """Nothing goes by it any more; both ends find out later."""
        ends = self.trunks.pop(number)
        nodes = [(name, self.nodes[name]) for name in ends if name in self.nodes]

        def noticed() -> None:
            for name, node in nodes:
                if self.nodes.get(name) is node:
                    node.remove_neighbour(number, self.now, self.unix(name))

        self.later(after_s, noticed)

    def kill(self, name: str) -> None:
        """A node ends without a word."""
        del self.nodes[name]
        for number in [number for number, ends in self.trunks.items() if name in ends]:
            self.cut(number)

    def later(self, after_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + after_s, next(self._numbers), do))

    def send(self, number: TrunkId, source: str, message: Message) -> None:
        """What a node says, or somebody in its place."""
        ends = self.trunks.get(number)
        if ends is None:
            return
        to = ends[1] if ends[0] == source else ends[0]
        data = control.emit(message)
        self.said.append((self.now, source, to, message))

        def arrives() -> None:
            if number in self.trunks and to in self.nodes:
                read = control.parse_untrusted(data)
                assert read == message
                why = self.nodes[to].received_untrusted(number, read, self.now, self.unix(to))  # type: ignore[arg-type]
                if why is not None:
                    self.refused.append((to, source, why))

        self.later(DELAY_S, arrives)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + seconds
        while True:
            due = min((node.next_deadline() for node in self.nodes.values()), default=float("inf"))
            if self._events:
                due = min(due, self._events[0][0])
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            for name, node in list(self.nodes.items()):
                if node.next_deadline() <= self.now:
                    node.tick(self.now, self.unix(name))
                    for number, message in list(node.take(self.now)):
                        self.send(number, name, message)

    def seen(self, name: str) -> set[str]:
        """Whom a node sees."""
        names = {own.peer_id: other for other, own in self.identities.items()}
        return {names[peer] for peer in self.nodes[name].seen(self.unix(name))}
