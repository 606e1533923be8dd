"""Hosts behind two members' bridges: they reach all members, one that moves is followed, one that flaps is frozen.

hub ── a, b, c          three members; a and b have a bridge with their TAP in it, c has none
a ── h1, roam           roam has a second cable, to b
b ── h2
"""

import time
from dataclasses import replace
from typing import Any, Final

from netns import clubs, lans
from netns.checks import reach
from netns.checks.side import Side
from netns.errors import require
from netns.frames import FrameSocket, marked_frame, new_marker
from netns.lab import Lab
from netns.node import Node, grown, start_all
from netns.packets import BROADCAST
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.topology import LABEL, side, star
from netns.waiting import wait_for

FOUND_S: Final = 1.0  # the row
MOVES: Final = 3  # by one MAC: five freeze it
MOVE_GAP_S: Final = 0.4  # longer than it takes to believe a move (SPEC 14.3)
FLAPS: Final = 8


def run(lab: Lab, short: bool) -> Figures:
    hub, (a, b, c) = star(lab, 3)
    h1 = lans.add_host(lab, "h1", 101, "06:00:00:00:00:01", (a.namespace, "l1"))
    h2 = lans.add_host(lab, "h2", 102, "06:00:00:00:00:02", (b.namespace, "l1"))
    roam = lans.add_host(lab, "roam", 103, "06:00:00:00:00:03", (a.namespace, "l2"), (b.namespace, "l2"))
    bridges = [lans.make_bridge(a, 1, "l1", "l2"), lans.make_bridge(b, 2, "l1", "l2")]
    for node in (hub, a, b, c):
        (vlan,) = node.config.vlans
        addresses = () if node in (a, b) else vlan.addresses  # they move to the bridge
        node.configure(vlans=(replace(vlan, bridge=True, addresses=addresses),))
    with lab.report.step("a hub and three members start; two put their interface into a bridge"):
        start_all(hub, a, b, c)
        for node in (a, b):
            lans.put_tap(node)
        for node in (hub, a, b, c):
            wait_for(lambda node=node: _vlan(node)["port"]["state"] == "forwarding", 20, f"{node.name} forwards")  # type: ignore[misc]
    ends = [side(hub), side(c), *bridges, h1, h2, roam]
    with lab.report.step("every host and every member reaches every other"):
        for one in ends:
            for other in ends:
                if one is not other:
                    wait_for(lambda one=one, other=other: _pings(one, other), 10, f"{one} reaches {other}")  # type: ignore[misc]
        reach.arp(h1, h2)
    with lab.report.step("unicast goes to the one member that has the host"):
        wait_for(lambda: _place(c, roam.mac) == a.peer_id, 5, "c knows where roam is")
        rtt = reach.ping(side(c), h1, 100 if short else 500, 0.01, lost_at_most=1)
    silences = []
    for number in range(1, MOVES + 1):
        with lab.report.step(f"move {number}: roam pulls its cable and plugs it in at the other bridge"):
            probe, far = PingProbe(c.namespace, roam.ipv4), PingProbe(h1.namespace, roam.ipv4)
            probe.wait_for_reply(time.monotonic(), 10, "c reaches roam")
            far.wait_for_reply(time.monotonic(), 10, "h1 reaches roam")
            roam, plugged_at = lans.plug(roam, number % 2)
            for ping in (probe, far):
                silences.append(ping.wait_for_reply(plugged_at, 10, "roam is found again") - plugged_at)
                ping.stop()
            target, mac = (a, b)[number % 2].peer_id, roam.mac
            wait_for(lambda target=target, mac=mac: _place(c, mac) == target, 2, "c has it there")  # type: ignore[misc]
    require(max(silences) <= FOUND_S, f"a host that moved was found after {silences} s")
    with lab.report.step("one MAC on both LANs: frozen, everybody says so, the other member's frames are refused"):
        flapper = bytes.fromhex("060000000009")
        before = [node.drops() for node in (a, b)]
        sockets = [FrameSocket(host.namespace, host.interface) for host in (h1, h2)]
        frozen_after = None
        for number in range(2 * FLAPS):
            sockets[number % 2].send(marked_frame(BROADCAST, flapper, new_marker()))
            time.sleep(MOVE_GAP_S)
            if frozen_after is None and all(_frozen(node, flapper) for node in (a, b, c, hub)):
                frozen_after = number  # of moves: the first frame is none
        require(frozen_after is not None, f"not frozen: {_host(c, flapper)}")
        for sender in sockets:
            sender.close()
        refused = [grown(old, node.drops()).get("mac_frozen", 0) for old, node in zip(before, (a, b), strict=True)]
        require(max(refused) > 0 and min(refused) == 0, f"refused at a and b: {refused}")
        found = _host(c, flapper)
        require(
            found["member"] == a.peer_id and found["claimed_by"] == [b.peer_id],
            f"frozen where it was first, with who claimed it: {found}",
        )
        require("host frozen" in c.log() and b.peer_id in c.log(), "no word of it in c's log")
    with lab.report.step("everything else goes on"):
        for one, other in ((h1, h2), (side(c), roam), (side(hub), h2)):
            require(_pings(one, other), f"{one} does not reach {other}")
    return {
        "found_after_s": [round(one, 3) for one in silences],
        "found_after_max_s": round(max(silences), 3),
        "frozen_after_moves": frozen_after,
        "refused_frames": max(refused),
        "rtt_median_ms": rtt["rtt_median_ms"],
    }


def _vlan(node: Node) -> dict[str, Any]:
    """By the admin socket itself: starting a program would take longer than what is looked at."""
    (status,) = clubs.ask(node, "status")
    return next(dict(one) for one in status["vlans"] if one["label"] == LABEL)


def _host(node: Node, mac: bytes) -> dict[str, Any]:
    return next((dict(one) for one in _vlan(node)["hosts"] if one["mac"] == mac.hex(":")), {})


def _place(node: Node, mac: bytes) -> str | None:
    found = _host(node, mac).get("member")
    return str(found) if found is not None else None


def _frozen(node: Node, mac: bytes) -> bool:
    return bool(_host(node, mac).get("frozen"))


def _pings(one: Side, other: Side) -> bool:
    return one.namespace.try_run("ping", "-nqc1", "-W1", other.ipv4)[0] == 0


SCENARIO = Scenario(
    name="bridge",
    summary="hosts behind two members' bridges reach all; one that moves is found within 1 s, one that flaps is frozen",
    run=run,
    bound_s=120,
    short_bound_s=45,
)
