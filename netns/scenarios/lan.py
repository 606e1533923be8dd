"""What people have a LAN for, with the real daemons, between members that reach each other through a relay only.

a, b, c ── r        VLAN lab: all three, host ports; VLAN jumbo: a and b, MTU 9000; VLAN bridged: a and b, bridge ports
"""

import time
from collections.abc import Callable
from typing import Final

from netns.checks import daemons, layer2, services
from netns.checks.side import Side
from netns.errors import require
from netns.lab import Lab
from netns.node import Node, start_all
from netns.probe import PingProbe
from netns.process import Process
from netns.scenario import Figures, Scenario
from netns.topology import around_relay, member_vlan, require_unreachable, side, wait_members
from netns.waiting import wait_for

VIRTUAL_IP: Final = "10.99.1.200"
JUMBO_MTU: Final = 9000
HANDED_OVER_S: Final = 3.0  # the master says that it goes, and the backup waits 0.6 s (RFC 5798, skew time)
TAKEN_OVER_S: Final = 8.0  # three advertisements and 0.6 s after the last one


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("a relay that is no member, and three members on cables of their own"):
        relay, (a, b, c) = around_relay(lab, ("a", "b", "c"))
        for host, node in ((1, a), (2, b), (3, c)):
            vlans = [member_vlan(lab, host)]
            if node is not c:
                vlans.append(member_vlan(lab, host, label="jumbo", tap="ptap1", network=2, mtu=JUMBO_MTU))
                vlans.append(member_vlan(lab, host, label="bridged", tap="ptap2", network=3, bridge=True))
            # LLDP and spanning tree are what bridges keep to themselves: they pass by an option only.
            node.configure(vlans=tuple(vlans), bpdus=tuple(vlan.label for vlan in vlans))
        start_all(relay, a, b, c)
        for one, other in ((a, b), (b, c), (a, c)):
            wait_members(one, other, timeout_s=30)
        for label in ("jumbo", "bridged"):
            wait_members(a, b, label)
        require_unreachable(a.namespace, "10.89.2.2")
        require_unreachable(b.namespace, "10.89.3.3")
        require(relay.status()["vlans"] == [], "the relay is a member")
    figures: Figures = {}
    at_a, at_b, at_c = side(a), side(b), side(c)
    advertised = daemons.router_advertisements(at_a, at_c)
    adjacency = daemons.ospf(at_c, at_b)
    neighbours = daemons.lldp(at_a, at_b)
    bridges = daemons.spanning_tree(side(a, 2), side(b, 2))
    routers = [daemons.vrrp(at_a, daemons.VRRP_MASTER_PRIORITY, VIRTUAL_IP)]
    routers.append(daemons.vrrp(at_b, daemons.VRRP_BACKUP_PRIORITY, VIRTUAL_IP))
    for name, what, check in (
        ("dhcp", "DHCP: dnsmasq leases to a real client", services.dhcp),
        ("mdns", "mDNS: avahi finds a service of the other side", services.mdns),
    ):
        with lab.report.step(what):
            began = time.monotonic()
            figures[name] = check(at_a, at_b)
            figures[f"{name}_s"] = round(time.monotonic() - began, 1)
    for name, what, started in (
        ("ra", "IPv6: an address by the router advertisements of dnsmasq", advertised),
        ("lldp", "LLDP: lldpad lists the other side", neighbours),
        ("stp", "STP: two bridges of Open vSwitch agree on their root", bridges),
        ("ospf", "OSPF: BIRD is fully adjacent, a route is learned and used", adjacency),
    ):
        with lab.report.step(what):
            figures[f"{name}_s"], figures[name] = started.wait(30)
            started.stop()
    with lab.report.step("Wake-on-LAN: the sleeper sees etherwake's magic packet"):
        figures["wake_on_lan_s"] = layer2.wake_on_lan(at_a, at_b)
    with lab.report.step("frames with 802.1Q and 802.1ad tags pass as they are; a priority-tagged ping is answered"):
        began = time.monotonic()
        figures["tags"] = layer2.tagged_frames(at_a, at_b)
        layer2.priority_tagged_ping(at_a, at_b)
        figures["tags_s"] = round(time.monotonic() - began, 1)
    with lab.report.step(f"pings that fill an MTU of {JUMBO_MTU}, not to be fragmented by IP"):
        figures |= layer2.jumbo_pings(side(a, 1), side(b, 1), JUMBO_MTU)
    figures |= virtual_router(lab, (a, b, c), routers)
    return figures


def virtual_router(lab: Lab, nodes: tuple[Node, Node, Node], routers: list[Process]) -> Figures:
    """The virtual address is handed over, taken back and, when the master's machine dies, taken over."""
    a, b, c = nodes
    at_a, at_b = side(a), side(b)
    with lab.report.step("VRRP: the master has the virtual address"):
        wait_for(lambda: daemons.has_address(at_a, VIRTUAL_IP), 15, "the master has the address")
        probe = PingProbe(c.namespace, VIRTUAL_IP, interface=side(c).interface)
        probe.wait_for_reply(time.monotonic(), 10, "the virtual address answers")
    figures: dict[str, float] = {}
    speaking = PingProbe(c.namespace, at_a.ipv4)  # the old master's machine is heard all the time
    with lab.report.step("VRRP: the master goes, its machine lives on: the backup takes the address"):
        figures["vrrp_handed_over_s"] = _until_answered(probe, routers[0].stop, at_b)
    with lab.report.step("VRRP: the master comes back and takes it again"):
        figures["vrrp_taken_back_s"] = _until_answered(
            probe, lambda: routers.append(daemons.vrrp(at_a, daemons.VRRP_MASTER_PRIORITY, VIRTUAL_IP)), at_a
        )
    with lab.report.step("VRRP: the master's machine dies: the backup takes the address"):

        def die() -> None:
            a.kill()  # first: keepalived would say goodbye
            routers[-1].kill()

        figures["vrrp_taken_over_s"] = _until_answered(probe, die, at_b)
    probe.stop()
    speaking.stop()
    is_quick = max(figures["vrrp_handed_over_s"], figures["vrrp_taken_back_s"]) <= HANDED_OVER_S
    require(is_quick and figures["vrrp_taken_over_s"] <= TAKEN_OVER_S, f"the virtual address moves slowly: {figures}")
    return {**figures}


def _until_answered(probe: PingProbe, change: Callable[[], object], now_at: Side) -> float:
    """The longest silence of the virtual address around a change after which another machine has it."""
    began = time.monotonic()
    change()
    wait_for(lambda: daemons.has_address(now_at, VIRTUAL_IP), 20, f"{now_at} has the virtual address", interval_s=0.02)
    moved = time.monotonic()
    answered = probe.wait_for_reply(moved, 45, f"the virtual address answers at {now_at}")
    return round(probe.longest_silence(began, answered), 2)


SCENARIO = Scenario(
    name="lan",
    summary="through a relay: DHCP, mDNS, IPv6 RA, VRRP, OSPF, LLDP, STP, Wake-on-LAN, jumbo and tagged frames",
    run=run,
    bound_s=120,
    short_bound_s=90,
)
