"""Does it carry what Ethernet carries? Ping, ARP, neighbour discovery, multicast, broadcasts of any size."""

import re
import secrets
import select
import socket
import statistics
import time
from typing import Final

from netns.checks.side import Side
from netns.errors import require
from netns.waiting import wait_for

SO_BINDTODEVICE: Final = 25  # asm-generic/socket.h
JOINED_S: Final = 1.0  # from a join to the group's first frame
MULTICAST_GROUP: Final = "239.77.77.77"
TEST_PORT: Final = 7777


def ping(a: Side, b: Side, count: int = 500, interval_s: float = 0.005, lost_at_most: int = 0) -> dict[str, float]:
    """Pings B from A; returns lost, median and 99th percentile of the round trip in milliseconds."""
    wait_for(
        lambda: a.namespace.try_run("ping", "-nqc1", "-W1", b.ipv4)[0] == 0, 20, f"{a.namespace.name} reaches {b.ipv4}"
    )
    a.namespace.try_run("ping", "-nq", "-i0.01", "-c50", "-W1", b.ipv4)  # warm up
    _, out, error = a.namespace.try_run(
        "ping",
        "-n",
        "-i",
        f"{interval_s:g}",
        "-c",
        str(count),
        "-W",
        "1",
        b.ipv4,
        timeout_s=count * interval_s * 4 + 20,
    )
    times = sorted(float(found) for found in re.findall(r"time=([\d.]+) ms", out))
    duplicates = out.count("DUP!")
    lost = count - (len(times) - duplicates)
    require(lost <= lost_at_most, f"ping: {count - lost} of {count} answered\n{(out + error)[-600:]}")
    require(duplicates == 0, f"ping: {duplicates} answers came twice")
    return {
        "ping_sent": count,
        "ping_lost": lost,
        "rtt_median_ms": round(statistics.median(times), 3),
        "rtt_p99_ms": round(times[min(len(times) - 1, len(times) * 99 // 100)], 3),
    }


def arp(a: Side, b: Side) -> None:
    """A finds B's MAC by ARP."""
    _resolve(a, b, b.ipv4, "-4")


def neighbour_discovery(a: Side, b: Side) -> None:
    """A finds B's MAC by IPv6 neighbour discovery (a solicited-node multicast)."""
    _resolve(a, b, b.ipv6, "-6")


def ipv6_ping(a: Side, b: Side, count: int = 20) -> None:
    out = a.namespace.run("ping", "-6", "-nq", "-i0.01", "-c", str(count), "-W1", b.ipv6)
    require(f"{count} received" in out, f"IPv6 ping: {out[-300:]}")


def _resolve(a: Side, b: Side, address: str, family: str) -> None:
    # `ip neigh flush` leaves entries in use; taking the one away makes the kernel ask again.
    a.namespace.try_run("ip", family, "neigh", "del", address, "dev", a.interface)
    a.namespace.run("ping", family, "-nqc2", "-i0.2", "-W2", address)
    found = [entry.get("lladdr") for entry in a.namespace.ip_json(family, "neigh", "show", address, "dev", a.interface)]
    require(found == [b.mac_text], f"neighbour {address} has MAC {found}, not {b.mac_text}")


def broadcast(a: Side, b: Side, size: int) -> None:
    """A UDP broadcast of `size` bytes from A arrives at B exactly once, and unharmed."""
    _datagram_arrives(a, b, a.ipv4_broadcast, size, f"UDP broadcast of {size} bytes")


def multicast(a: Side, b: Side) -> None:
    """A UDP multicast from A arrives at B exactly once, from a second after B has joined the group on."""
    _datagram_arrives(a, b, MULTICAST_GROUP, 200, "UDP multicast")


def large_broadcasts(a: Side, b: Side) -> dict[str, object]:
    """Broadcasts larger than the path: as one large frame, in a raised interface MTU, and fragmented by IP.

    The one frame of 4,000 bytes is larger than any packet of the underlay.
    """
    mtu = a.namespace.interface(a.interface).mtu
    sizes = [mtu - 28, 4000, 20_000]
    for size in sizes:
        broadcast(a, b, size)
    for side in (a, b):
        side.namespace.run("ip", "link", "set", side.interface, "mtu", "4200")
    try:
        broadcast(a, b, 4000)
        broadcast(b, a, 4000)
    finally:
        for side in (a, b):
            side.namespace.run("ip", "link", "set", side.interface, "mtu", str(mtu))
    return {"broadcast_bytes": [*sizes, "4000 in one frame"], "tap_mtu": mtu}


def _datagram_arrives(a: Side, b: Side, destination: str, size: int, what: str) -> None:
    payload = secrets.token_bytes(size)
    receiver = b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender = a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        receiver.bind(("", TEST_PORT))
        membership = socket.inet_aton(MULTICAST_GROUP) + socket.inet_aton(b.ipv4)
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(a.ipv4))
        sender.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, a.interface.encode() + b"\0")
        if destination == MULTICAST_GROUP:
            _await_joined(sender, receiver)
        sender.sendto(payload, (destination, TEST_PORT))
        require(bool(select.select([receiver], [], [], 3.0)[0]), f"{what}: nothing arrived within 3 s")
        require(receiver.recv(65_535) == payload, f"{what}: arrived damaged")
        require(not select.select([receiver], [], [], 0.2)[0], f"{what}: arrived twice")
    finally:
        receiver.close()
        sender.close()


def _await_joined(sender: socket.socket, receiver: socket.socket) -> None:
    """Until the group's frames come: switches that know who listens learn it from the report of the join."""
    end = time.monotonic() + JOINED_S
    while not select.select([receiver], [], [], 0.05)[0]:
        require(time.monotonic() < end, f"UDP multicast: nothing arrived within {JOINED_S:g} s of the join")
        sender.sendto(b"joined?", (MULTICAST_GROUP, TEST_PORT))
    while select.select([receiver], [], [], 0.1)[0]:
        receiver.recv(65_535)
