"""A mesh of route tables with links that delay, on a simulated clock."""

import heapq
import itertools
import random
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peertap.mesh.audience import Key
from peertap.mesh.routes import RouteTable
from peertap.types import Token, TrunkId
from peertap.wire.control import Message, Routes, RoutesAck, SequenceRequest
from peertap.wire.routes import KIND_UNICAST, Origin, SignedRoute, vtag_of

NOW_UNIX = 1_800_000_000.0
ROUTE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = ROUTE_KEY.public_key().public_bytes_raw()
VTAG = vtag_of(PUBLIC)
TOKEN = b"t" * 16
KEY = (VTAG, Token(TOKEN))
ORIGIN = Origin(128, 1000, b"o" * 9)
ONE, TWO, THREE = TrunkId(1), TrunkId(2), TrunkId(3)


def signed(token: bytes, origin: Origin, sequence: int, kind: int = KIND_UNICAST) -> SignedRoute:
    fields = (PUBLIC, kind, Token(token), origin, sequence, int(NOW_UNIX) + 1000)
    return SignedRoute(*fields, signature=ROUTE_KEY.sign(SignedRoute.unsigned(*fields)))


def table() -> RouteTable:
    """A node with three neighbours."""
    made = RouteTable()
    for trunk in (ONE, TWO, THREE):
        made.add_neighbour(trunk, cost=16, mtu=1400)
    return made


