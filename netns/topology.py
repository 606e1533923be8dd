"""The networks that scenarios share, drawn.

pair            a ──────── b            10.80.0.1   10.80.0.2

line            a ── r ── b             10.81.1.1   10.81.1.254 | 10.81.2.254   10.81.2.2
                                        r does not forward: a and b have no route to each other

around a relay  r ── a, b, …            10.89.N.254  10.89.N.N
                                        r does not forward either

star            hub ── n1, n2, …        10.84.N.1   10.84.N.2
"""

from dataclasses import dataclass
from typing import Any, Final

from netns import links
from netns.checks.side import Side
from netns.emulator import EmulatedLink, Impairment
from netns.errors import require
from netns.identity import create_secret
from netns.lab import Lab
from netns.namespace import Namespace
from netns.node import Node, start_all
from netns.nodeconfig import VlanConfig
from netns.waiting import wait_for

LABEL: Final = "lab"
A_IP: Final = "10.80.0.1"
B_IP: Final = "10.80.0.2"
A_LINE_IP: Final = "10.81.1.1"
R_TO_A_IP: Final = "10.81.1.254"
R_TO_B_IP: Final = "10.81.2.254"
B_LINE_IP: Final = "10.81.2.2"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes of one VLAN, linked directly."""

    a: Node
    b: Node


@dataclass(frozen=True, slots=True)
class Line:
    """Two nodes of one VLAN, and between them a relay that is a member of none."""

    a: Node
    relay: Node
    b: Node


def member_vlan(
    lab: Lab, host: int, *, label: str = LABEL, tap: str = "ptap0", network: int = 1, **more: Any
) -> VlanConfig:
    """Membership of a VLAN, with addresses 10.99.NETWORK.HOST and fd99:NETWORK::HOST; one secret file for all.

    Args:
        more: other fields of VlanConfig.
    """
    secret = lab.path(f"secret-{label}") / f"{label}.secret"
    if not secret.exists():
        secret = create_secret(secret.parent, label)
    return VlanConfig(label, secret, tap, (f"10.99.{network}.{host}/24", f"fd99:{network}::{host}/64"), **more)


def side(node: Node, index: int = 0) -> Side:
    """The node's end of its VLAN as the checks see it."""
    vlan = node.config.vlans[index]
    ipv4, ipv6 = (address.split("/")[0] for address in vlan.addresses)
    return Side(node.namespace, vlan.tap, ipv4, ipv6)


def pair_links(lab: Lab, *, offloads: bool = True) -> tuple[Namespace, Namespace]:
    a, b = lab.namespace("a"), lab.namespace("b")
    links.veth(a, "ua", f"{A_IP}/24", b, "ub", f"{B_IP}/24", offloads=offloads)
    return a, b


def emulated_links(lab: Lab, there: Impairment, *, seed: int) -> tuple[Namespace, Namespace, EmulatedLink]:
    """The same two machines, and between them a cable with impairments in each direction."""
    a, b = lab.namespace("a"), lab.namespace("b")
    return a, b, EmulatedLink(a, "ua", f"{A_IP}/24", b, "ub", f"{B_IP}/24", there=there, seed=seed)


def pair(lab: Lab, *, offloads: bool = True) -> Pair:
    """Two configured nodes, not started; a dials b."""
    a_machine, b_machine = pair_links(lab, offloads=offloads)
    return configure_pair(lab, a_machine, b_machine)


def configure_pair(lab: Lab, a_machine: Namespace, b_machine: Namespace) -> Pair:
    a, b = Node(a_machine), Node(b_machine)
    a.configure(peers={B_IP: b}, vlans=(member_vlan(lab, 1),))
    b.configure(peers={A_IP: a}, vlans=(member_vlan(lab, 2),))
    return Pair(a, b)


def line_links(lab: Lab, *, offloads: bool = True) -> tuple[Namespace, Namespace, Namespace]:
    a, relay, b = lab.namespace("a"), lab.namespace("r"), lab.namespace("b")
    relay.sysctl("net.ipv4.ip_forward", "0")
    links.veth(a, "ua", f"{A_LINE_IP}/24", relay, "ra", f"{R_TO_A_IP}/24", offloads=offloads)
    links.veth(b, "ub", f"{B_LINE_IP}/24", relay, "rb", f"{R_TO_B_IP}/24", offloads=offloads)
    return a, relay, b


