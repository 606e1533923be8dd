"""A sender, a listener, two members that do not listen, a router: only links to who listens carry the stream.

s ─┐             ┌─ a         10.89.N.1 the relay's end, 10.89.N.2 the member's; nobody forwards IP
   r1 ──────── r2 ─ b
c ─┘             └─ q         c starts first and is the tree's root; q's interface is in a kernel bridge that asks
"""

import json
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from netns import links, linux
from netns.errors import require
from netns.frames import FrameSocket
from netns.lab import Lab
from netns.namespace import Namespace
from netns.node import Node, start_all
from netns.scenario import Figures, Scenario
from netns.topology import member_vlan, side, wait_members
from netns.waiting import wait_for

GROUPS = {4: "239.77.1.9", 6: "ff05::77:19"}
PORT = 7719
EVERY_S = 0.005
SIZE = 800  # bytes of a datagram
LOUD = 0.8 * SIZE / EVERY_S  # bytes a second of a link that carries the stream
QUIET = 0.2 * SIZE / EVERY_S  # of one that does not: keepalives, clocks, the handshake of a trunk
JOIN_S = 1.0  # the row
LEAVE_S = 1.0
VARIANTS = ((4, 3), (4, 2), (6, 2), (6, 1))  # IP version, version of IGMP or MLD
FORCE = {4: "net.ipv4.conf.{}.force_igmp_version", 6: "net.ipv6.conf.{}.force_mld_version"}


@dataclass(frozen=True, slots=True)
class Link:
    """A cable, seen from one end."""

    name: str
    machine: Namespace
    device: str

    def bytes(self) -> int:
        with linux.inside(self.machine.path):
            counters = Path("/proc/thread-self/net/dev").read_text()
        line = next(one for one in counters.splitlines() if one.strip().startswith(f"{self.device}:"))
        fields = line.split(":")[1].split()
        return int(fields[0]) + int(fields[8])


class Stream:
    """Numbered datagrams to a group, in a thread, until `stop`."""

    def __init__(self, node: Node, version: int) -> None:
        self._socket = _socket(node, version)
        place = side(node)
        index = node.namespace.interface(place.interface).index
        if version == 4:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index))
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        self._group, self._ended, self.sent = GROUPS[version], threading.Event(), 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        node.lab.at_end(self.stop)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(max(0.0, began + self.sent * EVERY_S - time.monotonic())):
            self._socket.sendto(struct.pack("!I", self.sent).ljust(SIZE, b"."), (self._group, PORT))
            self.sent += 1


class Listener:
    """A socket that joins the group: what it hears, and until when the stream comes to the interface."""

    def __init__(self, node: Node, version: int) -> None:
        place = side(node)
        self._index = node.namespace.interface(place.interface).index
        self._version, self._socket = version, _socket(node, version)
        self._socket.bind(("", PORT))
        self._socket.settimeout(0.1)
        self._frames = FrameSocket(node.namespace, place.interface, listens=True)
        self.heard: list[tuple[float, int]] = []
        self.last_frame_at = 0.0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._hear, self._watch)]
        for thread in self._threads:
            thread.start()
        node.lab.at_end(self.stop)

    def join(self) -> float:
        """Returns when."""
        return self._member(is_in=True)

    def leave(self) -> float:
        """Returns when."""
        return self._member(is_in=False)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _member(self, *, is_in: bool) -> float:
        at = time.monotonic()
        if self._version == 4:
            request = struct.pack("=4s4si", socket.inet_aton(GROUPS[4]), b"", self._index)
            option = socket.IP_ADD_MEMBERSHIP if is_in else socket.IP_DROP_MEMBERSHIP
            self._socket.setsockopt(socket.IPPROTO_IP, option, request)
        else:
            request = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, GROUPS[6]), self._index)
            option = socket.IPV6_JOIN_GROUP if is_in else socket.IPV6_LEAVE_GROUP
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, request)
        return at

    def _hear(self) -> None:
        while not self._ended.is_set():
            if select.select([self._socket], [], [], 0.1)[0]:
                self.heard.append((time.monotonic(), struct.unpack("!I", self._socket.recv(2000)[:4])[0]))

    def _watch(self) -> None:
        while not self._ended.is_set():
            received = self._frames.receive(0.1)
            if received is not None and len(received[1]) > SIZE:
                self.last_frame_at = received[0]


