"""The rendezvous over libp2p streams: serving it, and asking those who do (SPEC 12.3).

py-libp2p has a Kademlia DHT; docs/decisions/0020 says why this is not it. What concerns a circle is asked under an
identity that is thrown away after the lookup: those who serve learn an IP address, never a peer ID.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

import trio
from libp2p.custom_types import TProtocol

from peertap.config.address import PeerAddress
from peertap.errors import DecodeError, TrunkError
from peertap.identity.node import NodeIdentity
from peertap.mesh.dht import Lookup, Records, Servers
from peertap.shell.host import Connection, Host, Stream, running_host
from peertap.shell.ladder import ladder, parsed
from peertap.types import PeerId
from peertap.wire.codec import lp
from peertap.wire.rendezvous import MAX_MESSAGE_BYTES, MAX_NODES, Kind, Question, Record, Reply

PROTOCOL: Final = TProtocol("/peertap/rendezvous/1")  # SPEC 12.3
QUESTION_S: Final = 5.0  # ours: one question, from its first byte to the end of the answer
DIAL_S: Final = 3.0  # ours: for one address of a serving node
MAX_SERVED_AT_ONCE: Final = 16  # ours: the rest is turned away; who asks tries the next node
MAX_TRIED: Final = 4  # ours: addresses of a serving node; the next node may answer sooner
RATE_S: Final = 10.0  # ours
MAX_QUESTIONS_PER_SOURCE: Final = 60  # ours: in RATE_S; a node of 16 VLANs that starts asks less
MAX_CHECKS: Final = 4  # ours: dials back to nodes that say that they serve
MAX_SOURCES: Final = 4096  # ours: counted in RATE_S; above it all count as one

Node = tuple[PeerId, tuple[str, ...]]


class Rendezvous:
    """One node's part in it."""

    def __init__(self, host: Host, identity: NodeIdentity, *, serves: Sequence[str]) -> None:
        """Args: serves: multiaddrs where we serve others; empty: we do not."""
        self.servers: Final = Servers(identity.peer_id)
        self.records: Final = Records()
        self.serves: Final = tuple(serves[:MAX_NODES])
        self.refused = 0  # questions
        self._host = host
        self._identity = identity
        self._serving = 0
        self._rates: Counter[str] = Counter()
        self._rates_since = time.monotonic()
        self._checks = trio.CapacityLimiter(MAX_CHECKS)

    # Serving

    async def serve(self, connection: Connection, stream: Stream) -> None:
        """Answers the question on a stream that somebody opened."""
        source = connection.host or ""
        serves: tuple[str, ...] = ()
        if not self.serves or self._serving >= MAX_SERVED_AT_ONCE or not self._may_ask(source):
            self.refused += 1
            await stream.close()
            return
        self._serving += 1
        try:
            with trio.move_on_after(QUESTION_S):
                question = Question.parse_untrusted(await _read(stream))
                await stream.write(lp(self._reply(question, source).emit()))
                serves = question.serves
        except (TrunkError, DecodeError):
            self.refused += 1
        finally:
            self._serving -= 1
            await stream.close()
        if serves:
            await self._check(connection.peer, source, serves)

    def _reply(self, question: Question, source: str) -> Reply:
        now = time.monotonic()
        record, kept = question.record, False
        if question.kind is Kind.PUT and record is not None:
            kept = self.records.put(record, source, now, time.time())
        found = [] if question.serves else self.records.get(question.key, now)
        return Reply(kept, self.servers.told(question.key), tuple(found))

    def _may_ask(self, source: str) -> bool:
        now = time.monotonic()
        if now >= self._rates_since + RATE_S:
            self._rates.clear()
            self._rates_since = now
        name = source if source in self._rates or len(self._rates) < MAX_SOURCES else ""
        self._rates[name] += 1
        return self._rates[name] <= MAX_QUESTIONS_PER_SOURCE

    async def _check(self, peer: PeerId, source: str, serves: Sequence[str]) -> None:
        """Whoever says that it serves is believed once it answers there, at the address that it came from."""
        there = [one for one in parsed(serves) if one.peer_id == peer and one.host == source]
        if not there or self._checks.borrowed_tokens >= MAX_CHECKS:
            return
        async with self._checks:
            await self._ask(self._host, (peer, tuple(map(str, there))), Question(Kind.FIND, bytes(32)))

    # Asking

    def learn(self, addresses: Sequence[str]) -> None:
        """Somebody told of nodes that serve: multiaddrs."""
        by_peer: dict[PeerId, list[str]] = {}
        for one in parsed(addresses[:MAX_NODES]):
            by_peer.setdefault(one.peer_id, []).append(str(one))
        for peer, texts in by_peer.items():
            self.servers.heard(peer, texts)

    async def announce(self) -> int:
        """A serving node makes itself known to those near it; says how many answered."""
        lookup = await self._look(self._host, Lookup(bytes(32), self.servers.nearest(bytes(32))), self.serves)
        return len(lookup.nearest())

    async def look(self, key: bytes, record: Record | None) -> tuple[list[Record], int]:
        """What is kept under a key of a circle, and how many nodes keep our own record there, if there is one.

        Raises:
            DeviceError: this machine can open no connection.
        """
        start, kept = self.servers.nearest(key), 0
        if not start:
            return [], 0

        async def put(node: Node) -> None:
            nonlocal kept
            reply = await self._ask(host, node, Question(Kind.PUT, key, record=record))
            kept += reply is not None and reply.kept

        async with running_host(NodeIdentity(os.urandom(32)), []) as host:
            lookup = await self._look(host, Lookup(key, start), ())
            if record is not None:
                async with trio.open_nursery() as nursery:
                    for node in lookup.nearest():
                        nursery.start_soon(put, node)
        return list(lookup.records.values()), kept

    async def _look(self, host: Host, lookup: Lookup, serves: tuple[str, ...]) -> Lookup:
        asking, changed = 0, trio.Event()

        async def ask(node: Node) -> None:
            nonlocal asking
            reply = await self._ask(host, node, Question(Kind.FIND, lookup.key, serves))
            if reply is None:
                lookup.failed(node[0])
            else:
                records = [one for one in reply.records if one.key == lookup.key and one.is_signed()]
                lookup.answered(node[0], _by_peer(reply.nodes, is_local=_is_local(node)), records)
            asking -= 1
            changed.set()

        async with trio.open_nursery() as nursery:
            while True:
                while (node := lookup.next()) is not None:
                    asking += 1
                    nursery.start_soon(ask, node)
                if not asking:
                    return lookup
                await changed.wait()
                changed = trio.Event()

    async def _ask(self, host: Host, node: Node, question: Question) -> Reply | None:
        """What a node answers; None: nothing that makes sense."""
        peer, addresses = node
        if peer == self._identity.peer_id:
            return None
        for address in ladder(addresses)[:MAX_TRIED]:
            connection = None
            try:
                with trio.fail_after(DIAL_S):
                    connection = await host.dial(str(address), peer)
                with trio.fail_after(QUESTION_S):
                    stream = await host.open(connection, PROTOCOL)
                    try:
                        await stream.write(lp(question.emit()))
                        reply = Reply.parse_untrusted(await _read(stream))
                    finally:
                        await stream.close()
            except (TrunkError, DecodeError, trio.TooSlowError):
                continue
            else:
                self.servers.answered(peer, str(address))
                return reply
            finally:
                if connection is not None:
                    with trio.CancelScope(shield=True):
                        await connection.close()
        self.servers.failed(peer)
        return None


async def _read(stream: Stream) -> bytes:
    """One message. Raises TrunkError, DecodeError."""
    size = int.from_bytes(await stream.read_exactly(2), "big")
    if size > MAX_MESSAGE_BYTES:
        raise DecodeError(f"rendezvous: a message of {size} bytes, at most {MAX_MESSAGE_BYTES} are allowed")
    return await stream.read_exactly(size)


def _by_peer(texts: Sequence[str], *, is_local: bool) -> list[Node]:
    """Args: is_local: who tells is on this machine; nobody else sends us to its own services."""
    found: dict[PeerId, tuple[str, ...]] = {}
    for one in parsed(texts):
        if is_local or not _is_loopback(one):
            found[one.peer_id] = (*found.get(one.peer_id, ()), str(one))
    return list(found.items())


def _is_local(node: Node) -> bool:
    return any(map(_is_loopback, parsed(node[1])))


def _is_loopback(address: PeerAddress) -> bool:
    return not address.family.startswith("dns") and ip_address(address.host).is_loopback
