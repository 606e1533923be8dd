"""The race over a peer's addresses: which connection makes the trunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from peertap.errors import TrunkError
from peertap.identity.node import format_peer_id
from peertap.mesh.book import Source
from peertap.shell.dial import AGAIN_S, DEARER_S, STAGGER_S, Dialler
from peertap.types import PeerId
from tests.support.identities import identity

PEER, ME = identity("b").peer_id, identity("a").peer_id


@dataclass
class Made:
    """A connection as the dialler sees it."""

    transport: str
    peer: PeerId = PEER
    is_closed: bool = False

    async def close(self) -> None:
        self.is_closed = True


@dataclass
class Network:
    """`tcp`: what a dial by TCP meets, by its number; the others answer at once once the peer is there."""

    tcp: Callable[[int], str]
    there_s: float = 0.0
    dialled: list[tuple[float, str]] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    taken_at: float = 0.0

    async def dial(self, address: str, _peer: PeerId) -> Made:
        transport = next(one for one in ("ws", "quic", "tcp") if one in address)
        self.dialled.append((trio.current_time(), transport))
        if transport == "tcp":
            match self.tcp(sum(one == "tcp" for _, one in self.dialled)):
                case "refused":
                    raise TrunkError("refused")
                case "silence":
                    await trio.sleep_forever()
        elif trio.current_time() < self.there_s:
            await trio.sleep_until(self.there_s)
        self.made.append(Made(transport))
        return self.made[-1]


def taken(network: Network, *, worked: bool = False, ways: Sequence[str] = ("tcp/4511", "tcp/4512/ws")) -> Made:
    """Which connection the first dial led to; the others are closed."""
    connected: list[Made] = []

    async def main() -> None:
        began = trio.current_time()
        network.there_s += began

        async def take(connection: Any) -> None:
            connected.append(connection)
            network.taken_at = trio.current_time()
            scope.cancel()

        dialler = Dialler(network, ME, take, lambda *_: None)  # type: ignore[arg-type]
        dialler.book.learn(Source.CONFIGURED, PEER, [address(way) for way in ways], 0.0)
        if worked:
            dialler.book.reached(PEER, address(ways[0]), 0.0)
            dialler.book.lost(PEER, 0.0)
        with trio.move_on_after(6) as scope:
            await dialler.run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(connected) >= 1
    assert all(one.is_closed for one in network.made if one not in connected)
    return connected[0]


def address(way: str) -> str:
    return f"/ip4/192.0.2.1/{way}/p2p/{format_peer_id(PEER)}"


def test_a_peer_that_was_starting_gets_the_cheapest_transport_though_a_dearer_one_was_faster() -> None:
    network = Network(lambda number: "refused" if number == 1 else "answers", there_s=0.5)
    assert taken(network, worked=False).transport == "tcp"


def test_after_a_cut_the_transport_that_worked_is_tried_afresh_and_the_old_try_is_not_waited_for() -> None:
    network = Network(lambda number: "silence" if number == 1 else "answers", there_s=0.5)
    assert taken(network, worked=True).transport == "tcp"


def test_a_transport_that_is_blocked_delays_the_others_by_no_more_than_two_seconds() -> None:
    network = Network(lambda _: "silence")
    assert taken(network, worked=True).transport == "ws"
    assert network.taken_at - network.dialled[0][0] == pytest.approx(DEARER_S + AGAIN_S)
    assert DEARER_S + AGAIN_S <= 2


def test_where_it_never_worked_silence_is_not_asked_again() -> None:
    network = Network(lambda _: "silence")
    assert taken(network, worked=False).transport == "ws"
    assert [transport for _, transport in network.dialled[:2]] == ["tcp", "ws"]


def test_silent_addresses_of_one_transport_delay_one_that_answers_by_little() -> None:
    """A second for each of a peer's unreachable addresses, where only a dearer transport is to wait for so long."""
    network = Network(lambda number: "silence" if number <= 4 else "answers")
    assert taken(network, ways=[f"tcp/{4511 + number}" for number in range(5)]).transport == "tcp"
    assert network.taken_at - network.dialled[0][0] == pytest.approx(4 * STAGGER_S)
