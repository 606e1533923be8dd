"""LANs behind members in the lab: a member's TAP in a kernel bridge, hosts on cables to it, their frames by hand.

host  h0 ──── lN  br0 ── ptap0 ≈≈ overlay        br0 has a MAC of its own, and the member's addresses
"""

import socket
import struct
import time
from typing import Final

from netns import links
from netns.checks.side import Side
from netns.frames import FrameSocket
from netns.lab import Lab
from netns.namespace import Namespace
from netns.node import Node
from netns.packets import BROADCAST, ethernet

BRIDGE: Final = "br0"
ETHERTYPE_ARP: Final = 0x0806


def make_bridge(node: Node, number: int, *ports: str) -> Side:
    """A bridge on a member's machine that its TAP can be put into; returns the machine's own end."""
    namespace = node.namespace
    links.bridge(namespace, BRIDGE, list(ports))
    namespace.run("ip", "link", "set", BRIDGE, "address", f"06:00:00:00:01:{number:02x}", "mtu", "1370")
    namespace.address(f"10.99.1.{number}/24", BRIDGE)
    return Side(namespace, BRIDGE, f"10.99.1.{number}", "")


def put_tap(node: Node) -> None:
    """What the operator types: the interface becomes a port of the bridge."""
    node.namespace.run("ip", "link", "set", node.config.vlans[0].tap, "master", BRIDGE)


def add_host(lab: Lab, name: str, number: int, mac: str, *cables: tuple[Namespace, str]) -> Side:
    """A host, 10.99.1.NUMBER, with a cable to each of these machines, there named so; the first one is plugged in."""
    machine = lab.namespace(name)
    for at, (other, port) in enumerate(cables):
        links.veth(machine, f"h{at}", None, other, port, None, mtu=1370)
        machine.run("ip", "link", "set", f"h{at}", "address", mac)
        if at:
            machine.run("ip", "link", "set", f"h{at}", "down")
    machine.address(f"10.99.1.{number}/24", "h0")
    return Side(machine, "h0", f"10.99.1.{number}", "")


def plug(host: Side, number: int) -> tuple[Side, float]:
    """Pulls a host's cable and plugs in another; it says by ARP that it is there, as hosts do (RFC 5227).

    Returns its new end, and the instant at which that came up.
    """
    namespace, new = host.namespace, f"h{number}"
    namespace.run("ip", "address", "flush", "dev", host.interface)
    namespace.run("ip", "link", "set", host.interface, "down")
    namespace.address(f"{host.ipv4}/24", new)
    began = time.monotonic()
    namespace.up(new)
    moved = Side(namespace, new, host.ipv4, "")
    announce(moved)
    return moved, began


def announce(host: Side) -> None:
    """A gratuitous ARP."""
    ip = socket.inet_aton(host.ipv4)
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, host.mac, ip, bytes(6), ip)
    out = FrameSocket(host.namespace, host.interface)
    out.send(ethernet(BROADCAST, host.mac, ETHERTYPE_ARP, body))
    out.close()