def run(lab: Lab, short: bool) -> Figures:
    members, relays, cables = _build(lab)
    with lab.report.step("two relays, five members; the first one is the tree's root"):
        start_all(*relays, members["c"])
        members["c"].wait_trunk(relays[0], carrier="udp")
        start_all(*(node for name, node in members.items() if name != "c"))
        for name in "abq":
            wait_members(members["s"], members[name])
        wait_members(members["s"], members["c"])
        for name, node in members.items():
            node.wait_trunk(relays[name in "abq"], carrier="udp")
        wait_for(lambda: members["c"].vlan("lab")["tree"]["is_root"], 10, "c is root")
    time.sleep(3)  # introductions are over
    window_s = 1.0 if short else 3.0
    joins: dict[str, float] = {}
    stops: dict[str, float] = {}
    quiet: list[float] = []
    loud: list[float] = []
    for version, protocol in VARIANTS:
        name = f"{'IGMP' if version == 4 else 'MLD'}v{protocol}"
        with lab.report.step(f"{name}: nobody listens, one joins, leaves"):
            for node in members.values():
                node.namespace.sysctl(FORCE[version].format(side(node).interface), str(protocol))
            stream = Stream(members["s"], version)
            _carried(cables, window_s, set(), quiet, loud)
            listener = Listener(members["a"], version)
            joined_at = listener.join()
            wait_for(lambda one=listener: one.heard, 5, "the stream", interval_s=0.01)  # type: ignore[misc]
            time.sleep(0.2)
            _carried(cables, window_s, {"s", "r1-r2", "a"}, quiet, loud)
            left_at = listener.leave()
            time.sleep(LEAVE_S)
            _carried(cables, window_s, set(), quiet, loud)
            listener.stop()
            stream.stop()
            heard = [number for _, number in listener.heard]
            require(heard == list(range(heard[0], heard[-1] + 1)), f"{name}: not each once in order: {_odd(heard)}")
            joins[name] = round(listener.heard[0][0] - joined_at, 3)
            stops[name] = round(max(0.0, listener.last_frame_at - left_at), 3)
    figures: Figures = {
        "join_to_first_packet_s": joins,
        "leave_to_last_packet_s": stops,
        "quiet_links_max_bytes_s": round(max(quiet)),
        "loud_links_min_bytes_s": round(min(loud)),
    }
    with lab.report.step("a router asks: it is told who listens, and gets everything; others still do not"):
        figures |= _router(members, cables, window_s)
    with lab.report.step("what a member joined before it began is found after it began"):
        figures["restart_to_stream_s"] = _restarted(members)
    require(max(joins.values()) <= JOIN_S, f"too late: {figures}")
    require(max(stops.values()) <= LEAVE_S, f"goes on for too long: {figures}")
    return figures


def _router(members: dict[str, Node], cables: list[Link], window_s: float) -> Figures:
    """The kernel's bridge is the querier; its table shows what it was told."""
    a, q = members["a"], members["q"]
    tap, machine = side(q).interface, q.namespace
    mac = machine.interface(tap).mac.hex(":")
    listeners = {version: Listener(a, version) for version in GROUPS}
    listeners[4].join()
    time.sleep(0.5)
    machine.run("ip", "address", "flush", "dev", tap)
    machine.run(
        "ip", "link", "add", "br0", "address", mac, "type", "bridge", "mcast_snooping", "1", "mcast_querier", "1",
        "mcast_query_use_ifaddr", "1", "mcast_query_response_interval", "100", "mcast_startup_query_interval", "100",
    )  # fmt: skip
    for cidr in q.config.vlans[0].addresses:
        machine.address(cidr, "br0")
    machine.run("ip", "link", "set", tap, "master", "br0")
    machine.up("br0")
    asked_at = time.monotonic()

    def told(version: int) -> float:
        entries = machine.run("bridge", "-json", "mdb", "show", "dev", "br0")
        found = {one["grp"] for part in json.loads(entries) for one in part.get("mdb", ()) if one["port"] == tap}
        require(GROUPS[version] in found, f"the bridge knows {found}")
        return time.monotonic()

    figures: Figures = {"router_told_of_what_was_s": round(wait_for(lambda: told(4), 10, "a report") - asked_at, 2)}
    joined_at = listeners[6].join()
    figures["router_told_of_join_s"] = round(wait_for(lambda: told(6), 5, "a report", interval_s=0.02) - joined_at, 2)
    wait_for(lambda: q.vlan("lab")["multicast"]["router"], 5, "q says that it has a router")
    stream = Stream(members["s"], 4)
    time.sleep(0.5)
    loud: list[float] = []
    quiet: list[float] = []
    _carried(cables, window_s, {"s", "r1-r2", "a", "q"}, quiet, loud)
    listeners[4].leave()
    time.sleep(LEAVE_S)
    _carried(cables, window_s, {"s", "r1-r2", "q"}, quiet, loud)
    stream.stop()
    for listener in listeners.values():
        listener.stop()
    return {**figures, "router_quiet_links_max_bytes_s": round(max(quiet))}


