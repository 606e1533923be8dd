"""A neighbour of a relay that sends it updates which it must refuse: it has a trunk like any other, and no node behind.

It runs as a process of its own in its namespace: `send_updates` starts it. With the controller's key it makes what
somebody could have recorded: an old update, one for another relay; with its own, what a forger can make.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import trio

from netns.adversary import run
from netns.namespace import Namespace
from netns.stranger import NoFrames, identity_of, trunk_to_relay
from peertap.identity.node import NodeIdentity, parse_peer_id
from peertap.node.events import Event, MessageReceived
from peertap.shell.link import Link
from peertap.shell.store import Store
from peertap.types import PeerId
from peertap.wire.control import Policy
from peertap.wire.relay import Change, Outcome, RelayResult, RelayUpdate, Verdict

WITHIN_S: Final = 10.0


def forgeries(order: dict[str, Any], forger: NodeIdentity, controller: NodeIdentity) -> list[RelayUpdate]:
    """All that must change nothing."""
    relay, other = parse_peer_id(order["relay_peer_id"]), parse_peer_id(order["other_relay"])
    changes = (Change(Verdict.ALLOW, order["vlan_id"]),)
    old, later = order["sequence"], order["sequence"] + 86_400_000

    def made(by: NodeIdentity, to: PeerId, sequence: int, what: tuple[Change, ...] = changes) -> RelayUpdate:
        unsigned = RelayUpdate(to, controller.peer_id, sequence, what, b"")
        return _with(unsigned, signature=by.sign(unsigned.signed_part()))

    genuine = made(controller, relay, later, (Change(Verdict.ALLOW, "00*"),))
    return [
        made(controller, relay, old),  # its sequence was used
        made(controller, relay, old - 1),
        made(controller, other, later),
        _with(made(controller, other, later), relay=relay),
        _with(genuine, changes=changes),
        _with(made(controller, relay, old), sequence=later),
        made(forger, relay, later),
        _with(made(forger, relay, later), controller=forger.peer_id),
    ]


def _with(update: RelayUpdate, **fields: Any) -> RelayUpdate:
    return dataclasses.replace(update, **fields)


async def _attack(order: dict[str, Any]) -> int:
    controller = Store(Path(order["controller_state"])).load_identity()
    updates, answers = forgeries(order, identity_of(order), controller), list[RelayResult]()
    all_answered = trio.Event()

    def heard(_link: Link, event: Event) -> None:
        match event:
            case MessageReceived(_, RelayResult() as answer):
                answers.append(answer)
                if len(answers) == len(updates):
                    all_answered.set()

    async with trunk_to_relay(order, heard, NoFrames()) as link:
        link.send(Policy(False, False))
        with trio.move_on_after(WITHIN_S):
            for update in updates:
                link.send(update)
            await all_answered.wait()
    return 0 if any(answer.outcome is Outcome.DONE for answer in answers) else len(answers)


def send_updates(
    machine: Namespace, *, relay_address: str, relay_peer_id: str, state_directory: Path, controller_state: Path,
    other_relay: str, vlan_id: str, sequence: int,
) -> int:  # fmt: skip
    """Sends them; returns how many the relay answered, all with a refusal.

    Args:
        sequence: the last one that the relay took of the controller.

    Raises: LabError: one was taken, or none was answered.
    """
    order = {
        "relay_address": relay_address, "relay_peer_id": relay_peer_id, "state_directory": str(state_directory),
        "controller_state": str(controller_state), "other_relay": other_relay, "vlan_id": vlan_id, "sequence": sequence,
    }  # fmt: skip
    return int(run("netns.forger", machine, order))


if __name__ == "__main__":
    print(trio.run(_attack, json.loads(sys.argv[1])), flush=True)
    os._exit(0)  # libp2p's listeners can stay open after run() ends
