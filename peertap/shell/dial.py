"""Keeping a trunk to a peer: a staggered race over its addresses, again with backoff (docs/decisions/0003)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from peertap.config.address import PeerAddress, parse_address
from peertap.errors import ConfigError, TrunkError
from peertap.shell.host import Connection, Host
from peertap.types import PeerId

STAGGER_S: Final = 0.3  # ours: TCP first, then the next transport while the first is still silent
DIAL_S: Final = 4.0  # ours: for one address
BACKOFF_FIRST_S: Final = 0.2  # ours: a peer that starts with us listens soon
BACKOFF_SOON_S: Final = 1.0  # ours: the most in the first minute, when both sides are likely starting
BACKOFF_MOST_S: Final = 15.0  # ours: after that
SOON_S: Final = 60.0
MAX_LEARNED: Final = 16  # ours: addresses that the peer told, beside the configured ones

# ours: TCP carries frames when UDP does not, and notices a dead peer; QUIC does neither (docs/decisions/0003)
_ORDER: Final = {"tcp": 0, "ws": 1, "quic-v1": 2}


class Dialling:
    """Dials one peer until there is a trunk, and again when it is gone."""

    def __init__(
        self,
        host: Host,
        peer: PeerId,
        addresses: Sequence[PeerAddress],
        connected: Callable[[Connection], Awaitable[None]],
        failed: Callable[[PeerId, str], None],
    ) -> None:
        self.peer: Final = peer
        self._host = host
        self._configured = tuple(addresses)
        self._learned: tuple[PeerAddress, ...] = ()
        self._connected = connected
        self._failed = failed
        self._up = 0
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

    def trunk_up(self) -> None:
        self._up += 1

    def trunk_down(self) -> None:
        self._up -= 1
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Dials for ever; cancel it to end."""
        since, backoff_s = trio.current_time(), BACKOFF_FIRST_S
        while True:
            while self._up > 0:
                await self._changed.wait()
                since, backoff_s = trio.current_time(), BACKOFF_FIRST_S
            try:
                connection = await self._race()
            except TrunkError as error:
                self._failed(self.peer, str(error))
            else:
                if self._up == 0:  # else the peer's own dial was faster
                    await self._connected(connection)  # runs the trunk until it ends
                else:
                    await connection.close()
                    continue
            most = BACKOFF_SOON_S if trio.current_time() < since + SOON_S else BACKOFF_MOST_S
            with trio.move_on_after(random.uniform(0.5, 1) * backoff_s):  # noqa: S311  jitter
                if self._up == 0:
                    await self._changed.wait()
            backoff_s = min(2 * backoff_s, most)

    def _ladder(self) -> list[PeerAddress]:
        """Every address once, cheapest transport first, configured ones before learned."""
        concrete = [one for address in (*self._configured, *self._learned) for one in address.concrete()]
        unique = dict.fromkeys(concrete)
        return sorted(unique, key=lambda one: _ORDER[one.transport or "tcp"])

    async def _race(self) -> Connection:
        """Dials all addresses, each a stagger after the one before; the first that answers wins.

        Raises: TrunkError when none does.
        """
        winner: list[Connection] = []
        failures: list[str] = []
        ladder = self._ladder()
        async with trio.open_nursery() as nursery:
            next_may_start = trio.Event()

            async def attempt(address: PeerAddress, started: trio.Event) -> None:
                try:
                    with trio.fail_after(DIAL_S):
                        connection = await self._host.dial(str(address), self.peer)
                except TrunkError as error:
                    failures.append(str(error))
                    started.set()
                    return
                except trio.TooSlowError:
                    failures.append(f"{address}: no answer in {DIAL_S:.0f} s")
                    return
                if winner:
                    await connection.close()
                    return
                winner.append(connection)
                nursery.cancel_scope.cancel()

            for address in ladder:
                next_may_start = trio.Event()
                nursery.start_soon(attempt, address, next_may_start)
                with trio.move_on_after(STAGGER_S):
                    await next_may_start.wait()
        if not winner:
            raise TrunkError("; ".join(failures) or "no address to dial")
        return winner[0]
