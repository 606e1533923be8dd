"""Whole nodes in one process, on a simulated network and clock.

Control messages travel as bytes over trunks that delay and keep order; the data plane is the node's own tables, looked
up packet by packet, so that what is tested is what the engine would be told.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from peertap._core import AES_256_GCM, HopReceiveKey, HopSendKey, SendKey, StaticSecret, way_of_flow
from peertap.identity.node import NodeIdentity
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.mesh.roles import Wish
from peertap.node.actions import (
    Action,
    Apply,
    CloseTrunk,
    DropRecord,
    ForgetHosts,
    Log,
    PathStep,
    PlaceHosts,
    ReportPath,
    ReportPing,
    SaveRecord,
    SaveRelayState,
    Send,
    SendControl,
    SendFrame,
    SendGroupControl,
    SendIntro,
    WriteFrame,
)
from peertap.node.commands import Command
from peertap.node.events import (
    ControlReceived,
    Event,
    GroupControlReceived,
    IntroReceived,
    MessageReceived,
    MulticastHeard,
    TablesApplied,
    TimePassed,
    Traffic,
    TrafficSeen,
    TrunkClosed,
    TrunkOpened,
    UnknownKidSeen,
)
from peertap.node.node import Node
from peertap.node.relay_control import RelayCommand, RelaySettings
from peertap.node.relay_state import RelayState
from peertap.node.tables import Hop, TableSet
from peertap.node.vlan import VlanSettings
from peertap.node.ways import WaySettings
from peertap.types import Mac, PeerId, TrunkId, VlanIndex
from peertap.vlan.membership import StaticMembership
from peertap.vlan.names import KIND_GROUP
from peertap.vlan.record import VlanRecord
from peertap.wire import control, igmp, mld
from peertap.wire.control import Endpoints
from peertap.wire.macs import Host
from peertap.wire.multicast import Address, Report, group_mac
from tests.support.identities import identity

NOW_UNIX = 1_800_000_000.0
APPLY_S = 0.0005
HOP_LIMIT = 32


class SimKeys:
    """Hop keys of a simulated trunk: handles that nobody opens anything with."""

    def __init__(self, epoch: int, number: int) -> None:
        self.epoch, self.udp_index, self.stream_index = epoch, 2 * number, 2 * number + 1
        self.receive = tuple(
            HopReceiveKey(index, bytes(32), AES_256_GCM) for index in (self.udp_index, self.stream_index)
        )

    def send(self, udp_index: int, stream_index: int) -> tuple[HopSendKey, HopSendKey]:
        return HopSendKey(udp_index, bytes(32), AES_256_GCM), HopSendKey(stream_index, bytes(32), AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Packet:
    """An INTRO or a frame between nodes: what a relay sees of it, and its content."""

    intro: tuple[bytes, bytes] | None  # nonce, sealed
    content: object = None
    kid: bytes = b""  # of the key that seals the content


class SimNode:
    """A node, its data plane's tables, and what its interfaces got."""

    def __init__(self, mesh: SimMesh, name: str, labels: tuple[str, ...], mode: Mode, role: Wish) -> None:
        self.mesh, self.name, self.labels, self.mode, self.role = mesh, name, labels, mode, role
        self.bridges = False  # its interfaces are ports of bridges
        self.ways = WaySettings()
        self.log: list[Log] = []
        self.identity: NodeIdentity = identity(name)
        self.trunks: dict[TrunkId, SimLink] = {}
        self.delivered: list[tuple[str, object]] = []
        self.traffic: dict[tuple[VlanIndex, int], bool] = {}  # members that frames went to, and whether some came
        self.repeated = 0  # frames that came by two ways: the replay window drops all but the first
        self.pings: list[float | None] = []
        self.path: list[PathStep] = []
        self.written: list[bytes] = []  # frames that the node itself wrote to its ports
        self.patterns: tuple[str, ...] = ()
        self.controllers: frozenset[PeerId] = frozenset()
        self.relay_state = b""
        self.disk: dict[str, bytes] = {}  # records of VLANs with a group, by label
        self.saves = 0
        self.crash_at_save = 0  # the process ends there, before the record is on disk
        self.crash_after_writing = False  # or just after
        self.boot()

    def boot(self) -> None:
        """Starts, or starts again: new sids, nothing remembered."""
        self.is_dead = False
        self._seen: dict[int, Packet] = {}
        self.tables = TableSet((), (), ())
        self.places: dict[Host, int] = {}  # behind which member hosts are
        self.at_port: set[Host] = set()
        self.refused: set[Host] = set()
        self.life = next(self.mesh.numbers)
        settings = [VlanSettings(self.mesh.membership(label), bridge=self.bridges) for label in self.labels]
        records = [VlanRecord.parse(data) for data in self.disk.values()]
        saved = RelayState.parse(self.relay_state) if self.relay_state else RelayState()
        self.node = Node(
            self.identity, settings, RelayPolicy(self.mode, self.patterns), endpoints=Endpoints((), ()),
            random=self.mesh.random.randbytes, now=self.mesh.now, now_unix=NOW_UNIX + self.mesh.now,
            payload_bytes=1452, udp_allowed=self.mesh.udp_allowed, role=self.role, name=self.name, records=records,
            relay=RelaySettings(self.controllers, saved=saved), ways=self.ways,
        )  # fmt: skip
        self.carry_out(self.node.start())

    def post(self, event: Event) -> None:
        if not self.is_dead:
            self.carry_out(self.node.handle(event, self.mesh.now))

    def command(self, command: Command | RelayCommand) -> dict[str, Any]:
        """What the operator types."""
        actions, answer = self.node.command(command, self.mesh.now)
        self.carry_out(actions)
        return answer

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SaveRecord):
                self.saves += 1
                if self.saves == self.crash_at_save:
                    if self.crash_after_writing:
                        self.disk[action.label] = action.record
                    self.is_dead = True
                    self.mesh.crashed.append(self.name)
                    return
            match action:
                case Send(trunk, message):
                    if trunk in self.trunks:
                        self.trunks[trunk].send(self, control.emit(message))
                case CloseTrunk(trunk, _, reason):
                    if trunk in self.trunks:
                        self.trunks[trunk].close(reason)
                case Apply(version, tables):
                    self.mesh.watch_keys(tables)
                    self.mesh.later(APPLY_S, lambda v=version, t=tables, life=self.life: self._applied(v, t, life))  # type: ignore[misc]
                case SendIntro(hops, nonce, sealed):
                    self.mesh.watch_nonce(sealed[16:32], nonce)
                    self.send(hops, Packet((nonce, sealed)))
                case SendControl(vlan, member, message, by):
                    target = next(one for one in self._vlan(vlan).members if one.id == member)
                    if target.hop is not None and target.pair_send is not None:
                        self.send((by or target.hop,), Packet(None, ("control", message), target.pair_send.kid))
                case ReportPath(_, step):
                    self.path.append(step)
                case SendGroupControl(vlan, message):
                    table = self._vlan(vlan)
                    self.send(table.group_edges, Packet(None, ("control", message), table.group_send.kid))  # type: ignore[attr-defined]
                case PlaceHosts(_, places):
                    for host, member in places:
                        self.places.pop(host, None)
                        self.places |= {host: member} if member is not None else {}
                case ForgetHosts(_, hosts, refused):
                    self.at_port -= set(hosts)
                    self.refused = self.refused | set(hosts) if refused else self.refused - set(hosts)
                case Log():
                    self.log.append(action)
                case SendFrame(vlan, frame):
                    self.send(
                        self._vlan(vlan).listening.rest,
                        Packet(None, ("report", frame), self._vlan(vlan).group_send.kid),
                    )  # type: ignore[attr-defined]
                case WriteFrame(vlan, frame):
                    self.written.append(frame)
                case ReportPing(_, rtt_s):
                    self.pings.append(rtt_s)
                case SaveRecord(label, record):
                    self.disk[label] = record
                case SaveRelayState(state):
                    self.relay_state = state
                case DropRecord(label):
                    self.disk.pop(label, None)

    def _applied(self, version: int, tables: TableSet, life: int) -> None:
        if life == self.life:
            self.tables = tables
            self.post(TablesApplied(version))

    # The data plane

    def _vlan(self, index: VlanIndex) -> object:
        return next(one for one in self.tables.vlans if one.id == index)

    def send(self, hops: tuple[Hop, ...], packet: Packet, limit: int = HOP_LIMIT) -> None:
        for trunk, label in hops:
            if trunk in self.trunks:
                self.trunks[trunk].carry(self, label, packet, limit)

    def arrived(self, trunk: TrunkId, label: int, packet: Packet, limit: int) -> None:
        entry = next((one for one in self.tables.labels if (one.trunk, one.label) == (trunk, label)), None)
        if entry is None:
            return
        if entry.deliver is not None:
            self._deliver(entry.deliver, entry.token, packet)
        if limit > 1:
            self.send(tuple(hop for hop in entry.out if hop[0] != trunk), packet, limit - 1)

    def _deliver(self, vlan: VlanIndex, token: bytes, packet: Packet) -> None:
        if packet.intro is not None:
            self.post(IntroReceived(vlan, token, *packet.intro))
        elif packet.kid == self._vlan(vlan).group_send.kid:  # type: ignore[attr-defined]
            self.repeated += 1
        elif packet.kid not in self._kids(vlan):
            self.post(UnknownKidSeen(vlan, packet.kid))
        elif isinstance(packet.content, tuple) and packet.content[0] == "control":
            members = self._vlan(vlan).members  # type: ignore[attr-defined]
            for one in members:
                if packet.kid in {key.kid for key in one.pair_receive}:
                    self.post(ControlReceived(vlan, one.id, packet.content[1]))
                elif packet.kid in {key.kid for key in one.group_receive}:
                    self.post(GroupControlReceived(vlan, one.id, packet.content[1]))
        elif id(packet) in self._seen:
            self.repeated += 1
        elif not self._is_report(packet) or self._vlan(vlan).listening.has_router:  # type: ignore[attr-defined]
            self._seen[id(packet)] = packet
            self._heard_of(vlan, packet.kid)
            self.delivered.append((self.node.vlans[vlan].source.label, packet.content))

    def _heard_of(self, vlan: VlanIndex, kid: bytes) -> None:
        for one in self._vlan(vlan).members:  # type: ignore[attr-defined]
            if (vlan, one.id) in self.traffic and kid in {key.kid for key in one.pair_receive}:
                self.traffic[vlan, one.id] = True

    @staticmethod
    def _is_report(packet: Packet) -> bool:
        return isinstance(packet.content, tuple) and packet.content[0] == "report"

    def _kids(self, vlan: VlanIndex) -> set[bytes]:
        """The keys under which frames are opened."""
        members = self._vlan(vlan).members  # type: ignore[attr-defined]
        return {key.kid for one in members for key in (*one.pair_receive, *one.group_receive)}

    # What a test asks

    def vlan(self, label: str) -> object:
        return next(one for one in self.node.vlans.values() if one.is_inside and one.source.label == label)

    def broadcast(self, label: str, content: object) -> None:
        table = self._vlan(self.vlan(label).index)  # type: ignore[attr-defined]
        self.send(table.group_edges, Packet(None, content, table.group_send.kid))  # type: ignore[attr-defined]

    def multicast(self, label: str, group: Address, content: object) -> int:
        """A frame to a group, as the data plane would send it; returns by how many edges it left."""
        table = self._vlan(self.vlan(label).index)  # type: ignore[attr-defined]
        token = table.listening.keys.token(KIND_GROUP, group_mac(group))  # type: ignore[attr-defined]
        hops = dict(table.listening.groups).get(token, table.listening.rest)  # type: ignore[attr-defined]
        self.send(hops, Packet(None, content, table.group_send.kid))  # type: ignore[attr-defined]
        return len(hops)

    def hears(self, label: str, *reports: Report) -> None:
        """Hosts behind our port say what they listen to."""
        for report in reports:
            wire = igmp if report.records[0].group.version == 4 else mld
            for frame in wire.emit_report(report, Mac(b"\x02\0\0\0\0\x01")):
                self.post(MulticastHeard(self.vlan(label).index, True, frame))  # type: ignore[attr-defined]

    def unicast(self, label: str, mac: Mac, content: object) -> bool:
        table = self._vlan(self.vlan(label).index)  # type: ignore[attr-defined]
        member = next((one for one in table.members if one.mac == mac), None)  # type: ignore[attr-defined]
        if member is None or member.hop is None or member.pair_send is None:
            return False
        ways = (member.hop,)
        if member.spread:
            frame = repr(content).encode().ljust(64)
            chosen = way_of_flow(frame, [hop[0] for hop in (member.hop, *member.spread)])
            ways = tuple(hop for hop in (member.hop, *member.spread) if hop[0] == chosen)
        elif member.duplicate and member.backup is not None:
            ways = (member.hop, member.backup)
        self.traffic.setdefault((table.id, member.id), False)  # type: ignore[attr-defined]
        self.send(ways, Packet(None, content, member.pair_send.kid))
        return True

    def report_traffic(self) -> None:
        """What the data plane tells each half second."""
        seen = tuple(Traffic(vlan, member, heard) for (vlan, member), heard in self.traffic.items())
        self.traffic.clear()
        if seen:
            self.post(TrafficSeen(seen))

    def knows(self, label: str) -> set[PeerId]:
        """Members to whom frames can go, both ways agreed."""
        introductions = self.vlan(label).introductions  # type: ignore[attr-defined]
        return {one.member for one in introductions.peers.values() if one.pair_send and one.pair_receive}


