"""Keeping a trunk to a peer: a staggered race over its addresses, again with backoff (docs/decisions/0003)."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from peertap.config.address import PeerAddress, parse_address
from peertap.errors import ConfigError, TrunkError
from peertap.node.node import TRANSPORT_RANK
from peertap.shell.host import Connection, Host
from peertap.types import PeerId

STAGGER_S: Final = 0.3  # ours: TCP first, then the next transport while the first is still silent
DIAL_S: Final = 4.0  # ours: for one address
QUIC_DIAL_S: Final = 1.0  # ours: QUIC is last, and would wait in silence for a peer that is only starting
UPGRADE_S: Final = 30.0  # ours: how often a trunk on a dearer transport looks for a cheaper one
BACKOFF_FIRST_S: Final = 0.2  # ours: a peer that starts with us listens soon
BACKOFF_SOON_S: Final = 1.0  # ours: the most in the first minute, when both sides are likely starting
BACKOFF_MOST_S: Final = 15.0  # ours: after that
SOON_S: Final = 60.0
MAX_LEARNED: Final = 16  # ours: addresses that the peer told, beside the configured ones

_NAMES: Final = {"tcp": "tcp", "ws": "ws", "quic-v1": "quic"}


class Dialling:
    """Dials one peer until there is a trunk, again when it is gone, and for a cheaper transport now and then."""

    def __init__(
        self,
        host: Host,
        peer: PeerId,
        addresses: Sequence[PeerAddress],
        connected: Callable[[Connection], Awaitable[None]],
        failed: Callable[[PeerId, str], None],
    ) -> None:
        """Args: connected: makes a trunk of a connection, or raises TrunkError; returns when it is up."""
        self.peer: Final = peer
        self._host = host
        self._configured = tuple(addresses)
        self._learned: tuple[PeerAddress, ...] = ()
        self._connected = connected
        self._failed = failed
        self._up: list[str] = []  # transports of the trunks there are
        self._changed = trio.Event()

    def learn(self, addresses: Sequence[str]) -> None:
        """The peer told where it listens: tried after what is configured."""
        learned = []
        for text in addresses[:MAX_LEARNED]:
            try:
                address = parse_address(text)
            except ConfigError:
                continue
            if address.peer_id == self.peer:
                learned.append(address)
        self._learned = tuple(learned)

    def trunk_up(self, transport: str) -> None:
        self._up.append(transport)

    def trunk_down(self, transport: str) -> None:
        self._up.remove(transport)
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Dials for ever; cancel it to end."""
        since, backoff_s = trio.current_time(), BACKOFF_FIRST_S
        while True:
            if self._up:
                with trio.move_on_after(UPGRADE_S if self._rank() > 0 else math.inf):
                    await self._changed.wait()
                    since, backoff_s = trio.current_time(), BACKOFF_FIRST_S
                    continue
            try:
                connection = await self._race([one for one in self._ladder() if _rank(one) < self._rank()])
                if TRANSPORT_RANK[connection.transport] < self._rank():
                    await self._connected(connection)
                else:  # the peer's own dial was faster
                    await connection.close()
                continue
            except TrunkError as error:
                if self._up:
                    continue
                self._failed(self.peer, str(error))
            with trio.move_on_after(random.uniform(0.5, 1) * backoff_s):  # noqa: S311  jitter
                await self._changed.wait()
            backoff_s = min(2 * backoff_s, BACKOFF_SOON_S if trio.current_time() < since + SOON_S else BACKOFF_MOST_S)

    def _rank(self) -> int:
        """Of the cheapest transport in use; above all where there is none."""
        return min((TRANSPORT_RANK[one] for one in self._up), default=len(TRANSPORT_RANK))

    def _ladder(self) -> list[PeerAddress]:
        """Every address once, cheapest transport first, configured ones before learned."""
        concrete = [one for address in (*self._configured, *self._learned) for one in address.concrete()]
        return sorted(dict.fromkeys(concrete), key=_rank)

    async def _race(self, ladder: Sequence[PeerAddress]) -> Connection:
        """Dials all addresses, each a stagger after the one before; the first that answers wins.

        Raises: TrunkError when none does.
        """
        winner: list[Connection] = []
        failures: list[str] = []
        async with trio.open_nursery() as nursery:

            async def attempt(address: PeerAddress, over: trio.Event) -> None:
                limit_s = QUIC_DIAL_S if address.transport == "quic-v1" else DIAL_S
                try:
                    with trio.fail_after(limit_s):
                        connection = await self._host.dial(str(address), self.peer)
                except TrunkError as error:
                    failures.append(str(error))
                except trio.TooSlowError:
                    failures.append(f"{address}: no answer in {limit_s:.0f} s")
                else:
                    if winner:
                        await connection.close()
                    else:
                        winner.append(connection)
                        nursery.cancel_scope.cancel()
                over.set()

            for address in ladder:
                over = trio.Event()
                nursery.start_soon(attempt, address, over)
                with trio.move_on_after(STAGGER_S):
                    await over.wait()
        if not winner:
            raise TrunkError("; ".join(failures) or "no address to dial")
        return winner[0]


def _rank(address: PeerAddress) -> int:
    return TRANSPORT_RANK[_NAMES[address.transport or "tcp"]]
