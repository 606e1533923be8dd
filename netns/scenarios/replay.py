"""What was captured is sent again: as it was, damaged, by the relay, after restarts. Nothing is delivered."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace

from netns.capture import Capture
from netns.checks import reach
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame, new_marker
from netns.lab import Lab
from netns.node import Node, grown
from netns.packets import BROADCAST, Datagram
from netns.scenario import Figures, Scenario
from netns.topology import A_LINE_IP, B_LINE_IP, R_TO_A_IP, R_TO_B_IP, Line, line, side, start_line, wait_members
from netns.waiting import wait_for

CARRIER_PORT = 4511


def run(lab: Lab, short: bool) -> Figures:
    nodes = line(lab, offloads=False)  # what is captured is what was on the wire, packet by packet
    captures = [Capture(nodes.relay.namespace, interface) for interface in ("ra", "rb")]
    start_line(nodes)
    test = Replay(nodes)
    with lab.report.step("marked frames both ways, each delivered once"):
        test.send_marked(100 if short else 1000)
        test.require_each_once()
    datagrams = [found for capture in captures for packet in capture.stop() if (found := Datagram.parse(packet.data))]
    require(len(datagrams) >= len(test.markers), f"only {len(datagrams)} datagrams were captured")
    figures: Figures = {"captured": len(datagrams), "marked_frames": len(test.markers)}

    # "By the relay itself": half of what is sent again leaves from the relay's own interfaces, with its addresses.
    for name, kind in (("as they were", same), ("with flipped bits", flipped), ("truncated", truncated)):
        with lab.report.step(f"all {len(datagrams)} sent again, {name}, by everyone who sent them, the relay too"):
            before = {node.name: node.drops() for node in test.nodes}
            sent = test.inject(list(kind(datagrams)))
            test.require_each_once()
            drops = {node.name: grown(before[node.name], node.drops()) for node in test.nodes}
            counted = sum(sum(reasons.values()) for reasons in drops.values())
            # Each injected packet ends as one counted drop; most must, or the test would prove nothing.
            require(counted >= 0.8 * sent, f"{sent} packets sent again, only {counted} counted as dropped: {drops}")
            figures[f"sent_again_{name.replace(' ', '_')}"] = sent
            figures[f"drops_{name.replace(' ', '_')}"] = drops
    with lab.report.step("traffic still flows: the replays silenced nobody"):
        reach.ping(test.a, test.b, count=100)
    for node, how in (
        (nodes.a, "restart"),
        (nodes.b, "kill -9"),
        (nodes.relay, "restart"),
    ):
        with lab.report.step(f"after a {how} of {node.name}: all sent again"):
            if how == "restart":
                node.terminate()
            else:
                node.kill()
            node.start().wait_ready()
            test.relisten()
            test.inject(list(same(datagrams)))  # at the worst moment: before it knows anyone
            wait_members(nodes.a, nodes.b, timeout_s=40)
            test.inject(list(same(datagrams)))
            test.require_each_once()
            reach.ping(test.a, test.b, count=50)
    return figures


class Replay:
    """Marked frames between the members, and listeners that count each for the whole scenario."""

    def __init__(self, nodes: Line) -> None:
        self.line = nodes
        self.nodes: tuple[Node, ...] = (nodes.a, nodes.relay, nodes.b)
        self.a, self.b = side(nodes.a), side(nodes.b)
        self.markers: list[bytes] = []
        self._delivered: dict[bytes, int] = {}
        self._listeners: list[Listener] = []
        self.relisten()
        self._wires = {
            A_LINE_IP: FrameSocket(nodes.a.namespace, "ua"),
            B_LINE_IP: FrameSocket(nodes.b.namespace, "ub"),
            R_TO_A_IP: FrameSocket(nodes.relay.namespace, "ra"),
            R_TO_B_IP: FrameSocket(nodes.relay.namespace, "rb"),
        }

    def relisten(self) -> None:
        """A node that restarts makes its TAP anew; what was counted stays counted."""
        self._collect()
        for listener in self._listeners:
            listener.stop()
        self._listeners = [Listener(side.namespace, side.interface) for side in (self.a, self.b)]

    def send_marked(self, count: int) -> None:
        for sender_side, receiver_side in ((self.a, self.b), (self.b, self.a)):
            sender = FrameSocket(sender_side.namespace, sender_side.interface)
            for number in range(count):
                marker = new_marker()
                self.markers.append(marker)
                sender.send(marked_frame(BROADCAST if number % 2 else receiver_side.mac, sender_side.mac, marker, 200))
                if number % 20 == 19:  # bursts that fit every queue
                    wait_for(lambda marker=marker: self._count(marker) > 0, 5, "a marked frame arrives")  # type: ignore[misc]
            sender.close()
        wait_for(lambda: all(self._count(marker) for marker in self.markers), 5, "all marked frames arrive")

    def require_each_once(self) -> None:
        several = sum(1 for marker in self.markers if self._count(marker) > 1)
        unknown = sum(listener.test_frames for listener in self._listeners)
        ours = sum(listener.count(marker) for listener in self._listeners for marker in self.markers)
        require(several == 0, f"{several} frames were delivered more than once")
        require(unknown == ours, f"{unknown - ours} damaged frames were delivered")

    def inject(self, datagrams: list[Datagram]) -> int:
        """Puts each on the wire where it came from, with its own addresses; then lets the receivers deal with them.

        Returns how many were the data plane's own: those that it must count. (The others are QUIC's.)
        """
        for number, datagram in enumerate(datagrams):
            source = ".".join(str(byte) for byte in datagram.source)
            self._wires[source].send(datagram.emit())
            if number % 50 == 49:  # not faster than a node can count
                time.sleep(0.01)
        time.sleep(1.0)
        return sum(1 for datagram in datagrams if CARRIER_PORT in (datagram.source_port, datagram.destination_port))

    def _count(self, marker: bytes) -> int:
        return self._delivered.get(marker, 0) + sum(listener.count(marker) for listener in self._listeners)

    def _collect(self) -> None:
        self._delivered |= {marker: self._count(marker) for marker in self.markers}


def same(datagrams: list[Datagram]) -> Iterator[Datagram]:
    yield from datagrams


def flipped(datagrams: list[Datagram]) -> Iterator[Datagram]:
    """One bit of each is another, at a place drawn with a fixed seed."""
    draw = random.Random(1)
    for datagram in datagrams:
        payload = bytearray(datagram.payload)
        if payload:
            payload[draw.randrange(len(payload))] ^= 1 << draw.randrange(8)
            yield changed(datagram, bytes(payload))


def truncated(datagrams: list[Datagram]) -> Iterator[Datagram]:
    draw = random.Random(2)
    for datagram in datagrams:
        if datagram.payload:
            yield changed(datagram, datagram.payload[: draw.randrange(len(datagram.payload))])


def changed(datagram: Datagram, payload: bytes) -> Datagram:
    return replace(datagram, payload=payload)


SCENARIO = Scenario(
    name="replay",
    summary="every captured packet again, flipped or truncated, by the relay too, after restarts: nothing is delivered",
    run=run,
    bound_s=300,
    short_bound_s=150,
)
