"""One LAN bridged at two members, a LAN that leads back, and floods: no loop, and nobody else notices.

hub ── a, b, c, d       members, all bridging; a and b are on one LAN with h, d's LAN throws everything back
a, b ── lan ── h
d ── mirror
"""

import re
import statistics
import threading
import time
from dataclasses import replace
from typing import Any, Final

from netns import clubs, lans, links
from netns.checks.side import Side
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame, new_marker
from netns.lab import Lab
from netns.namespace import Namespace
from netns.node import Node, grown, start_all
from netns.packets import BROADCAST
from netns.scenario import Figures, Scenario
from netns.topology import LABEL, side, star
from netns.waiting import wait_for

WITHIN_S: Final = 3.0  # the row
FLOOD_PER_S: Final = 5_000  # twenty times what is allowed
GROWTH: Final = 1.2  # the row: p99 of other traffic
SHORT_GROWTH: Final = (
    5.0  # make test runs on whatever machine there is, in few rounds: 2.2 was seen with one of two cores taken
)
PINGS: Final = 200  # in a round; many short ones in turn, for what else runs on the machine comes in bursts
PING_GAP_S: Final = 0.002
ROUNDS: Final = 25
SHORT_ROUNDS: Final = 9
SILENCE_S: Final = 3.0  # a port that is attached listens for so long before it may forward


class Flood:
    """Broadcasts from a thread until it is stopped."""

    def __init__(self, source: Side) -> None:
        self.sent = 0
        self._socket = FrameSocket(source.namespace, source.interface)
        self._frame = marked_frame(BROADCAST, source.mac, new_marker())
        self._stopped = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="flood", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Returns how many a second it sent."""
        self._stopped.set()
        self._thread.join()
        self._socket.close()
        return self.sent / (time.monotonic() - self._began)

    def _run(self) -> None:
        while not self._stopped.wait(0.002):
            due = int((time.monotonic() - self._began) * FLOOD_PER_S)
            while self.sent < due:
                self._socket.send(self._frame)
                self.sent += 1


class Mirror:
    """A LAN that leads back: what comes in goes out again, once."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self._socket = FrameSocket(namespace, interface, listens=True)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()
        namespace.lab.at_end(self.stop)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            heard = self._socket.receive(0.1)
            if heard is not None:
                self._socket.send(heard[1])


