"""A multicast stream of 50,000 frames a second to three members, and what one of them notices beside it."""

import contextlib
import socket
import threading
import time
from typing import Final

from netns.checks import reach
from netns.checks.side import Side
from netns.errors import require
from netns.lab import Lab
from netns.node import start_all
from netns.scenario import Figures, Scenario
from netns.topology import side, star, wait_members

MEMBERS: Final = 3
FRAMES_PER_S: Final = 50_000
GROUP: Final = ("239.1.2.3", 7000)
PAYLOAD: Final = bytes(158)  # a frame of 200 bytes
UDP_GRO: Final = 104  # linux/udp.h
QUIET_S: Final = 1.0
PAUSE_S: Final = 0.0002  # ours: 10 frames at a time
MIN_ARRIVED: Final = 0.95  # ours: sender, hub, members and these checks share two cores
MAX_RTT_MS: Final = 5.0  # ours: frames that queue in front of others would cost tens


class Sender:
    """Multicast from a thread until it is stopped."""

    def __init__(self, source: Side) -> None:
        self.sent = 0
        self._socket = source.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source.ipv4))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="multicast", daemon=True)
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> float:
        """Returns how long it ran, in seconds."""
        self._stopped.set()
        self._thread.join()
        self._socket.close()
        return time.monotonic() - self._began

    def _run(self) -> None:
        while not self._stopped.is_set():
            due = int((time.monotonic() - self._began) * FRAMES_PER_S)
            while self.sent < due:
                self._socket.sendto(PAYLOAD, GROUP)
                self.sent += 1
            time.sleep(PAUSE_S)


class Receiver:
    """Counts what arrives at a member; datagrams that the system hands over merged count one by one."""

    def __init__(self, member: Side) -> None:
        self._bytes = 0
        self._socket = member.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self._socket.bind(GROUP)
        joined = socket.inet_aton(GROUP[0]) + socket.inet_aton(member.ipv4)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        self._socket.settimeout(QUIET_S)
        self._thread = threading.Thread(target=self._run, name="multicast receiver", daemon=True)
        self._thread.start()

    def count(self) -> int:
        """Waits until nothing has come for a second."""
        self._thread.join()
        self._socket.close()
        return self._bytes // len(PAYLOAD)

    def _run(self) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                self._bytes += len(self._socket.recv(65_536))


def run(lab: Lab, short: bool) -> Figures:
    hub, nodes = star(lab, MEMBERS)
    with lab.report.step(f"a hub and {MEMBERS} members start and find each other"):
        start_all(hub, *nodes)
        for node in nodes:
            wait_members(hub, node)
    source, members = side(hub), [side(node) for node in nodes]
    pings = 200 if short else 2000
    with lab.report.step("unicast alone"):
        idle = reach.ping(source, members[0], pings)
    with lab.report.step(f"the same beside {FRAMES_PER_S} multicast frames a second"):
        receivers = [Receiver(member) for member in members]
        sender = Sender(source)
        loaded = reach.ping(source, members[0], pings, lost_at_most=pings // 50)
        lasted_s = sender.stop()
        arrived = [receiver.count() / sender.sent for receiver in receivers]
    require(min(arrived) >= MIN_ARRIVED, f"of {sender.sent} frames only these parts arrived: {arrived}")
    require(loaded["rtt_median_ms"] <= MAX_RTT_MS, f"round trip beside the stream: {loaded}, alone: {idle}")
    return {
        "frames_per_s": round(sender.sent / lasted_s),
        "arrived": [round(part, 4) for part in arrived],
        "rtt_alone_ms": idle["rtt_median_ms"],
        "rtt_beside_ms": loaded["rtt_median_ms"],
        "rtt_p99_alone_ms": idle["rtt_p99_ms"],
        "rtt_p99_beside_ms": loaded["rtt_p99_ms"],
    }


SCENARIO = Scenario(
    name="group-load",
    summary="50,000 multicast frames a second to three members: they arrive, and unicast does not wait for them",
    run=run,
    bound_s=180,
    short_bound_s=60,
)
