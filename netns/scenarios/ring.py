"""Five members in a ring: every broadcast once at each, whatever link is cut; TCP goes on the other way round.

  n1 ── n2          10.85.L.1 ── 10.85.L.2 on link L, from nL to the next one
 /        \\         nobody forwards IP: each reaches its two neighbours only
n5 ─ n4 ─ n3
"""

import threading
import time
from itertools import pairwise
from pathlib import Path

from netns import links, linux, rules
from netns.checks import throughput
from netns.errors import ScenarioFailed, require
from netns.frames import FrameSocket, Listener, marked_frame, new_marker
from netns.lab import Lab
from netns.node import Node, start_all
from netns.packets import BROADCAST
from netns.scenario import Figures, Scenario
from netns.topology import member_vlan, side, wait_members
from netns.waiting import wait_for

NODES = 5
BROADCASTS = 40  # by each node, after each change
HEARD_S = 1.0  # until then all that will come has come
ROUNDS = 4
STALL_S = 2.0  # the row
REST_S = 12.0  # then nobody changes its way by choice any more (SPEC 6.1: once in 10 s)
LOAD_S = 900.0  # longer than the scenario


class Stalls:
    """How long nothing came in on an interface at a stretch, looked at every 10 ms in a thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._since = time.monotonic()
        self._longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def longest_s(self) -> float:
        """Since the last call; a stall that goes on counts."""
        longest, self._longest = max(self._longest, time.monotonic() - self._since), 0.0
        return longest

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before = self._bytes()
        while not self._ended.wait(0.01):
            now = self._bytes()
            if now > before + 10_000:  # pings and ARP are no stream
                self._longest = max(self._longest, time.monotonic() - self._since)
                self._since, before = time.monotonic(), now

    def _bytes(self) -> int:
        with linux.inside(self._node.namespace.path):
            counters = Path("/proc/thread-self/net/dev").read_text()
        line = next(one for one in counters.splitlines() if one.strip().startswith(f"{side(self._node).interface}:"))
        return int(line.split(":")[1].split()[0])


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("five members in a ring"):
        machines = [lab.namespace(f"n{number}") for number in range(1, NODES + 1)]
        ring = [Node(machine) for machine in machines]
        cables = [*pairwise(range(NODES)), (NODES - 1, 0)]
        for link, (one, other) in enumerate(cables, 1):
            ends = (f"10.85.{link}.1", f"10.85.{link}.2")
            links.veth(machines[one], f"next{link}", f"{ends[0]}/24", machines[other], f"prev{link}", f"{ends[1]}/24")
            ring[one].configure(peers={ends[1]: ring[other]}, vlans=(member_vlan(lab, one + 1),))
        start_all(*ring)
        for one, other in cables:
            ring[one].wait_trunk(ring[other], carrier="udp")
            wait_members(ring[one], ring[other])
        wait_members(ring[0], ring[2])
    listeners = [Listener(node.namespace, side(node).interface) for node in ring]
    lost = 0
    with lab.report.step("every broadcast comes to each of the others once, and not back"):
        lost += _once(ring, listeners)
    talkers = ring[0], ring[2]
    server = throughput.start_iperf_server(side(talkers[1]))
    load = talkers[0].namespace.start(
        "iperf3", "iperf3", "-c", side(talkers[1]).ipv4, "-t", f"{LOAD_S:g}", "-b", "200M"
    )
    stalls: list[float] = []
    watch = Stalls(talkers[1])
    lab.at_end(watch.stop)
    for link, (one, other) in list(enumerate(cables, 1))[: 2 if short else NODES]:
        with lab.report.step(f"link {link} is cut under a TCP stream, and mended"):
            time.sleep(REST_S)
            watch.longest_s()
            devices = ((ring[one].namespace, f"next{link}"), (ring[other].namespace, f"prev{link}"))
            for machine, device in devices:
                machine.nft(rules.cut_cable(device))
            time.sleep(STALL_S + 3)
            lost += _once(ring, listeners)
            for machine, _ in devices:
                rules.remove(machine, "cut", "netdev")
            wait_for(lambda one=one, other=other: _linked(ring[one], ring[other]), 60, "the trunk is back")  # type: ignore[misc]
            lost += _once(ring, listeners)
            stalls.append(round(watch.longest_s(), 2))
            require(load.exit_status is None, f"iperf3 gave up: {load.tail(5)}")
    watch.stop()
    load.stop()
    server.stop()
    require(max(stalls) <= STALL_S, f"TCP stalled: {stalls} s")
    return {"tcp_stalls_s": stalls, "tcp_stall_max_s": max(stalls), "lost_rounds": lost}


def _once(ring: list[Node], listeners: list[Listener]) -> int:
    """Each sends broadcasts; all others hear each once, it hears none of its own.

    What is sent while the tree changes may be lost, and never doubled. Returns how many rounds were lost that way.
    """
    for lost in range(ROUNDS):
        sent = [(node, _broadcast(node)) for node in ring]
        time.sleep(HEARD_S)
        missed = 0
        for source, markers in sent:
            for node, listener in zip(ring, listeners, strict=True):
                wrong = listener.heard(markers) if node is source else listener.repeated(markers)
                require(wrong == 0, f"{node.name} heard {wrong} of {source.name} that it should not")
                missed += 0 if node is source else len(markers) - listener.heard(markers)
        if missed == 0:
            return lost
    raise ScenarioFailed(f"{missed} broadcasts were not heard, in the last of {ROUNDS} rounds")


def _broadcast(node: Node) -> list[bytes]:
    markers = [new_marker() for _ in range(BROADCASTS)]
    sender = FrameSocket(node.namespace, side(node).interface)
    for marker in markers:
        sender.send(marked_frame(BROADCAST, side(node).mac, marker))
    sender.close()
    return markers


def _linked(a: Node, b: Node) -> bool:
    trunks = [
        trunk
        for node, peer in ((a, b), (b, a))
        for trunk in node.status()["trunks"]
        if trunk["peer_id"] == peer.peer_id
    ]
    return len(trunks) == 2 and all(trunk["state"] == "up" for trunk in trunks)


SCENARIO = Scenario(
    name="ring",
    summary="five members in a ring: each broadcast once, any link cut under TCP: it goes on within 2 s, no loop",
    run=run,
    bound_s=300,
    short_bound_s=240,
)