def run(lab: Lab, short: bool) -> Figures:
    hub, (a, b, c, d) = star(lab, 4)
    lan, mirror = lab.namespace("lan"), lab.namespace("mirror")
    for node, port in ((a, "pa"), (b, "pb")):
        links.veth(lan, port, None, node.namespace, "l1", None, mtu=1370)
    host = lans.add_host(lab, "h", 101, "06:00:00:00:00:01", (lan, "ph"))
    links.bridge(lan, "br0", ["pa", "pb", "ph"])
    links.veth(mirror, "m0", None, d.namespace, "l1", None, mtu=1370)
    for number, node in enumerate((a, b), 1):
        lans.make_bridge(node, number, "l1")
    lans.make_bridge(d, 4)
    for node in (hub, a, b, c, d):
        (vlan,) = node.config.vlans
        addresses = () if node in (a, b, d) else vlan.addresses  # they move to the bridge
        node.configure(vlans=(replace(vlan, bridge=True, addresses=addresses),))
    with lab.report.step("a hub and four members start; one of them bridges the LAN"):
        start_all(hub, a, b, c, d)
        lans.put_tap(a)
        for node in (hub, a, b, c, d):
            _wait_port(node, "forwarding")
        wait_for(lambda: _pings(side(c), host), 10, "c reaches the host on the LAN")
    heard = {name: Listener(*where) for name, where in _listening(host, c)}
    loops: Figures = {}
    with lab.report.step("a second member bridges the same LAN: one of the two blocks, and no frame comes back"):
        markers = _Markers(host, c)
        lans.put_tap(b)
        began = time.monotonic()
        time.sleep(0.2)  # its port listens by then
        blocked, forwarder = wait_for(lambda: _roles(a, b), WITHIN_S + 5, "one blocks and one forwards")
        loops["settled_after_s"] = round(time.monotonic() - began, 2)
        _wait_port(blocked, "blocked")
        require(_port(blocked)["member"] == forwarder.peer_id, f"the status does not name it: {_port(blocked)}")
        time.sleep(1)
        loops |= markers.judge(heard)
    with lab.report.step("the LAN is bridged by two that forward: within 3 s one blocks"):
        lan.run("ip", "link", "set", _port_of(blocked, a), "down")
        _wait_port(blocked, "forwarding")
        lan.run("ip", "link", "set", _port_of(blocked, a), "up")
        began = time.monotonic()
        markers = _Markers(host, c)  # what was on its way before the cable was there may arrive by it, once
        blocked, forwarder = wait_for(lambda: _roles(a, b), WITHIN_S + 5, "one blocks again", interval_s=0.02)
        loops["blocks_after_s"] = round(time.monotonic() - began, 2)
        time.sleep(1)
        loops |= {f"joined_{name}": count for name, count in markers.judge(heard, twice_allowed=True).items()}
    with lab.report.step("the one that forwards is killed: the other takes over"):
        forwarder.kill()
        began = time.monotonic()
        _wait_port(blocked, "forwarding")
        loops["took_over_after_s"] = round(time.monotonic() - began, 2)
        wait_for(lambda: _pings(side(c), host), 10, "c reaches the host again")
        loops["reached_again_after_s"] = round(time.monotonic() - began, 2)
    for name in ("settled_after_s", "blocks_after_s", "took_over_after_s"):
        limit = SILENCE_S + 0.5 if name == "settled_after_s" else WITHIN_S
        require(float(str(loops[name])) <= limit, f"{name}: {loops[name]}")
    with lab.report.step("a LAN that leads back: the port is off, and the status says why"):
        d.namespace.run("ip", "link", "set", "l1", "master", lans.BRIDGE)
        Mirror(mirror, "m0")
        lans.put_tap(d)
        began = time.monotonic()
        _wait_port(d, "off")
        loops["off_after_s"] = round(time.monotonic() - began, 2)
        require("came back" in str(_port(d)["cause"]), f"no cause: {_port(d)}")
        require("came back" in d.log(), "no word of it in the log")
    rounds = SHORT_ROUNDS if short else ROUNDS
    figures = dict(loops)
    with lab.report.step(f"{FLOOD_PER_S} broadcasts a second come in at a member: they are policed, others go on"):
        figures |= _flooded(host, (lan, _port_of(blocked, a)), blocked, (side(hub), side(c)), rounds)
        growth = SHORT_GROWTH if short else GROWTH
        beside, alone = float(str(figures["p99_beside_ms"])), float(str(figures["p99_alone_ms"]))
        require(beside <= growth * alone, f"other traffic notices: {figures}")
    return figures


def _flooded(host: Side, cable: tuple[Namespace, str], port: Node, ends: tuple[Side, Side], rounds: int) -> Figures:
    """Round trips between two members while the flood comes in at a third one, and with its cable pulled, in turn.

    The host floods its LAN all the time: what this costs a machine of two cores is no matter of ours.
    """
    alone: list[float] = []
    beside: list[float] = []
    before, flood = port.drops(), Flood(host)
    for _ in range(rounds):
        for state, times in (("down", alone), ("up", beside)):
            cable[0].run("ip", "link", "set", cable[1], state)
            time.sleep(0.2)  # what a bucket held is leaving
            times.append(_p99_ms(*ends))
    rate = flood.stop()
    policed = grown(before, port.drops()).get("storm_broadcast", 0)
    require(policed > 0, f"nothing was policed: {grown(before, port.drops())}")
    require("port floods" in port.log(), "no word of it in the log")
    p99_alone, p99_beside = statistics.median(alone), statistics.median(beside)
    figures: Figures = {
        "flood_per_s": round(rate),
        "policed": policed,
        "p99_alone_ms": round(p99_alone, 3),
        "p99_beside_ms": round(p99_beside, 3),
        "p99_runs_ms": [alone, beside],
    }
    return figures


