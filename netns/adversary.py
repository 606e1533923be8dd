"""A malicious member: it holds the VLAN's secret and a link to the relay, and speaks in another member's name.

It is PeerTap's own node with a data plane of a few lines in Python (stream carrier only, peertap.wire.packet), because
only then are its frames right in everything but the signature. It runs as a process of its own in its namespace:
`send_forged_group_frame` starts it.
"""

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Final

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from netns.errors import LabError
from netns.namespace import Namespace
from peertap import _core
from peertap._core import StaticSecret
from peertap.errors import DecodeError
from peertap.identity.node import NodeIdentity, format_peer_id, parse_peer_id
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.node.actions import Action, Apply, Send, SendIntro
from peertap.node.events import Event, IntroReceived, MessageReceived, TablesApplied, TimePassed
from peertap.node.node import Node
from peertap.node.tables import Hop
from peertap.node.vlan import LocalVlan, VlanSettings
from peertap.shell.host import TRUNK_PROTOCOL, Host, running_host
from peertap.shell.link import Link, shake_hands
from peertap.shell.store import Store, load_vlan_secret_file
from peertap.trunk.handshake import TrunkSecrets
from peertap.types import PeerId, TrunkId
from peertap.vlan import pair_keys
from peertap.vlan.membership import StaticMembership
from peertap.vlan.record import VlanRecord
from peertap.vlan.saved import SavedGroup
from peertap.wire import packet
from peertap.wire.codec import lp
from peertap.wire.control import Endpoints, Indexes
from peertap.wire.packet import FLAG_INTRO, HOP_LIMIT, FramePacket, GroupTrailer

AHEAD: Final = 60_000  # a window that moved before the signature was checked would refuse the victim's next frames
FRAMES: Final = 20  # forged in a row, each further ahead
WITHIN_S: Final = 20.0
ROOT_AT: Final = 4 + 2 + 16 + 104  # SPEC 9.5: in the record of the group
TRUNK: Final = TrunkId(1)


Noted = tuple[bytes, bytes, bytes, int]  # secret, info, sealed hash, AEAD


def note_pair_secrets() -> list[tuple[object, Noted]]:
    """From now on each pair secret that this process makes or opens is noted, with its handle."""
    notes: list[tuple[object, Noted]] = []
    genuine = _core.PairSecret

    def noted(secret: bytes, info: bytes, sealed_hash: bytes, aead: int) -> object:
        made = genuine(secret, info, sealed_hash, aead)
        notes.append((made, (secret, info, sealed_hash, aead)))
        return made

    vars(pair_keys)["PairSecret"] = noted
    return notes


def root_of(record: VlanRecord) -> bytes:
    """The epoch's root in a VLAN's record (SPEC 9.5)."""
    return SavedGroup.parse(record.group).record[ROOT_AT : ROOT_AT + 32]


class Puppet:
    """A member's node with a data plane in Python; all its packets go over the frame stream of one trunk.

    Args:
        root: of the VLAN's present epoch.
    """

    def __init__(self, node: Node, root: bytes) -> None:
        self.node = node
        self._root = root
        self._key = Ed25519PrivateKey.generate()  # no member's
        self.agreed: TrunkSecrets | None = None
        self._link: Link | None = None
        self._send_index: int | None = None
        self._counter = 0
        self._batches: list[bytes] = []

    @property
    def vlan(self) -> LocalVlan:
        """The one VLAN that it is for."""
        return next(one for one in self.node.vlans.values() if one.is_inside)

    def forge(self, victim: PeerId, frame: bytes) -> int:
        """Sends group frames under the victim's key, signed by another one; returns how many packets."""
        source, hello = self.vlan.source, self.vlan.introductions.peers[victim].hello
        keys, aead, token = source.keys, source.aead, self.vlan.newest.group_token
        key, kid = packet.frame_key(packet.group_secret(self._root, victim, hello.sid, hello.generation, aead))
        hops = self.node.group_hops(self.vlan.index)
        for number in range(FRAMES):
            nonce = kid + (hello.floor + AHEAD * (number + 1)).to_bytes(8, "big")
            aad = packet.frame_aad(keys.vlan_id, keys.mls_id, token, nonce)
            content, salt = b"\1\0" + frame, secrets.token_bytes(16)
            leaf = packet.group_leaf(salt, aad, content)
            message = packet.group_message(keys.vlan_id, keys.mls_id, kid, salt, 0, leaf)
            trailer = GroupTrailer((), salt, self._key.sign(message), 0)
            tag, ciphertext = packet.seal(key, aead, nonce, aad, content + trailer.emit())
            for hop in hops:
                self.send_packet(hop, 0, nonce, tag, ciphertext)
        return FRAMES * len(hops)

    # The data plane, as peertap.shell.link.FrameCarrier wants it

    def stream_take(self, trunk: int) -> bytes | None:
        return self._batches.pop(0) if self._batches else None

    def stream_put(self, trunk: int, batch: bytes) -> None:
        assert self.agreed is not None
        key = self.agreed.hop(sending=False, carrier="stream")
        while batch:
            size = int.from_bytes(batch[:2], "big")
            data, batch = batch[2 : 2 + size], batch[2 + size :]
            try:
                got = FramePacket.parse_untrusted(data, key, self.agreed.aead)
            except DecodeError:
                continue
            labels = {entry.label: entry for entry in self.node.tables.labels}
            label = labels.get(got.label)
            if label is None or label.deliver is None:
                continue
            if got.flags & FLAG_INTRO:
                self.post(IntroReceived(label.deliver, label.token, got.nonce, got.inner_tag + got.body))
            else:
                self.frame(got, label.token)

    def frame(self, got: FramePacket, token: bytes) -> None:
        """A sealed frame for a VLAN of ours."""

    def send_packet(self, hop: Hop, flags: int, nonce: bytes, inner_tag: bytes, body: bytes) -> None:
        assert self._link is not None
        assert self._send_index is not None
        out = FramePacket(self._send_index, self._counter, hop[1], HOP_LIMIT, flags, nonce, inner_tag, body)
        self._counter += 1
        agreed = self.agreed
        assert agreed is not None
        self._batches.append(lp(out.emit(agreed.hop(sending=True, carrier="stream"), agreed.aead)))
        self._link.frames_ready.set()

    # The node's owner

    def attach(self, link: Link, agreed: TrunkSecrets) -> None:
        self._link, self.agreed = link, agreed

    def post(self, event: Event) -> None:
        if isinstance(event, MessageReceived) and isinstance(event.message, Indexes):
            self._send_index = event.message.stream
        self._carry_out(self.node.handle(event, time.monotonic()))

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(_, message) if self._link is not None:
                    self._link.send(message)
                case Apply(version, _):
                    self._carry_out(self.node.handle(TablesApplied(version), time.monotonic()))
                case SendIntro(hops, nonce, sealed):
                    for hop in hops:
                        self.send_packet(hop, FLAG_INTRO, nonce, sealed[:16], sealed[16:])


