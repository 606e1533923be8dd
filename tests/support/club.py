"""Whole nodes with one VLAN that has a group, on the simulated network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from peertap._core import AES_256_GCM
from peertap.node.commands import Create, JoinBy, MakeInvite
from peertap.node.group_vlan import GroupVlan
from peertap.observe.groups import state
from peertap.vlan.record import Port
from peertap.wire.invite import Invite
from tests.support.identities import identity
from tests.support.mesh import SimMesh

CLASSICAL = 1
PORT = Port("ptap0")


class Club(SimMesh):
    """Nodes around a switch of trunks, one of which made the VLAN "club"."""

    def __init__(self, *names: str, seed: int = 1, founders: tuple[str, ...] = (), threshold: int = 1) -> None:
        super().__init__(seed)
        self.labels = "club"
        for name in names:
            self.add(name)
        for at, name in enumerate(names):
            for other in names[at + 1 :]:
                self.link(name, other)
        self.run(1)
        others = tuple(identity(name).public_key for name in founders)
        self.nodes[names[0]].command(Create("club", CLASSICAL, AES_256_GCM, PORT, others, threshold))

    def invite(self, by: str, **fields: Any) -> Invite:
        wanted = MakeInvite("club", uses=1, lifetime_s=3600, approve=False, addresses=("/ip4/1.2.3.4/tcp/1",))
        found: Invite = self.nodes[by].command(replace(wanted, **fields))["invite"]
        return found

    def join(self, name: str, by: str, seconds: float = 3.0) -> None:
        self.nodes[name].command(JoinBy(self.invite(by), PORT))
        self.run(seconds)
        assert self.state(name) == "member", self.at(name).joining

    def cut_off(self, name: str) -> list[str]:
        """From now on it has no trunks; returns who its neighbours were."""
        links = list(self.nodes[name].trunks.values())
        for link in links:
            link.close("away")
        return [link.other(self.nodes[name]).name for link in links]

    def at(self, name: str) -> GroupVlan:
        return self.nodes[name].node.groups.vlans["club"]

    def state(self, name: str) -> str:
        return state(self.at(name)) if "club" in self.nodes[name].node.groups.vlans else "gone"

    def agree(self, *names: str) -> None:
        """These are the members, all in one epoch, and a frame of each reaches each other."""
        wanted = {identity(name).public_key for name in names}
        positions = set()
        for name in names:
            group = self.at(name).group
            assert group is not None
            assert group.members == wanted, name
            positions.add(group.position)
        assert len(positions) == 1, positions
        for name in names:
            self.frames(name, *(other for other in names if other != name))

    def frames(self, source: str, *others: str) -> None:
        """A broadcast of `source` and a frame to each reach these."""
        for other in others:
            self.nodes[other].delivered.clear()
        self.nodes[source].broadcast("club", f"hello of {source}")
        for other in others:
            mac = self.nodes[other].vlan("club").mac  # type: ignore[attr-defined]
            assert self.nodes[source].unicast("club", mac, f"for {other}"), (source, other)
        self.run(0.5)
        for other in others:
            got = [content for _, content in self.nodes[other].delivered]
            assert sorted(got) == sorted([f"hello of {source}", f"for {other}"]), (source, other, got)