def line(lab: Lab, *, offloads: bool = True) -> Line:
    """Three configured nodes, not started; the members dial the relay, which dials nobody."""
    a_machine, relay_machine, b_machine = line_links(lab, offloads=offloads)
    a, relay, b = Node(a_machine), Node(relay_machine), Node(b_machine)
    relay.configure(relay_mode="open")
    a.configure(peers={R_TO_A_IP: relay}, vlans=(member_vlan(lab, 1),))
    b.configure(peers={R_TO_B_IP: relay}, vlans=(member_vlan(lab, 2),))
    return Line(a, relay, b)


def around_relay(lab: Lab, names: tuple[str, ...]) -> tuple[Node, list[Node]]:
    """A relay, a member of nothing, and nodes on cables of their own that dial it and have no VLAN yet."""
    relay = Node(lab.namespace("r")).configure(relay_mode="open")
    relay.namespace.sysctl("net.ipv4.ip_forward", "0")
    nodes = []
    for number, name in enumerate(names, 1):
        machine = lab.namespace(name)
        network = f"10.89.{number}"
        links.veth(machine, "uplink", f"{network}.{number}/24", relay.namespace, f"to-{name}", f"{network}.254/24")
        nodes.append(Node(machine).configure(peers={f"{network}.254": relay}))
    return relay, nodes


def star(lab: Lab, spokes: int) -> tuple[Node, list[Node]]:
    """A hub and nodes that each have a cable to it and dial it, all members of one VLAN; none is started."""
    hub = Node(lab.namespace("hub")).configure(vlans=(member_vlan(lab, 254),))
    nodes = []
    for number in range(1, spokes + 1):
        machine = lab.namespace(f"n{number}")
        links.veth(hub.namespace, f"h{number}", f"10.84.{number}.1/24", machine, "uplink", f"10.84.{number}.2/24")
        nodes.append(Node(machine).configure(peers={f"10.84.{number}.1": hub}, vlans=(member_vlan(lab, number),)))
    return hub, nodes


def start_pair(nodes: Pair, *, carrier: str | None = "udp") -> None:
    """Starts both; waits until each knows the other and the trunk runs on the carrier wanted."""
    with nodes.a.lab.report.step("two nodes start, find and know each other"):
        start_all(nodes.a, nodes.b)
        wait_members(nodes.a, nodes.b)
        nodes.a.wait_trunk(nodes.b, carrier=carrier)
        nodes.b.wait_trunk(nodes.a, carrier=carrier)


def start_line(nodes: Line, *, carrier: str | None = "udp") -> None:
    with nodes.a.lab.report.step("relay and two members start; the members know each other"):
        start_all(nodes.relay, nodes.a, nodes.b)
        wait_members(nodes.a, nodes.b)
        nodes.a.wait_trunk(nodes.relay, carrier=carrier)
        nodes.b.wait_trunk(nodes.relay, carrier=carrier)


def wait_members(a: Node, b: Node, label: str = LABEL, timeout_s: float = 20.0) -> None:
    """Traffic flows, and both have the pair key."""
    target = side(b, [vlan.label for vlan in b.config.vlans].index(label))
    wait_for(
        lambda: a.namespace.try_run("ping", "-nqc1", "-W1", target.ipv4)[0] == 0,
        timeout_s,
        f"{a.name} pings {target.ipv4}",
    )
    a.wait_member(label, b, timeout_s)
    b.wait_member(label, a, timeout_s)


def require_no_underlay_route(nodes: Line) -> None:
    """A and B cannot reach each other but through the overlay."""
    for machine, target in ((nodes.a.namespace, B_LINE_IP), (nodes.b.namespace, A_LINE_IP)):
        require_unreachable(machine, target)


def require_unreachable(machine: Namespace, target: str) -> None:
    """An address of the underlay to which a machine has no route."""
    status, out, _ = machine.try_run("ip", "route", "get", target)
    require(status != 0, f"{machine.name} has an underlay route to {target}: {out}")