async def connect(
    puppet: Puppet, identity: NodeIdentity, host: Host, address: str, peer: PeerId, nursery: trio.Nursery
) -> None:
    """Gives the puppet its trunk."""
    connection = await host.dial(f"/ip4/{address}/tcp/4511/p2p/{format_peer_id(peer)}", peer)
    stream = await host.open(connection, TRUNK_PROTOCOL)
    agreed = await shake_hands(stream, identity, connection, dialled=True)
    link = Link(TRUNK, connection, stream, agreed, identity, puppet.post, puppet, dialled=True, report=print)
    puppet.attach(link, agreed)
    nursery.start_soon(link.run, host)


def run(module: str, machine: Namespace, order: dict[str, Any]) -> Any:
    """Runs such a node as a process of its own; returns what it did: how many packets it sent, or more about it.

    Raises: LabError: nothing was sent.
    """
    status, out, errors = machine.try_run(sys.executable, "-m", module, json.dumps(order))
    try:
        done = json.loads(out) if status == 0 else None
    except ValueError:
        done = None
    if not done:
        raise LabError(f"{module} sent nothing: exit status {status}, {out.strip()} {errors[-2000:]}")
    return done


async def _attack(order: dict[str, Any]) -> int:
    identity = Store(Path(order["state_directory"])).load_identity()
    secret = load_vlan_secret_file(Path(order["secret_file"]))
    membership = StaticMembership(secret.label, StaticSecret(secret.secret))
    relay, victim = parse_peer_id(order["relay_peer_id"]), parse_peer_id(order["victim_peer_id"])
    node = Node(
        identity, [VlanSettings(membership)], RelayPolicy(Mode.NONE), endpoints=Endpoints((), ()),
        random=secrets.token_bytes, now=time.monotonic(), now_unix=time.time(), payload_bytes=1452, udp_allowed=False,
    )  # fmt: skip
    adversary = Puppet(node, packet.expand(secret.secret, "static root"))
    sent = 0
    async with running_host(identity, []) as host, trio.open_nursery() as nursery:
        await connect(adversary, identity, host, order["relay_address"], relay, nursery)
        with trio.move_on_after(WITHIN_S):
            while victim not in adversary.vlan.introductions.peers or not node.group_hops(adversary.vlan.index):
                await trio.sleep(0.05)
                adversary.post(TimePassed())
            sent = adversary.forge(victim, bytes.fromhex(order["frame"]))
            await trio.sleep(1)  # for the stream to carry them
        nursery.cancel_scope.cancel()
    return sent


def send_forged_group_frame(
    *, machine: Namespace, relay_address: str, relay_peer_id: str, state_directory: Path, secret_file: Path,
    victim_peer_id: str, frame: bytes,
) -> int:  # fmt: skip
    """Joins the VLAN through the relay and sends `frame` as group frames sealed under the victim's group key.

    Returns: how many packets were sent.
    Raises: LabError: none could be sent.
    """
    order = {
        "relay_address": relay_address,
        "relay_peer_id": relay_peer_id,
        "state_directory": str(state_directory),
        "secret_file": str(secret_file),
        "victim_peer_id": victim_peer_id,
        "frame": frame.hex(),
    }
    return int(run("netns.adversary", machine, order))


if __name__ == "__main__":
    print(trio.run(_attack, json.loads(sys.argv[1])), flush=True)
    os._exit(0)  # libp2p's listeners can stay open after run() ends