class SimLink:
    """A trunk between two nodes."""

    def __init__(self, mesh: SimMesh, a: SimNode, b: SimNode, delay_s: float) -> None:
        self.mesh, self.ends, self.delay_s, self.up = mesh, (a, b), delay_s, True
        self.numbers = {a.name: TrunkId(next(mesh.numbers)), b.name: TrunkId(next(mesh.numbers))}
        self.deaf = False  # a black hole: nothing arrives, nobody is told
        self.swallowed_of: set[str] = set()  # packets that these ends send: control messages arrive all the same
        self.drops: Callable[[SimNode, control.Message], bool] = lambda _source, _message: False
        for end, other in ((a, b), (b, a)):
            number = self.numbers[end.name]
            end.trunks[number] = self
            keys = SimKeys(0, next(mesh.numbers))
            end.post(TrunkOpened(number, other.identity.peer_id, "tcp", end is a, None, True, keys, AES_256_GCM))

    def other(self, end: SimNode) -> SimNode:
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def send(self, source: SimNode, data: bytes) -> None:
        to, message = self.other(source), control.parse_untrusted(data)
        if isinstance(message, control.Close):  # for the links, as in peertap/shell/link.py
            self._later(lambda: self._told_to_close(to, message.reason))
        elif not self.drops(source, message):  # type: ignore[arg-type]
            self._later(lambda: to.post(MessageReceived(self.numbers[to.name], message)))  # type: ignore[arg-type]

    def carry(self, source: SimNode, label: int, packet: Packet, limit: int) -> None:
        to = self.other(source)
        if source.name not in self.swallowed_of and self.mesh.random.random() >= self.mesh.packet_loss:
            self._later(lambda: to.arrived(self.numbers[to.name], label, packet, limit))

    def close(self, reason: str) -> None:
        if self.up:
            self.up = False
            for end in self.ends:
                end.trunks.pop(self.numbers[end.name], None)
            for end in self.ends:
                number = self.numbers[end.name]
                self.mesh.later(self.delay_s, lambda e=end, n=number: e.post(TrunkClosed(n, reason)))  # type: ignore[misc]

    def _told_to_close(self, told: SimNode, reason: str) -> None:
        told.post(TrunkClosed(self.numbers[told.name], reason))  # its data plane goes on until it has other tables
        self.mesh.later(self.delay_s + 2 * APPLY_S, lambda: self.close("stream ended"))

    def _later(self, what: Callable[[], None]) -> None:
        if self.up and not self.deaf:
            self.mesh.later(self.delay_s, lambda: what() if self.up and not self.deaf else None)


