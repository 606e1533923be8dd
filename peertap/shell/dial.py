"""Dialling whom the book of peers wants: a staggered race over a peer's addresses (docs/decisions/0003)."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Final

import trio

from peertap.config.address import PeerAddress
from peertap.errors import TrunkError
from peertap.mesh.book import Dial, PeerBook, Source
from peertap.node.neighbours import TRANSPORT_RANK
from peertap.shell.host import Connection, Host
from peertap.shell.ladder import ladder, parsed, rank
from peertap.types import PeerId

STAGGER_S: Final = 0.3  # ours: RFC 8305 has 0.25, between two addresses of one transport
DEARER_S: Final = 1.0  # ours: before a dearer transport is dialled, too: on a busy machine TCP takes over 0.3 s
DIAL_S: Final = 4.0  # ours: for one address
QUICK_DIAL_S: Final = 2.0  # ours: for a neighbour that was there until just now; SYNs leave at 0 and 1 s
QUIC_DIAL_S: Final = 1.0  # ours: QUIC is last, and would wait in silence for a peer that is only starting
AGAIN_S: Final = 1.0  # ours: for the cheapest transport, tried afresh
UPGRADE_S: Final = 30.0  # ours: how often a trunk on a dearer transport looks for a cheaper one


class Dialler:
    """Dials for ever whom the book wants, and for a cheaper transport now and then."""

    def __init__(
        self,
        host: Host,
        me: PeerId,
        connected: Callable[[Connection], Awaitable[None]],
        failed: Callable[[PeerId, str], None],
    ) -> None:
        """Args: connected: makes a trunk of a connection, or raises TrunkError; returns when it is up."""
        self.book: Final = PeerBook(me, random.random)
        self._host = host
        self._connected = connected
        self._failed = failed
        self._up: dict[PeerId, list[str]] = {}  # transports of the trunks there are
        self._upgrade_at: dict[PeerId, float] = {}  # peers on a dearer one
        self._changed = trio.Event()

    # What is told

    def learn(self, source: Source, peer: PeerId, addresses: Sequence[str]) -> None:
        """Somebody told where a peer listens."""
        self.book.learn(source, peer, [str(one) for one in _of(peer, addresses)], time.monotonic())
        self.wake()

    def choose(self, relays: Mapping[PeerId, Sequence[str]]) -> None:
        """All whom trunk keeping chose."""
        self.replace(Source.CHOSEN, {peer: _of(peer, texts) for peer, texts in relays.items()})

    def replace(self, source: Source, peers: Mapping[PeerId, Sequence[PeerAddress]]) -> None:
        """All that a source tells."""
        texts = {peer: [str(one) for one in addresses] for peer, addresses in peers.items()}
        self.book.replace(source, texts, time.monotonic())
        self.wake()

    def trunk_up(self, peer: PeerId, transport: str, address: str | None) -> None:
        """Args: address: where we dialled it; None: it dialled us."""
        self._up.setdefault(peer, []).append(transport)
        self.book.reached(peer, address, time.monotonic())
        self._plan_upgrade(peer)

    def trunk_down(self, peer: PeerId, transport: str) -> None:
        self._up[peer].remove(transport)
        if not self._up[peer]:
            del self._up[peer]
        self.book.lost(peer, time.monotonic())
        self._plan_upgrade(peer)

    def wake(self) -> None:
        """The book has changed."""
        self._changed.set()

    # What follows

    async def run(self) -> None:
        """Dials until it is cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                now = time.monotonic()
                for dial in self.book.wanted(now):
                    nursery.start_soon(self._attempt, dial)
                for peer in [one for one, due_at in self._upgrade_at.items() if due_at <= now]:
                    self._upgrade_at[peer] = float("inf")  # until it is over
                    nursery.start_soon(self._upgrade, peer)
                due_at = min(self.book.next_deadline(now), *self._upgrade_at.values(), float("inf"))
                with trio.move_on_after(max(0.0, due_at - time.monotonic())):
                    await self._changed.wait()

    async def _attempt(self, dial: Dial) -> None:
        with self._over(dial.peer):
            rungs = ladder(dial.addresses)
            try:
                if dial.is_quick:
                    connection = await self._race(dial.peer, ladder(dial.addresses[:1])[:1], QUICK_DIAL_S)
                else:
                    connection = await self._race(dial.peer, rungs, DIAL_S, dial.worked)
                await self._take(connection)
            except TrunkError as error:
                if dial.peer not in self._up:
                    self.book.failed(dial.peer, time.monotonic(), is_quick=dial.is_quick)
                    self._failed(dial.peer, str(error))

    async def _upgrade(self, peer: PeerId) -> None:
        cheaper = [one for one in ladder(self.book.addresses(peer)) if rank(one) < self._rank(peer)]
        try:
            if cheaper:
                await self._take(await self._race(peer, cheaper, DIAL_S))
        except TrunkError:
            pass
        self._plan_upgrade(peer)

    async def _rather(self, address: PeerAddress, instead: Connection) -> Connection:
        """A dearer transport was faster than the cheapest: that one's try may be from before the peer was there."""
        connection = None
        with trio.move_on_after(AGAIN_S):
            try:
                connection = await self._host.dial(str(address), instead.peer)
            except TrunkError:
                pass
        if connection is None:
            return instead
        await instead.close()
        return connection

    async def _take(self, connection: Connection) -> None:
        if self._rank_of(connection) < self._rank(connection.peer):
            await self._connected(connection)
        else:  # the peer's own dial was faster
            await connection.close()

    @contextmanager
    def _over(self, peer: PeerId) -> Iterator[None]:
        try:
            yield
        finally:
            self.book.ended(peer)
            self.wake()

    def _plan_upgrade(self, peer: PeerId) -> None:
        """A trunk on a dearer transport than there is an address for looks for that one later."""
        if peer in self._up and self._rank(peer) > 0:
            self._upgrade_at[peer] = time.monotonic() + UPGRADE_S
        else:
            self._upgrade_at.pop(peer, None)
        self.wake()

    @staticmethod
    def _rank_of(connection: Connection) -> int:
        return TRANSPORT_RANK[connection.transport]

    def _rank(self, peer: PeerId) -> int:
        """Of the cheapest transport in use; above all where there is none."""
        return min((TRANSPORT_RANK[one] for one in self._up.get(peer, ())), default=len(TRANSPORT_RANK))

    async def _race(
        self, peer: PeerId, rungs: Sequence[PeerAddress], limit_s: float, worked: str | None = None
    ) -> Connection:
        """The first of these addresses that answers.

        Args: worked: the address that did last.

        Raises: TrunkError: none does.
        """
        winner: list[Connection] = []
        failures: dict[PeerAddress, str] = {}
        async with trio.open_nursery() as nursery:

            async def attempt(address: PeerAddress, over: trio.Event) -> None:
                most_s = min(limit_s, QUIC_DIAL_S) if address.transport == "quic-v1" else limit_s
                try:
                    with trio.fail_after(most_s):
                        connection = await self._host.dial(str(address), peer)
                except TrunkError as error:
                    failures[address] = str(error)
                except trio.TooSlowError:
                    failures[address] = f"{address}: no answer in {most_s:.0f} s"
                else:
                    if winner:
                        await connection.close()
                    else:
                        winner.append(connection)
                        nursery.cancel_scope.cancel()
                over.set()

            for address, following in zip_longest(rungs, rungs[1:]):
                over = trio.Event()
                nursery.start_soon(attempt, address, over)
                is_next_dearer = following is not None and rank(following) > rank(address)
                with trio.move_on_after(DEARER_S if is_next_dearer else STAGGER_S):
                    await over.wait()
        if not winner:
            raise TrunkError("; ".join(failures.values()) or "no address to dial")
        best = rungs[0]
        if rank(best) < self._rank_of(winner[0]) and (best in failures or str(best) == worked):
            return await self._rather(best, winner[0])
        return winner[0]


def _of(peer: PeerId, texts: Iterable[str]) -> list[PeerAddress]:
    """Those that can be dialled, and are that peer's."""
    return [one for one in parsed(texts) if one.peer_id == peer]
