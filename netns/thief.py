"""A relay's neighbour that draws traffic and swallows it: it repeats every token it hears as if it were next to it.

Routes are signed by members, metrics are not: what it announces is well signed, and its way seems shorter than any. It
confirms every label, takes every frame and passes on none. It runs as a process of its own in its namespace, until it
is ended: `start` starts it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import trio

from netns.namespace import Namespace
from netns.process import Process
from peertap.identity.node import parse_peer_id
from peertap.node.events import Event, MessageReceived, TrunkOpened
from peertap.node.trunk import indexes
from peertap.shell.host import TRUNK_PROTOCOL, running_host
from peertap.shell.link import Link, shake_hands
from peertap.shell.store import Store
from peertap.types import TrunkId
from peertap.wire.control import INFINITE_METRIC, Advert, Bind, Bound, Endpoints, Ping, Policy, Pong, Routes, RoutesAck
from peertap.wire.routes import KIND_UNICAST

NEXT_TO_IT: Final = 1  # the least metric
REPORT_S: Final = 1.0


class Swallowed:
    """Takes what is sent to it, and counts."""

    def __init__(self) -> None:
        self.bytes = 0

    def stream_take(self, trunk: int) -> bytes | None:
        return None

    def stream_put(self, trunk: int, batch: bytes) -> None:
        self.bytes += len(batch)

    def report(self, file: str) -> None:
        """Writes how many bytes there were."""
        Path(file).write_text(str(self.bytes))


async def _steal(order: dict[str, Any]) -> None:
    thief = Store(Path(order["state_directory"])).load_identity()
    relay, swallowed = parse_peer_id(order["relay_peer_id"]), Swallowed()
    async with running_host(thief, []) as host, trio.open_nursery() as nursery:
        connection = await host.dial(f"/ip4/{order['relay_address']}/tcp/4511/p2p/{order['relay_peer_id']}", relay)
        stream = await host.open(connection, TRUNK_PROTOCOL)
        agreed = await shake_hands(stream, thief, connection, dialled=True)

        def received(event: Event) -> None:
            match event:
                case TrunkOpened():
                    for message in (Policy(True, False), Endpoints((), ()), indexes(event.keys)):
                        link.send(message)
                case MessageReceived(_, Ping(number)):
                    link.send(Pong(number))
                case MessageReceived(_, Bind() as bind):
                    link.send(Bound(bind.label))
                case MessageReceived(_, Routes(batch, adverts)):
                    link.send(RoutesAck(batch))
                    stolen = tuple(
                        Advert(advert.route, NEXT_TO_IT, advert.path_mtu)
                        for advert in adverts
                        if advert.route.kind == KIND_UNICAST and advert.metric < INFINITE_METRIC
                    )
                    if stolen:
                        link.send(Routes(batch, stolen))

        link = Link(TrunkId(1), connection, stream, agreed, thief, received, swallowed, dialled=True, report=print)
        nursery.start_soon(link.run, host)
        while True:
            await trio.sleep(REPORT_S)
            swallowed.report(order["report"])


def start(
    machine: Namespace, *, relay_address: str, relay_peer_id: str, state_directory: Path, report: Path
) -> Process:
    """Starts it. Args: report: a file for the number of bytes that it swallowed."""
    order = {
        "relay_address": relay_address, "relay_peer_id": relay_peer_id, "state_directory": str(state_directory),
        "report": str(report),
    }  # fmt: skip
    return machine.start("thief", sys.executable, "-m", "netns.thief", json.dumps(order))


if __name__ == "__main__":
    trio.run(_steal, json.loads(sys.argv[1]))
    os._exit(0)
