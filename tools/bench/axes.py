"""What is measured, on which link, and of whom. Pure.

An axis is one figure of one peer. A link is a network on which a tunnel is started once and several axes are read.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

PEERTAP: Final = "peertap"
BARE: Final = "veth"  # no tunnel at all: what the link itself gives
BARE_ROWS: Final = ("veth", "veth-nooffload")  # they are not peers
PEER_NAMES: Final = (
    "peertap", "fastd", "tinc", "openvpn-tap", "nebula", "tincr-tap-aes", "tincr-tun-aes", "vpncloud", "zerotier",
    "easytier", "wireguard-go", "veth", "veth-nooffload",
)  # fmt: skip


class Link(Enum):
    """The networks of a run, in the order in which a round goes through them."""

    DIRECT = "direct"  # a ── b, a veth pair
    RELAY = "relay"  # a ── r ── b, r forwards no IP
    LOSS1 = "loss1"  # 1 % of the packets are lost, 20 ms round trip
    DELAY20 = "delay20"
    DELAY80 = "delay80"
    RATE100 = "rate100"  # a bottleneck of 100 Mbit/s
    STREAM = "stream"  # as DIRECT, PeerTap's frames inside of its TCP connection
    OVERLOAD = "overload"  # as DIRECT, a flood of UDP
    IDLE = "idle"  # a hub with ten neighbours, nothing sent


@dataclass(frozen=True, slots=True)
class Axis:
    """One column of the tables.

    Args:
        seconds: what reading it once takes beside the streams' own length, for the estimate.
        streams: how many streams of the chosen length it takes.
    """

    name: str
    link: Link
    unit: str
    meaning: str
    more_is_better: bool
    decimals: int = 0
    seconds: float = 0.0
    streams: float = 0.0


AXES: Final = (
    Axis("tcp1", Link.DIRECT, "Mbit/s", "TCP, 1 flow", True, seconds=0.6, streams=1),
    Axis("tcp4", Link.DIRECT, "Mbit/s", "TCP, 4 flows", True, seconds=0.6, streams=1),
    Axis("cpu_s_per_gb", Link.DIRECT, "s/GB", "CPU of both daemons during tcp1", False, 3),
    Axis("rtt_ms", Link.DIRECT, "ms", "round trip, idle, median", False, 3, seconds=3.0),
    Axis("rtt_p99_ms", Link.DIRECT, "ms", "round trip, idle, 99th percentile", False, 3),
    Axis("rtt_load_ms", Link.DIRECT, "ms", "round trip under one TCP flow, median", False, 3, seconds=0.6, streams=1),
    Axis("udp1200_pps", Link.DIRECT, "packets/s", "UDP 1200 B, highest rate with at most 1 % loss", True, seconds=9.0),
    Axis("udp64_pps", Link.DIRECT, "packets/s", "UDP 64 B, received at full rate", True, seconds=0.6, streams=1),
    Axis("tcp1_nooffload", Link.DIRECT, "Mbit/s", "TCP, 1 flow, underlay without offloads", True, seconds=0.8,
         streams=1),
    Axis("memory_mb", Link.DIRECT, "MB", "VmRSS of both daemons after load", False, 1),
    Axis("join_ms", Link.DIRECT, "ms", "from starting the second node to the first answer", False),
    Axis("status_ms", Link.DIRECT, "ms", "`peertap status`", False, seconds=1.5),
    Axis("relay_tcp1", Link.RELAY, "Mbit/s", "relayed, TCP, 1 flow", True, seconds=0.6, streams=1),
    Axis("relay_rtt_ms", Link.RELAY, "ms", "relayed, round trip, median", False, 3, seconds=3.0),
    Axis("loss1_tcp1", Link.LOSS1, "Mbit/s", "1 % loss, 20 ms, TCP cubic", True, 1, seconds=1.5, streams=3),
    Axis("loss1_tcp1_bbr", Link.LOSS1, "Mbit/s", "1 % loss, 20 ms, TCP BBR", True, 1, seconds=1.5, streams=2),
    Axis("delay20_tcp1", Link.DELAY20, "Mbit/s", "20 ms, TCP BBR", True, seconds=1.5, streams=2),
    Axis("delay80_tcp1", Link.DELAY80, "Mbit/s", "80 ms, TCP BBR", True, seconds=1.5, streams=2),
    Axis("rate100_tcp1", Link.RATE100, "Mbit/s", "bottleneck of 100 Mbit/s, TCP cubic", True, 1, seconds=1.0,
         streams=2),
    Axis("rtt_load_100m_ms", Link.RATE100, "ms", "round trip under that flow, median", False, 1),
    Axis("stream_tcp1", Link.STREAM, "Mbit/s", "stream carrier over TCP, 1 flow", True, seconds=0.6, streams=1),
    Axis("stream_rtt_load_ms", Link.STREAM, "ms", "stream carrier, round trip under that load, median", False, 2,
         seconds=0.6, streams=1),
    Axis("overload", Link.OVERLOAD, "MB", "growth of the larger daemon in a UDP flood", False, 1, seconds=35.0),
    Axis("overload_recovery_s", Link.OVERLOAD, "s", "from its end to the first answer", False, 3),
    Axis("overload_trunk", Link.OVERLOAD, "", "1: the control trunk stayed up", True),
    Axis("idle_cpu", Link.IDLE, "%", "of one core, a hub with 10 idle trunks", False, 2, seconds=20.0),
)  # fmt: skip
AXIS_NAMES: Final = tuple(axis.name for axis in AXES)
BY_NAME: Final = {axis.name: axis for axis in AXES}

# Figures that come out of another's measurement: asking for one measures the other.
READ_WITH: Final = {
    "cpu_s_per_gb": "tcp1",
    "rtt_p99_ms": "rtt_ms",
    "rtt_load_100m_ms": "rate100_tcp1",
    "overload_recovery_s": "overload",
    "overload_trunk": "overload",
}

_TUNNELS: Final = frozenset(PEER_NAMES)
_REFERENCE: Final = frozenset({PEERTAP, "fastd", BARE})  # the dear links: what PeerTap is held against, and one peer
PEERS_OF_LINK: Final = {
    Link.DIRECT: _TUNNELS,
    Link.RELAY: frozenset({PEERTAP, "fastd", "tinc", "nebula", "tincr-tap-aes", "tincr-tun-aes"}),
    Link.LOSS1: _REFERENCE,
    Link.DELAY20: _REFERENCE,
    Link.DELAY80: _REFERENCE,
    Link.RATE100: _REFERENCE,
    Link.STREAM: frozenset({PEERTAP}),
    Link.OVERLOAD: frozenset({PEERTAP, "fastd"}),
    Link.IDLE: frozenset({PEERTAP}),
}
MAX_ROUNDS_OF_LINK: Final = {Link.DELAY20: 2, Link.OVERLOAD: 1, Link.IDLE: 1}  # ours: they take long, or vary little

_NOT_OF_BARE: Final = frozenset({"cpu_s_per_gb", "memory_mb", "join_ms"})


def applies(peer: str, axis: str) -> bool:
    """Whether the peer can have this figure at all."""
    if peer not in PEERS_OF_LINK[BY_NAME[axis].link]:
        return False
    if axis in ("status_ms", "overload_trunk"):
        return peer == PEERTAP
    if peer == "veth-nooffload" and axis == "tcp1_nooffload":
        return False  # it is its tcp1
    return not (peer in BARE_ROWS and axis in _NOT_OF_BARE)
