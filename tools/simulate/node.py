"""A node of the simulation: the mesh's own cores and its VLANs' names, without what is sealed end to end."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from peertap._core import StaticSecret
from peertap.mesh.fabric import Fabric
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.node.actions import Action
from peertap.node.locals import LocalVlans
from peertap.node.relaying import Relaying
from peertap.node.vlan import LocalVlan, VlanSettings
from peertap.types import Mac, TrunkId, VlanIndex, peer_id_of
from peertap.vlan.membership import StaticMembership
from peertap.vlan.names import virtual_mac
from peertap.wire.control import Message

if TYPE_CHECKING:
    from peertap.node.trunk import Trunk as NodeTrunk
    from tools.simulate.topology import Plan
    from tools.simulate.world import Trunk, World

START_UNIX: Final = 1_800_000_000.0
TRUNK_MTU: Final = 1500 - 48  # PROTOCOL 1: the underlay less IPv6 and UDP
NEVER: Final = float("inf")


class Identity:
    """A name that signs nothing: introductions are no part of the simulation."""

    def __init__(self, number: int) -> None:
        self.peer_id = peer_id_of(sha256(number.to_bytes(4, "big")).digest())

    def sign(self, message: bytes) -> bytes:
        """Of the right length, and of no worth: nobody asks for it."""
        return bytes(64 + 0 * len(message))


class SimNode:
    """One node. Its trunk to node n has the number n + 1."""

    def __init__(self, number: int, plan: Plan, world: World) -> None:
        self.number: Final = number
        self.is_leaf: Final = plan.is_leaf[number]
        self.labels: Final = plan.vlans[number]
        self.is_up = False
        self.sent_bytes = self.received_bytes = self.starts = 0
        self._world = world
        self._identity: Final = Identity(number)

    # What its parts ask of it

    trunks: dict[TrunkId, NodeTrunk] = {}  # noqa: RUF012  nobody wants grants here

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]:
        return self.locals.all

    @property
    def now_unix(self) -> float:
        return START_UNIX + self._world.clock.now

    # Its life

    def boot(self, now: float) -> None:
        """Starts, or starts again: nothing is remembered."""
        self.is_up = True
        self.starts += 1
        self._wakes_at = NEVER
        random = self._world.random.randbytes
        policy = RelayPolicy(Mode.NONE if self.is_leaf else Mode.OPEN)
        self.locals = LocalVlans(self, self._identity, random, _nothing)
        relaying = Relaying(self, policy, _nothing)
        policy.own = self.locals.is_ours
        self.fabric = Fabric(self.locals, relaying.carries, self._world.trust)
        self.locals.take_role(now, is_leaf=self.is_leaf)
        self.fabric.becomes(now, is_leaf=self.is_leaf)
        for label in self.labels:
            self.locals.open(VlanSettings(membership(label)), relaying, now)
        self._settle(now)

    def talk_to(self, macs: dict[str, list[Mac]]) -> None:
        """Wants to send to these members of its VLANs."""
        for vlan in self.locals.all.values():
            for mac in macs[vlan.source.label]:
                if mac != vlan.mac:
                    vlan.newest.token_of(mac)
        if self.is_leaf:
            self.fabric.want([key for vlan in self.locals.all.values() for key in vlan.newest.needs()])
            self._settle(self._world.clock.now)

    def add(self, trunk: Trunk, cost: int) -> None:
        other = trunk.other(self.number)
        is_leaf = self._world.nodes[other].is_leaf
        self.fabric.add_neighbour(TrunkId(other + 1), cost=cost, mtu=TRUNK_MTU, is_leaf=is_leaf)
        self._settle(self._world.clock.now)

    def remove(self, trunk: Trunk) -> None:
        self.fabric.remove_neighbour(TrunkId(trunk.other(self.number) + 1), self._world.clock.now)
        self._settle(self._world.clock.now)

    def silence(self, trunk: Trunk) -> None:
        now = self._world.clock.now
        self.fabric.silence(TrunkId(trunk.other(self.number) + 1), now, is_silent=True)
        self._settle(now)

    def receive(self, trunk: TrunkId, message: Message) -> None:
        now = self._world.clock.now
        self.fabric.received_untrusted(trunk, message, now, START_UNIX + now)  # type: ignore[arg-type]
        self._settle(now)

    def wake(self) -> None:
        now = self._world.clock.now
        if self.is_up and self._wakes_at <= now:
            self._wakes_at = NEVER
            self.fabric.tick(now)
            self._settle(now)

    def _settle(self, now: float) -> None:
        changed = self.fabric.settle(now)
        if changed:
            self._world.watch(self.number, changed)
        for trunk, message in self.fabric.take(now):
            self._world.send(self.number, trunk, message)
        due = self.fabric.next_deadline()
        if due is not None and due < self._wakes_at:
            self._wakes_at = due
            self._world.clock.at(due, self.wake)


def membership(label: str) -> StaticMembership:
    return StaticMembership(label, StaticSecret(sha256(label.encode()).digest()))


def macs_of(plan: Plan) -> dict[str, list[Mac]]:
    """The virtual MACs of the members of each VLAN."""
    found: dict[str, list[Mac]] = {}
    for number, labels in enumerate(plan.vlans):
        for label in labels:
            mac = virtual_mac(Identity(number).peer_id, membership(label).vlan_id, 0)
            found.setdefault(label, []).append(mac)
    return found


def _nothing(_action: Action) -> None:
    """Logs and interfaces are no part of the simulation."""