class SimMesh:
    """Nodes, links, and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        self.numbers = itertools.count(1)
        self.nodes: dict[str, SimNode] = {}
        self.packet_loss = 0.0
        self.udp_allowed = False
        self.send_keys: dict[bytes, SendKey] = {}
        self.intro_nonces: set[tuple[bytes, bytes]] = set()
        self.crashed: list[str] = []  # nodes whose process ended in the midst of an event
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def watch_keys(self, tables: TableSet) -> None:
        """One key has one counter for ever: no second handle may exist of it, in this process or a later one."""
        for vlan in tables.vlans:
            for key in (vlan.group_send, *(member.pair_send for member in vlan.members)):
                if key is not None:
                    assert self.send_keys.setdefault(key.kid, key) is key, "a counter began anew"

    def watch_nonce(self, sid: bytes, nonce: bytes) -> None:
        """An introduction's key follows from epoch and sid: no nonce comes twice under a sid, whatever the epoch."""
        assert (sid, nonce) not in self.intro_nonces, "an introduction's nonce came twice"
        self.intro_nonces.add((sid, nonce))

    def membership(self, label: str) -> StaticMembership:
        return StaticMembership(label, StaticSecret(label.encode().ljust(32, b".")))

    def add(self, name: str, *labels: str, mode: Mode = Mode.NONE, role: Wish = Wish.AUTO) -> SimNode:
        self.nodes[name] = SimNode(self, name, labels, mode, role)
        return self.nodes[name]

    def link(self, a: str, b: str, delay_s: float = 0.005) -> SimLink:
        return SimLink(self, self.nodes[a], self.nodes[b], delay_s)

    def restart(self, name: str) -> list[str]:
        """Kills and starts a node; returns its former neighbours, to be linked again."""
        node = self.nodes[name]
        neighbours = [link.other(node).name for link in node.trunks.values()]
        for link in list(node.trunks.values()):
            link.close("killed")
        node.boot()
        return neighbours

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay_s, next(self.numbers), what))

    def run(self, seconds: float) -> None:
        """Lets so much simulated time pass."""
        end = self.now + seconds
        while True:
            alive = [one for one in self.nodes.values() if not one.is_dead]
            due, node = min(((one.node.next_deadline(), one.name) for one in alive), default=(end, ""))
            if self._queue and self._queue[0][0] <= min(due, end):
                self.now, _, what = heapq.heappop(self._queue)
                what()
            elif due <= end:
                self.now = max(self.now, due)
                self.nodes[node].post(TimePassed())
            else:
                self.now = end
                return

    def members(self, label: str) -> Iterator[SimNode]:
        return (node for node in self.nodes.values() if label in node.labels)
