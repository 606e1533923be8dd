"""A member of a group whose node speaks in another member's name: its own data plane, its own rules (adversary.py).

It sends frames with another's MAC under its own pair key, and group frames under the other's group key, which it can
make as any member can, with a signature that it cannot make.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Final

import trio

from netns.adversary import FRAMES, Puppet, connect, note_pair_secrets, root_of, run
from netns.namespace import Namespace
from peertap.identity.node import parse_peer_id
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.node.events import TimePassed
from peertap.node.node import Node
from peertap.shell.host import running_host
from peertap.shell.store import Store
from peertap.types import PeerId
from peertap.wire import packet
from peertap.wire.control import Endpoints

WITHIN_S: Final = 20.0


class Impostor(Puppet):
    """Speaks as itself with another's MAC, and as another."""

    def __init__(self, node: Node, root: bytes) -> None:
        super().__init__(node, root)
        self._pairs = note_pair_secrets()

    def is_ready(self, victim: PeerId, witness: PeerId) -> bool:
        """Whether it knows both, and can send to all and to the witness."""
        peers = self.vlan.introductions.peers
        has_key = witness in peers and peers[witness].pair_send is not None
        return victim in peers and has_key and bool(self.node.group_hops(self.vlan.index))

    def spoof(self, witness: PeerId, frame: bytes) -> int:
        """Pair frames to the witness, under our own key."""
        vlan = self.vlan
        keys, peer = vlan.source.keys, vlan.introductions.peers[witness]
        pair = next(noted for handle, noted in self._pairs if handle is peer.pair_out)
        key, kid = packet.frame_key(packet.pair_secret(self._root, *pair))
        token = vlan.towards(peer.mac).token_of(peer.mac)
        members = (one for table in self.node.tables.vlans for one in table.members)
        hop = next(one.hop for one in members if one.token == token)
        for number in range(FRAMES):
            nonce = kid + number.to_bytes(8, "big")
            aad = packet.frame_aad(keys.vlan_id, keys.mls_id, token, nonce)
            tag, ciphertext = packet.seal(key, vlan.source.aead, nonce, aad, b"\1\0" + frame)
            assert hop is not None
            self.send_packet(hop, 0, nonce, tag, ciphertext)
        return FRAMES


async def _attack(order: dict[str, Any]) -> int:
    store = Store(Path(order["state_directory"]))
    identity = store.load_identity()
    (record,) = store.load_records()
    victim, witness = parse_peer_id(order["victim"]), parse_peer_id(order["witness"])
    node = Node(
        identity, [], RelayPolicy(Mode.NONE), endpoints=Endpoints((), ()), random=secrets.token_bytes,
        now=time.monotonic(), now_unix=time.time(), payload_bytes=1452, udp_allowed=False, records=[record],
    )  # fmt: skip
    impostor = Impostor(node, root_of(record))
    sent = 0
    async with running_host(identity, []) as host, trio.open_nursery() as nursery:
        await connect(impostor, identity, host, order["address"], parse_peer_id(order["peer_id"]), nursery)
        impostor._carry_out(node.start())
        with trio.move_on_after(WITHIN_S):
            while not impostor.is_ready(victim, witness):
                await trio.sleep(0.05)
                impostor.post(TimePassed())
            spoofed, forged = (bytes.fromhex(order[name]) for name in ("spoofed", "forged"))
            sent = impostor.spoof(witness, spoofed) + impostor.forge(victim, forged)
            await trio.sleep(1)  # for the stream to carry them
        nursery.cancel_scope.cancel()
    return sent


def attack(
    machine: Namespace, *, address: str, peer_id: str, victim: str, witness: str, state_directory: Path, spoofed: bytes,
    forged: bytes,
) -> int:  # fmt: skip
    """Runs it in place of the node whose state it has; returns how many packets were sent.

    Raises: LabError: none could be sent.
    """
    order = {
        "address": address, "peer_id": peer_id, "victim": victim, "witness": witness,
        "state_directory": str(state_directory), "spoofed": spoofed.hex(), "forged": forged.hex(),
    }  # fmt: skip
    return int(run("netns.impostor", machine, order))


if __name__ == "__main__":
    print(trio.run(_attack, json.loads(sys.argv[1])), flush=True)
    os._exit(0)  # libp2p's listeners can stay open after run() ends