def _p99_ms(one: Side, other: Side) -> float:
    """Of one round of pings."""
    words = ("ping", "-n", "-i", f"{PING_GAP_S:g}", "-c", str(PINGS), "-W", "1", other.ipv4)
    _, out, error = one.namespace.try_run(*words, timeout_s=20)
    times = sorted(float(found) for found in re.findall(r"time=([\d.]+) ms", out))
    require(len(times) >= PINGS * 98 // 100, f"{len(times)} of {PINGS} pings answered\n{(out + error)[-300:]}")
    return times[len(times) * 99 // 100]


class _Markers:
    """Broadcasts from the LAN and from afar, each unmistakable, until they are judged."""

    def __init__(self, host: Side, far: Node) -> None:
        self._stopped = threading.Event()
        self._sent: dict[str, list[bytes]] = {"host": [], "far": []}
        ends = {"host": host, "far": side(far)}
        self._sockets = {name: FrameSocket(end.namespace, end.interface) for name, end in ends.items()}
        self._macs = {name: end.mac for name, end in ends.items()}
        self._thread = threading.Thread(target=self._run, name="markers", daemon=True)
        self._thread.start()

    def judge(self, heard: dict[str, Listener], *, twice_allowed: bool = False) -> Figures:
        """None came back to where it was sent, none came twice, and they did come.

        Args:
            twice_allowed: two forwarded for a moment, and what came from afar came by both.
        """
        self._stopped.set()
        self._thread.join()
        time.sleep(0.5)
        for one in self._sockets.values():
            one.close()
        all_twice = 0
        for name, other in (("host", "far"), ("far", "host")):
            sent = self._sent[name]
            back, twice = heard[name].heard(sent), heard[other].repeated(sent)
            require(back == 0, f"{back} of {len(sent)} frames came back to {name}")
            require(twice == 0 or twice_allowed, f"{twice} of {len(sent)} frames of {name} came twice")
            all_twice += twice
            arrived = heard[other].heard(sent)
            require(arrived > 0, f"no frame of {name} arrived")
        count = sum(len(sent) for sent in self._sent.values())
        came = sum(heard[other].heard(self._sent[name]) for name, other in (("host", "far"), ("far", "host")))
        return {"frames": count, "arrived": came, "came_back": 0, "came_twice": all_twice}

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            for name, out in self._sockets.items():
                marker = new_marker()
                self._sent[name].append(marker)
                out.send(marked_frame(BROADCAST, self._macs[name], marker))


def _listening(host: Side, far: Node) -> list[tuple[str, tuple[Namespace, str]]]:
    return [("host", (host.namespace, host.interface)), ("far", (far.namespace, side(far).interface))]


def _port_of(node: Node, a: Node) -> str:
    """The switch's end of the cable to a member."""
    return "pa" if node is a else "pb"


def _roles(a: Node, b: Node) -> tuple[Node, Node] | None:
    """Who is blocked and who forwards."""
    states = {_port(node)["state"]: node for node in (a, b)}
    return (states["blocked"], states["forwarding"]) if states.keys() == {"blocked", "forwarding"} else None


def _port(node: Node) -> dict[str, Any]:
    """By the admin socket itself: starting a program would take longer than what is looked at."""
    (status,) = clubs.ask(node, "status")
    return next(dict(one["port"]) for one in status["vlans"] if one["label"] == LABEL)


def _wait_port(node: Node, state: str) -> None:
    wait_for(lambda: _port(node)["state"] == state, 20, f"{node.name} is {state}", interval_s=0.02)


def _pings(one: Side, other: Side) -> bool:
    return one.namespace.try_run("ping", "-nqc1", "-W1", other.ipv4)[0] == 0


SCENARIO = Scenario(
    name="storm",
    summary="one LAN at two members: one blocks within 3 s; a LAN that leads back: off; a flood: policed, p99 stays",
    run=run,
    bound_s=150,
    short_bound_s=75,
)
