"""A VLAN from its creation to its end: five come in, one is kicked, one leaves, the keys change."""

import time

from netns import clubs
from netns.errors import require
from netns.lab import Lab
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.waiting import wait_for

FIRST_PING_S = 3.0  # the row: from one typed command to the first ping


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("six nodes start; none knows another"):
        nodes = clubs.lan(lab, 6)
    founder, *others = nodes
    with lab.report.step("create"):
        began = time.monotonic()
        clubs.create(founder)
        created_s = time.monotonic() - began
    first_ping: list[float] = []
    joined: list[float] = []
    for node in others:
        with lab.report.step(f"invite, join: {node.name}"):
            line = clubs.invite(founder)
            probe = PingProbe(node.namespace, clubs.side(founder).ipv4, interface=clubs.TAP)
            began = time.monotonic()
            joined.append(round(clubs.join(node, line), 2))
            first_ping.append(round(probe.wait_for_reply(began, 20, f"{node.name} pings") - began, 2))
            probe.stop()
            require(first_ping[-1] <= FIRST_PING_S, f"first ping {first_ping[-1]} s after the command was typed")
    with lab.report.step("all are in one epoch, and everybody pings everybody"):
        clubs.agree(*nodes)
        clubs.all_ping(*nodes)
    with lab.report.step("a used invite is refused, nonsense is, too"):
        require("is in a VLAN" in clubs.refused(others[0], "join", line), "joining twice is refused otherwise")
        clubs.refused(others[0], "join", line[:-3] + "xyz")
        require("only admins" in clubs.refused(others[0], "invite", clubs.LABEL), "a member may not invite")
    kicked, leaver, *rest = others
    with lab.report.step("kick one: its interface goes, the others go on"):
        clubs.vlan(founder, "kick", clubs.LABEL, kicked.peer_id)
        wait_for(lambda: not clubs.is_in(kicked), 10, "the kicked one knows")
        clubs.agree(founder, leaver, *rest)
        clubs.all_ping(founder, leaver, *rest)
    with lab.report.step("leave"):
        left = clubs.vlan(leaver, "leave", clubs.LABEL, timeout_s=40)
        wait_for(lambda: not clubs.is_in(leaver), 30, f"it is gone: {left}")
        epoch = clubs.agree(founder, *rest)
    with lab.report.step("rotate"):
        clubs.vlan(founder, "rotate", clubs.LABEL)
        later = clubs.agree(founder, *rest)
        require(later > epoch, f"epoch {later} after {epoch}")
        clubs.all_ping(founder, *rest)
    with lab.report.step("all restart: they are members still, in the same epoch"):
        for node in (founder, *rest):
            node.terminate()
        for node in (founder, *rest):
            node.start()
        for node in (founder, *rest):
            node.wait_ready()
        clubs.agree(founder, *rest)
        clubs.all_ping(founder, *rest)
    return {
        "create_s": round(created_s, 2),
        "join_s": joined,
        "first_ping_s": first_ping,
        "first_ping_max_s": max(first_ping),
        "epoch": later,
    }


SCENARIO = Scenario(
    name="vlan-life",
    summary="create, invite, five join (first ping in 3 s), kick one, one leaves, rotate, all restart",
    run=run,
    bound_s=240,
    short_bound_s=180,
)
