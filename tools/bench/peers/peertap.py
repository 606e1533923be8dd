"""PeerTap itself, as a user gets it: the tool's own MTU, a static VLAN, `carrier: auto`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from netns.node import Node
from netns.process import Process
from netns.topology import LABEL, Line, Pair, configure_pair, member_vlan, side
from tools.bench.axes import Link
from tools.bench.peers.tunnel import Peer, Tunnel
from tools.bench.topology import Site


class PeerTap(Tunnel):
    """Two nodes, each dialling the other; or two that dial a relay."""

    interface = "ptap0"

    def __init__(self, site: Site, programs: Mapping[str, Path]) -> None:
        super().__init__(site, programs)
        self.nodes: Pair | Line

    def prepare(self) -> None:
        site = self.site
        if site.r is not None:
            a, r, b = Node(site.a), Node(site.r), Node(site.b)
            r.configure(relay_mode="open")
            a.configure(peers={site.r_to_a_ip: r}, vlans=(member_vlan(site.lab, 1),))
            b.configure(peers={site.r_to_b_ip: r}, vlans=(member_vlan(site.lab, 2),))
            self.nodes = Line(a, r, b)
        else:
            self.nodes = configure_pair(site.lab, site.a, site.b)
        if self.carrier == "stream":
            for node in self.all_nodes:
                node.configure(carrier="stream")
        self.destination = side(self.nodes.b).ipv4

    @property
    def carrier(self) -> str:
        return "stream" if self.site.link is Link.STREAM else "udp"

    @property
    def all_nodes(self) -> list[Node]:
        nodes = self.nodes
        return [nodes.a, nodes.b] if isinstance(nodes, Pair) else [nodes.a, nodes.b, nodes.relay]

    def start_far(self) -> None:
        far = self.all_nodes[1:]
        for node in far:
            node.start()
        for node in far:
            node.wait_ready()

    def start_near(self) -> None:
        self.nodes.a.start()

    def settle(self) -> None:
        a, b = self.nodes.a, self.nodes.b
        a.wait_member(LABEL, b)
        b.wait_member(LABEL, a)
        next_hop = b if isinstance(self.nodes, Pair) else self.nodes.relay
        transport = "tcp" if self.carrier == "stream" else None
        a.wait_trunk(next_hop, carrier=self.carrier, transport=transport)
        if next_hop is not b:
            b.wait_trunk(next_hop, carrier=self.carrier)

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def ended(self) -> list[Process]:
        return [process for process in self._processes if process.exit_status is not None]

    @property
    def _processes(self) -> list[Process]:
        return [node.process for node in self.all_nodes if node.process is not None]


PEERTAP: Final = Peer("peertap", "L2", "as configured by default; the MTU is its own choice", PeerTap)
