"""LANs that simulated members bridge: probes and hosts' frames, as the data plane would see them (SPEC 14)."""

from __future__ import annotations

import itertools

from peertap.node.events import HostGone, HostSeen, LoopProbeHeard, PortAttached
from peertap.node.tables import Passage
from peertap.types import Mac
from peertap.wire.macs import Host
from tests.support.mesh import SimMesh, SimNode

STEP_S = 0.05


def host(number: int) -> Host:
    return Host(Mac(bytes((6, 0, 0, 0, 0, number))))


def bridging(mesh: SimMesh, *names: str) -> None:
    """These nodes' interfaces are ports of bridges from their start on."""
    for name in names:
        mesh.nodes[name].bridges = True
        mesh.nodes[name].boot()


class SimLans:
    """Which node's port is on which LAN; time runs in steps, so that probes are sent."""

    def __init__(self, mesh: SimMesh, label: str) -> None:
        self.mesh, self.label = mesh, label
        self.lan_of: dict[str, int] = {}
        self.lost_probes: set[str] = set()  # of these nodes
        self._numbers = itertools.count(1)
        self._due: dict[str, float] = {}
        self._said: dict[str, bool] = {}

    def attach(self, name: str, lan: int) -> None:
        """Puts a node's interface into a bridge on this LAN."""
        self.lan_of[name] = lan
        node = self.mesh.nodes[name]
        node.post(PortAttached(node.vlan(self.label).index))  # type: ignore[attr-defined]

    def detach(self, name: str) -> None:
        del self.lan_of[name]

    def passage(self, name: str) -> Passage:
        node = self.mesh.nodes[name]
        index = node.vlan(self.label).index  # type: ignore[attr-defined]
        return next(one.passage for one in node.tables.vlans if one.id == index)

    def forwarding(self, lan: int) -> list[str]:
        return [name for name, on in self.lan_of.items() if on == lan and self.passage(name).forwards]

    def run(self, seconds: float) -> float:
        """Lets time pass; returns for how long two ports of one LAN forwarded."""
        both = 0.0
        for _ in range(round(seconds / STEP_S)):
            self.mesh.run(STEP_S)
            for name in list(self.lan_of):
                self._probe(name)
            both += STEP_S * any(len(self.forwarding(lan)) > 1 for lan in set(self.lan_of.values()))
        return both

    def speak(self, lan: int, one: Host) -> list[str]:
        """A host on a LAN sends a frame for all; returns by which nodes it went into the overlay."""
        through = []
        for name in self.forwarding(lan):
            node = self.mesh.nodes[name]
            if one in node.refused:
                continue
            through.append(name)
            if one not in node.at_port:
                node.at_port.add(one)
                node.post(HostSeen(node.vlan(self.label).index, one))  # type: ignore[attr-defined]
        return through

    def age(self, name: str, one: Host) -> None:
        node = self.mesh.nodes[name]
        node.at_port.discard(one)
        node.post(HostGone(node.vlan(self.label).index, one))  # type: ignore[attr-defined]

    def found(self, one: Host) -> dict[str, str | None]:
        """Where each node sends frames for a host: a node's name, "port", or None."""
        return {name: self._where(node, one) for name, node in self.mesh.nodes.items() if self.label in node.labels}

    def _where(self, node: SimNode, one: Host) -> str | None:
        if one in node.at_port:
            return "port"
        number = node.places.get(one)
        peers = node.vlan(self.label).introductions.peers.values()  # type: ignore[attr-defined]
        member = next((peer.member for peer in peers if peer.id == number), None)
        return next((name for name, other in self.mesh.nodes.items() if other.identity.peer_id == member), None)

    def _probe(self, name: str) -> None:
        passage = self.passage(name)
        if not passage.forwards:
            self.mesh.nodes[name].at_port.clear()  # as the data plane does
        probing = passage.probing
        if probing is None or not probing.gap_s:
            return
        if self._due.get(name, 0.0) > self.mesh.now and self._said.get(name) == passage.forwards:
            return
        self._due[name], self._said[name] = self.mesh.now + probing.gap_s, passage.forwards
        number = next(self._numbers)
        for other, lan in list(self.lan_of.items()):
            if lan == self.lan_of[name] and name not in self.lost_probes and other != name:
                node = self.mesh.nodes[other]
                index = node.vlan(self.label).index  # type: ignore[attr-defined]
                node.post(LoopProbeHeard(index, probing.handle, probing.run, number, passage.forwards, False))
