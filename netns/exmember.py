"""An ex-member that keeps everything: its identity, its record with the keys, its trunk, its place in the VLAN's tree.

It is PeerTap's own node with a data plane of a few lines (adversary.py) that never tells the node of the commit which
removes it, notes each pair secret, and tries every key that it can make on every frame that reaches it. It runs as a
process of its own: `start` starts it.

Orders come by a file, answers on standard output, a JSON object a line; instants are of the machine's monotonic clock.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any, Final

import trio

from netns.adversary import Puppet, connect, note_pair_secrets, root_of
from netns.namespace import Namespace
from netns.process import Process
from peertap.identity.node import parse_peer_id
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.node.events import TimePassed
from peertap.node.node import Node
from peertap.shell.host import running_host
from peertap.shell.store import Store
from peertap.types import PeerId
from peertap.wire import packet
from peertap.wire.control import Endpoints
from peertap.wire.packet import FramePacket

INJECTED: Final = 200
END_S: Final = 60.0


class ExMember(Puppet):
    """Counts what reaches it and what it opens."""

    def __init__(self, node: Node, root: bytes, me: PeerId) -> None:
        super().__init__(node, root)
        self.opened: list[float] = []
        self.seen: list[float] = []
        self._me = me
        self._pairs = note_pair_secrets()
        self._keys: dict[bytes, bytes] = {}  # by kid
        self._known: set[object] = set()

    def frame(self, got: FramePacket, token: bytes) -> None:
        """Tries every key on a frame of the VLAN itself."""
        names = self.vlan.newest
        if token not in (names.token, names.group_token):
            return
        now = time.monotonic()
        self.seen.append(now)
        self._make_keys()
        keys = self.vlan.source.keys
        aad = packet.frame_aad(keys.vlan_id, keys.mls_id, token, got.nonce)
        aead = self.vlan.source.aead
        if any(
            packet.open_untrusted(key, aead, got.nonce, aad, got.inner_tag, got.body) is not None
            for key in self._keys.values()
        ):
            self.opened.append(now)

    def inject(self, frame: bytes) -> int:
        """Group frames of our own, under the keys that we had."""
        vlan, aead = self.vlan, self.vlan.source.aead
        here = vlan.introductions
        secret = packet.group_secret(self._root, self._me, here.sid, 0, aead)
        key, kid = packet.frame_key(secret)
        keys, token = vlan.source.keys, vlan.newest.group_token
        hops = self.node.group_hops(vlan.index)
        for number in range(INJECTED):
            nonce = kid + (here.group_send.next_counter + number).to_bytes(8, "big")
            aad = packet.frame_aad(keys.vlan_id, keys.mls_id, token, nonce)
            # what it signs with lives in Rust: the signature is a random one, and nobody should come to look at it
            trailer = packet.GroupTrailer((), secrets.token_bytes(16), secrets.token_bytes(64), 0)
            tag, ciphertext = packet.seal(key, aead, nonce, aad, b"\1\0" + frame + trailer.emit())
            for hop in hops:
                self.send_packet(hop, 0, nonce, tag, ciphertext)
        return INJECTED * len(hops)

    def _make_keys(self) -> None:
        """All receive keys that follow from the root, the sids and the pair secrets that are known by now."""
        aead = self.vlan.source.aead
        for peer, generation in product(self.vlan.introductions.peers.values(), (0, 1)):
            name = (peer.member, peer.sid, generation)
            if name not in self._known:
                self._known.add(name)
                key, kid = packet.frame_key(packet.group_secret(self._root, peer.member, peer.sid, generation, aead))
                self._keys[kid] = key
        for _, pair in self._pairs:
            if pair[0] not in self._known:
                self._known.add(pair[0])
                key, kid = packet.frame_key(packet.pair_secret(self._root, *pair))
                self._keys[kid] = key


async def _live(order: dict[str, Any]) -> None:
    store = Store(Path(order["state_directory"]))
    identity = store.load_identity()
    (record,) = store.load_records()
    node = Node(
        identity, [], RelayPolicy(Mode.NONE), endpoints=Endpoints((), ()), random=secrets.token_bytes,
        now=time.monotonic(), now_unix=time.time(), payload_bytes=1452, udp_allowed=False, records=[record],
    )  # fmt: skip
    spy = ExMember(node, root_of(record), identity.peer_id)
    orders = Path(order["orders"])
    async with running_host(identity, []) as host, trio.open_nursery() as nursery:
        await connect(spy, identity, host, order["address"], parse_peer_id(order["peer_id"]), nursery)
        spy._carry_out(node.start())
        kicked: dict[str, Any] | None = None
        said_ready = False
        end = time.monotonic() + END_S
        while time.monotonic() < end:
            await trio.sleep(0.02)
            if node.next_deadline() <= time.monotonic():
                spy.post(TimePassed())
            if not said_ready and len(spy.opened) >= order["control"]:
                said_ready = True
                print(json.dumps({"opened": len(spy.opened), "seen": len(spy.seen)}), flush=True)
            kicked = kicked or _read(orders)
            if kicked is not None:
                later = [at for at in spy.seen if at > kicked["at"] + 1]
                if len(later) >= order["later"]:
                    break
        assert kicked is not None, "nobody said when"
        injected = spy.inject(bytes.fromhex(kicked["frame"]))
        await trio.sleep(1)
        last = max(spy.opened, default=0.0)
        later = [at for at in spy.seen if at > kicked["at"] + 1]
        opened_later = [at for at in spy.opened if at > kicked["at"] + 1]
        print(
            json.dumps(
                {
                    "seen_later": len(later),
                    "opened_later": len(opened_later),
                    "last_opened_after_s": round(last - kicked["at"], 3),
                    "keys": len(spy._keys),
                    "injected": injected,
                }
            ),
            flush=True,
        )
        nursery.cancel_scope.cancel()


def _read(orders: Path) -> dict[str, Any] | None:
    return json.loads(orders.read_text()) if orders.exists() else None


def start(
    machine: Namespace, *, address: str, peer_id: str, state_directory: Path, orders: Path, control: int, later: int
) -> Process:
    """Starts it in place of the node whose state it has.

    Args:
        address, peer_id: of a member to which it has its trunk.
        orders: file that says {"at": instant of the kick, "frame": one to inject, in hexadecimal}.
        control: so many frames it must open before it says that it is ready.
        later: so many frames from a second after the kick on are enough.
    """
    order = {
        "address": address, "peer_id": peer_id, "state_directory": str(state_directory), "orders": str(orders),
        "control": control, "later": later,
    }  # fmt: skip
    return machine.start("ex-member", sys.executable, "-m", "netns.exmember", json.dumps(order))


if __name__ == "__main__":
    trio.run(_live, json.loads(sys.argv[1]))
    os._exit(0)  # libp2p's listeners can stay open after run() ends
