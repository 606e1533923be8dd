"""A trunk to a relay with no node behind it: for processes that say what no node would."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from peertap.identity.node import NodeIdentity, parse_peer_id
from peertap.node.events import Event, MessageReceived
from peertap.shell.host import TRUNK_PROTOCOL, running_host
from peertap.shell.link import FrameCarrier, Link, shake_hands
from peertap.shell.store import Store
from peertap.types import TrunkId
from peertap.wire.control import Ping, Pong, Routes, RoutesAck


class NoFrames:
    """No frame leaves; what comes is counted."""

    def __init__(self) -> None:
        self.bytes = 0

    def stream_take(self, trunk: int) -> bytes | None:
        return None

    def stream_put(self, trunk: int, batch: bytes) -> None:
        """Nobody listens."""
        self.bytes += len(batch)


def identity_of(order: dict[str, Any]) -> NodeIdentity:
    """Whose trunk it is."""
    return Store(Path(order["state_directory"])).load_identity()


@asynccontextmanager
async def trunk_to_relay(
    order: dict[str, Any], heard: Callable[[Link, Event], None], frames: FrameCarrier
) -> AsyncGenerator[Link, None]:
    """A trunk to the relay that `order` names (relay_address, relay_peer_id, state_directory), which stays alive.

    Args:
        heard: is told of every event; pings are answered and batches acknowledged already.
    """
    identity, relay = identity_of(order), parse_peer_id(order["relay_peer_id"])
    async with running_host(identity, []) as host, trio.open_nursery() as nursery:
        connection = await host.dial(f"/ip4/{order['relay_address']}/tcp/4511/p2p/{order['relay_peer_id']}", relay)
        stream = await host.open(connection, TRUNK_PROTOCOL)
        agreed = await shake_hands(stream, identity, connection, dialled=True)

        def received(event: Event) -> None:
            match event:
                case MessageReceived(_, Ping(number)):
                    link.send(Pong(number))
                case MessageReceived(_, Routes(batch, _)):
                    link.send(RoutesAck(batch))
            heard(link, event)

        link = Link(TrunkId(1), connection, stream, agreed, identity, received, frames, dialled=True, report=print)
        nursery.start_soon(link.run, host)
        yield link
        nursery.cancel_scope.cancel()
