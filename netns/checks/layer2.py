"""What an Ethernet carries beside IP: tags, frames of any size, a packet that wakes a machine."""

import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from netns.checks.side import Side
from netns.errors import ScenarioFailed, require
from netns.frames import FrameSocket, new_marker
from netns.packets import BROADCAST, ETHERTYPE_IPV4, ETHERTYPE_TEST, checksum, ethernet

DOT1Q: Final = 0x8100  # IEEE 802.1Q: a customer's tag
DOT1AD: Final = 0x88A8  # IEEE 802.1ad: a provider's
PRIORITY_5: Final = 5 << 13
ICMP_ECHO, ICMP_REPLY = 8, 0


def wake_on_lan(sender: Side, sleeper: Side) -> float:
    """etherwake's magic packet is heard at the sleeper's interface, by broadcast and addressed; returns the seconds."""
    magic = b"\xff" * 6 + 16 * sleeper.mac
    began = time.monotonic()
    for words in (("-b",), ()):
        listener = FrameSocket(sleeper.namespace, sleeper.interface, listens=True)
        sender.namespace.run("etherwake", *words, "-i", sender.interface, sleeper.mac_text)
        try:
            heard = _hear(listener, lambda frame: magic in frame)
        finally:
            listener.close()
        require(heard[:6] == (BROADCAST if words else sleeper.mac), f"woken by {heard[:14].hex()}")
    return round(time.monotonic() - began, 2)


def tagged_frames(a: Side, b: Side) -> list[str]:
    """Frames with 802.1Q and 802.1ad tags come as they went, by broadcast and addressed; returns the tags."""
    said = []
    for tags in ([(DOT1Q, 7)], [(DOT1Q, PRIORITY_5)], [(DOT1Q, PRIORITY_5 | 4094)], [(DOT1AD, 100), (DOT1Q, 7)]):
        for one, other in ((a, b), (b, a)):
            for destination in (other.mac, BROADCAST):
                _passes(one, other, destination, tags)
        said.append(" ".join(f"{tpid:04x}:{tci:04x}" for tpid, tci in tags))
    return said


def _passes(one: Side, other: Side, destination: bytes, tags: list[tuple[int, int]]) -> None:
    marker = new_marker()
    head = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
    frame = destination + one.mac + head + struct.pack("!H", ETHERTYPE_TEST) + marker.ljust(80, b"\0")
    listener, sender = (
        FrameSocket(other.namespace, other.interface, listens=True),
        FrameSocket(one.namespace, one.interface),
    )
    try:
        sender.send(frame)
        heard = _hear(listener, lambda heard: marker in heard)
    finally:
        listener.close()
        sender.close()
    require(heard == frame, f"{frame.hex()} came as {heard.hex()}")


def priority_tagged_ping(a: Side, b: Side) -> None:
    """A ping whose frame has a priority tag (VLAN 0) is answered by the kernel of the other side."""
    marker = new_marker()
    echo = struct.pack("!BBHHH", ICMP_ECHO, 0, 0, 77, 1) + marker
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    source, destination = socket.inet_aton(a.ipv4), socket.inet_aton(b.ipv4)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(echo), 0, 0, 64, 1, 0, source, destination)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    tagged = struct.pack("!HH", PRIORITY_5, ETHERTYPE_IPV4) + head + echo
    listener, sender = FrameSocket(a.namespace, a.interface, listens=True), FrameSocket(a.namespace, a.interface)
    try:
        sender.send(ethernet(b.mac, a.mac, DOT1Q, tagged))
        _hear(listener, lambda frame: marker in frame and frame[34:35] == bytes([ICMP_REPLY]))
    finally:
        listener.close()
        sender.close()


def jumbo_pings(a: Side, b: Side, mtu: int) -> dict[str, object]:
    """Pings that fill the interface's MTU, not to be fragmented by IP; one byte more is refused at home."""
    for side in (a, b):
        require(side.namespace.interface(side.interface).mtu == mtu, f"the MTU of {side} is not {mtu}")
    began = time.monotonic()
    out = a.namespace.run("ping", "-n", "-M", "do", "-s", str(mtu - 28), "-i0.02", "-c20", "-W1", b.ipv4)
    times = re.findall(r"time=([\d.]+) ms", out)
    require(len(times) == 20, f"jumbo pings: {out[-300:]}")
    took = time.monotonic() - began
    status, out, error = a.namespace.try_run("ping", "-n", "-M", "do", "-s", str(mtu - 27), "-c1", "-W1", b.ipv4)
    require(
        status != 0 and "message too long" in (out + error).lower(), f"a byte more than the MTU: {(out + error)[-300:]}"
    )
    return {"jumbo_s": round(took, 1), "jumbo_bytes": mtu, "jumbo_rtt_ms": min(map(float, times))}


def _hear(listener: FrameSocket, fits: Callable[[bytes], bool], timeout_s: float = 5.0) -> bytes:
    end = time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0:
        received = listener.receive(left)
        if received is not None and fits(received[1]):
            return received[1]
    raise ScenarioFailed(f"the frame was not heard within {timeout_s:g} s")
