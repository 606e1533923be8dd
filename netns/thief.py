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
from netns.stranger import NoFrames, trunk_to_relay
from peertap.node.events import Event, MessageReceived, TrunkOpened
from peertap.node.trunk import indexes
from peertap.shell.link import Link
from peertap.wire.control import INFINITE_METRIC, Advert, Bind, Bound, Endpoints, Policy, Routes
from peertap.wire.routes import KIND_UNICAST

NEXT_TO_IT: Final = 1  # the least metric
REPORT_S: Final = 1.0


async def _steal(order: dict[str, Any]) -> None:
    swallowed = NoFrames()

    def received(link: Link, event: Event) -> None:
        match event:
            case TrunkOpened():
                for message in (Policy(True, False), Endpoints((), ()), indexes(event.keys)):
                    link.send(message)
            case MessageReceived(_, Bind() as bind):
                link.send(Bound(bind.label))
            case MessageReceived(_, Routes(batch, adverts)):
                stolen = tuple(
                    Advert(advert.route, NEXT_TO_IT, advert.path_mtu)
                    for advert in adverts
                    if advert.route.kind == KIND_UNICAST and advert.metric < INFINITE_METRIC
                )
                if stolen:
                    link.send(Routes(batch, stolen))

    async with trunk_to_relay(order, received, swallowed):
        while True:
            await trio.sleep(REPORT_S)
            _report(order["report"], swallowed.bytes)


def _report(file: str, count: int) -> None:
    Path(file).write_text(str(count))


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