def _restarted(members: dict[str, Node]) -> float:
    """A member's process is killed and begins anew; its interface stays, and the host on it says nothing by itself."""
    b = members["b"]
    listener = Listener(b, 4)
    listener.join()
    stream = Stream(members["s"], 4)
    wait_for(lambda: listener.heard, 5, "the stream")
    b.kill()
    time.sleep(0.5)
    before = len(listener.heard)
    b.start()
    ready_at = b.wait_ready()
    wait_for(lambda: len(listener.heard) > before, 20, "the stream", interval_s=0.02)
    listener.stop()
    stream.stop()
    return round(listener.heard[before][0] - ready_at, 2)


def _build(lab: Lab) -> tuple[dict[str, Node], list[Node], list[Link]]:
    relay_machines = [lab.namespace("r1"), lab.namespace("r2")]
    relays = [Node(machine) for machine in relay_machines]
    links.veth(relay_machines[0], "to-r2", "10.89.9.1/24", relay_machines[1], "to-r1", "10.89.9.2/24")
    relays[0].configure(relay_mode="open")
    relays[1].configure(relay_mode="open", peers={"10.89.9.1": relays[0]})
    cables = [Link("r1-r2", relay_machines[0], "to-r2")]
    members: dict[str, Node] = {}
    for number, name in enumerate("scabq", 1):
        machine, at = lab.namespace(name), int(name in "abq")
        links.veth(relay_machines[at], f"to-{name}", f"10.89.{number}.1/24", machine, "uplink", f"10.89.{number}.2/24")
        vlan = member_vlan(lab, number)
        if name == "b":  # an interface that outlives the process
            machine.run("ip", "tuntap", "add", "dev", vlan.tap, "mode", "tap")
        members[name] = Node(machine).configure(peers={f"10.89.{number}.1": relays[at]}, vlans=(vlan,))
        cables.append(Link(name, relay_machines[at], f"to-{name}"))
    return members, relays, cables


def _carried(cables: list[Link], window_s: float, wanted: set[str], quiet: list[float], loud: list[float]) -> None:
    """Bytes a second of each link: those of `wanted` carry the stream, the others do not."""
    before, began = {one.name: one.bytes() for one in cables}, time.monotonic()
    time.sleep(window_s)
    took = time.monotonic() - began
    rates = {one.name: (one.bytes() - before[one.name]) / took for one in cables}
    for name, rate in rates.items():
        (loud if name in wanted else quiet).append(rate)
    carrying = {name for name, rate in rates.items() if rate >= LOUD}
    require(carrying == wanted, f"links {sorted(carrying)} carry the stream, wanted {sorted(wanted)}: {rates}")
    still = {name: round(rate) for name, rate in rates.items() if name not in wanted and rate > QUIET}
    require(not still, f"links that should be quiet: {still} bytes/s")


def _odd(heard: list[int]) -> str:
    missing = sorted(set(range(heard[0], heard[-1] + 1)) - set(heard))
    return f"{len(heard) - len(set(heard))} doubled, {len(missing)} missing ({missing[:5]})"


def _socket(node: Node, version: int) -> socket.socket:
    made = node.namespace.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


SCENARIO = Scenario(
    name="multicast",
    summary="only links to listeners carry a stream; join to first packet 1 s; IGMPv2, v3, MLDv1, v2; a router is told",
    run=run,
    bound_s=240,
    short_bound_s=120,
)