class RouteMesh:
    """Nodes 0 … n-1; a link is two trunk ids, `a * 1000 + b` at node a towards node b."""

    def __init__(self, nodes: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.tables = [RouteTable() for _ in range(nodes)]
        self.links: set[tuple[int, int]] = set()
        self.now = 0.0
        self.sequence = [0] * nodes
        self.quiet_until = 0.0  # what is asked for in vain is asked for ever: enough of it
        self._wire: list[tuple[float, int, int, int, Message]] = []
        self._order = itertools.count()
        self._last: dict[tuple[int, int], float] = {}

    @staticmethod
    def trunk(node: int, to: int) -> TrunkId:
        return TrunkId(node * 1000 + to)

    def connect(self, a: int, b: int, cost: int = 16) -> None:
        self.links |= {(a, b), (b, a)}
        for node, to in ((a, b), (b, a)):
            self.tables[node].add_neighbour(self.trunk(node, to), cost=cost, mtu=1400)
            self._flush(node)

    def cut(self, a: int, b: int) -> None:
        self.links -= {(a, b), (b, a)}
        self._wire = [one for one in self._wire if {one[2], one[3]} != {a, b}]
        heapq.heapify(self._wire)
        for node, to in ((a, b), (b, a)):
            self._ask(node, self.tables[node].remove_neighbour(self.trunk(node, to), self.now))
            self._flush(node)

    def set_cost(self, node: int, to: int, cost: int) -> None:
        """One end of a link measures another round trip."""
        self._ask(node, self.tables[node].set_cost(self.trunk(node, to), cost, self.now))
        self._flush(node)

    def announce(self, node: int, token: bytes, origin: Origin, kind: int = KIND_UNICAST) -> None:
        self.sequence[node] += 1
        self.tables[node].own(signed(token, origin, self.sequence[node], kind), self.now)
        self._flush(node)

    def step(self) -> bool:
        """Delivers the next message, or lets a table ask again; returns whether there was anything."""
        dues = [
            (one(), node)
            for node, table in enumerate(self.tables)
            for one in (table.next_deadline, table.next_batch_at)
        ]
        asks = [(at, node) for at, node in dues if at is not None]
        if asks and (not self._wire or min(asks)[0] <= self._wire[0][0]):
            at, node = min(asks)
            if not self._wire and at > self.quiet_until:
                return False
            self.now = max(self.now, at)
            self._ask(node, self.tables[node].tick(self.now))
            self._flush(node)
            return True
        if not self._wire:
            return False
        self.quiet_until = self._wire[0][0] + 5
        self.now, _, source, node, message = heapq.heappop(self._wire)
        table, trunk = self.tables[node], self.trunk(node, source)
        match message:
            case Routes():
                self._send(node, source, RoutesAck(message.batch))
                self._ask(node, table.received_untrusted(trunk, message.adverts, self.now, NOW_UNIX)[0])
            case RoutesAck():
                table.acknowledged(trunk, message.batch, self.now)
            case SequenceRequest():
                self._requested(node, trunk, message)
        self._flush(node)
        return True

    def next_hop(self, node: int, key: Key) -> int | None:
        selected = self.tables[node].selected(key)
        return None if selected is None or selected.trunk is None else selected.trunk % 1000

    def loops(self, key: Key) -> list[int]:
        """A node from which following next hops comes back to itself, for the same origin; empty: none."""
        for start in range(len(self.tables)):
            seen, node = [start], start
            selected = self.tables[start].selected(key)
            if selected is None:
                continue
            origin = selected.advert.route.origin
            while (hop := self.next_hop(node, key)) is not None:
                there = self.tables[hop].selected(key)
                if there is None or there.advert.route.origin != origin:
                    break
                if hop in seen:
                    return [*seen, hop]
                seen.append(hop)
                node = hop
        return []

    def loops_with_backups(self, key: Key) -> list[int]:
        """A ring of nodes around which frames could go, each by its route or any alternative; empty: there is none."""
        ways: dict[int, list[int]] = {}
        for node, table in enumerate(self.tables):
            selected = table.selected(key)
            if selected is not None and selected.trunk is not None:
                hops = [selected.trunk, *(one.trunk for one in table.alternatives(key) if one.trunk is not None)]
                there = ((hop % 1000, self.tables[hop % 1000].selected(key)) for hop in hops)
                origin = selected.advert.route.origin
                ways[node] = [hop for hop, used in there if used is not None and used.advert.route.origin == origin]
        done: set[int] = set()
        for start, first in ways.items():
            path, todo = [start], [iter(first)]
            while todo:
                hop = next(todo[-1], None)
                if hop is None:
                    done.add(path.pop())
                    todo.pop()
                elif hop in path:
                    return [*path, hop]
                elif hop in ways and hop not in done:
                    path.append(hop)
                    todo.append(iter(ways[hop]))
        return []

    def reachable(self, start: int) -> set[int]:
        found, todo = {start}, [start]
        while todo:
            node = todo.pop()
            for a, b in self.links:
                if a == node and b not in found:
                    found.add(b)
                    todo.append(b)
        return found

    def neighbours(self, node: int) -> Iterator[int]:
        return (b for a, b in self.links if a == node)

    def _requested(self, node: int, trunk: TrunkId, request: SequenceRequest) -> None:
        table = self.tables[node]
        answer, onward = table.requested(trunk, request, self.now)
        if answer == "own":
            selected = table.selected((request.vtag, request.token))
            assert selected is not None
            self.sequence[node] += 1
            route = selected.advert.route
            table.own(signed(request.token, route.origin, self.sequence[node], route.kind), self.now)
        elif onward is not None:
            passed = SequenceRequest(request.vtag, request.token, request.origin, request.sequence, request.hops - 1)
            self._send(node, onward % 1000, passed)

    def _ask(self, node: int, requests: list[tuple[TrunkId, SequenceRequest]]) -> None:
        for trunk, request in requests:
            self._send(node, trunk % 1000, request)

    def _flush(self, node: int) -> None:
        for trunk, batch in self.tables[node].batches(self.now):
            self._send(node, trunk % 1000, batch)

    def _send(self, source: int, to: int, message: Message) -> None:
        if (source, to) not in self.links:
            return
        at = max(self.now + self.random.uniform(0.001, 0.2), self._last.get((source, to), 0.0))  # in order, as a trunk
        self._last[source, to] = at
        heapq.heappush(self._wire, (at, next(self._order), source, to, message))
