"""A node of the simulation: the mesh's own cores and its VLANs' names, without what is sealed end to end."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from peertap._core import StaticSecret
from peertap.identity.node import NodeIdentity
from peertap.mesh.fabric import Fabric
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.mesh.presence import Presences
from peertap.node.actions import Action
from peertap.node.locals import LocalVlans
from peertap.node.relaying import Relaying
from peertap.node.vlan import LocalVlan, VlanSettings
from peertap.types import Mac, TrunkId, VlanIndex
from peertap.vlan.membership import StaticMembership
from peertap.vlan.names import virtual_mac
from peertap.wire.control import Message
from peertap.wire.presence import Presence, SignedLinkDown, SignedPresence

if TYPE_CHECKING:
    from peertap.node.trunk import Trunk as NodeTrunk
    from tools.simulate.topology import Plan
    from tools.simulate.world import Trunk, World

START_UNIX: Final = 1_800_000_000.0
TRUNK_MTU: Final = 1500 - 48  # PROTOCOL 1: the underlay less IPv6 and UDP
NEVER: Final = float("inf")


def identity(number: int) -> NodeIdentity:
    """The same for a node in every run."""
    return NodeIdentity(sha256(number.to_bytes(4, "big")).digest())


class SimNode:
    """One node. Its trunk to node n has the number n + 1."""

    def __init__(self, number: int, plan: Plan, world: World) -> None:
        self.number: Final = number
        self.is_leaf: Final = plan.is_leaf[number]
        self.labels: Final = plan.vlans[number]
        self.is_up = False
        self.sent_bytes = self.received_bytes = self.starts = 0
        self.refused = 0  # presences
        self._world = world
        self.identity: Final = identity(number)

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
        self.locals = LocalVlans(self, self.identity, random, _nothing)
        relaying = Relaying(self, policy, _nothing)
        policy.own = self.locals.is_ours
        self.fabric = Fabric(self.locals, relaying.carries, self._world.trust)
        self.locals.take_role(now, is_leaf=self.is_leaf)
        self.fabric.becomes(now, is_leaf=self.is_leaf)
        self.presence = Presences(
            self.identity.peer_id, self.identity.sign, self._rtt_of, self._world.random.random, now, self._world.trust
        )
        self.presence.describe(Presence(0, 0, relays=not self.is_leaf, is_leaf=self.is_leaf), now, self.now_unix)
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
            now = self._world.clock.now
            self.fabric.want([key for vlan in self.locals.all.values() for key in vlan.newest.needs()], now)
            self._settle(now)

    def add(self, trunk: Trunk, cost: int) -> None:
        other, now = self._world.nodes[trunk.other(self.number)], self._world.clock.now
        number = TrunkId(other.number + 1)
        self.fabric.add_neighbour(number, cost=cost, mtu=TRUNK_MTU, is_leaf=other.is_leaf)
        self.presence.add_neighbour(number, other.identity.peer_id, now, self.now_unix, relays=not other.is_leaf)
        self._settle(now)

    def remove(self, trunk: Trunk) -> None:
        number, now = TrunkId(trunk.other(self.number) + 1), self._world.clock.now
        self.fabric.remove_neighbour(number, now)
        self.presence.remove_neighbour(number, now, self.now_unix)
        self._settle(now)

    def silence(self, trunk: Trunk) -> None:
        now = self._world.clock.now
        self.fabric.silence(TrunkId(trunk.other(self.number) + 1), now, is_silent=True)
        self._settle(now)

    def receive(self, trunk: TrunkId, message: Message) -> None:
        now = self._world.clock.now
        if isinstance(message, SignedPresence | SignedLinkDown):
            self.refused += self.presence.received_untrusted(trunk, message, now, START_UNIX + now) is not None
            self._wake_at(self.presence.next_deadline())
        else:
            self.fabric.received_untrusted(trunk, message, now, START_UNIX + now)  # type: ignore[arg-type]
            self._settle(now)

    def wake(self) -> None:
        now = self._world.clock.now
        if self.is_up and self._wakes_at <= now:
            self._wakes_at = NEVER
            self.presence.tick(now, START_UNIX + now)
            self.fabric.tick(now)
            self._settle(now)

    def _settle(self, now: float) -> None:
        changed = self.fabric.settle(now)
        if changed:
            self._world.watch(self.number, changed)
        for trunk, message in self.fabric.take(now):
            self._world.send(self.number, trunk, message)
        for trunk, said in self.presence.take(now):
            self._world.send(self.number, trunk, said)
        self._wake_at(self.presence.next_deadline())
        due = self.fabric.next_deadline()
        if due is not None:
            self._wake_at(due)

    def _wake_at(self, due: float) -> None:
        if due < self._wakes_at:
            self._wakes_at = due
            self._world.clock.at(due, self.wake)

    def _rtt_of(self, trunk: TrunkId) -> float:
        other = trunk - 1
        return 2 * self._world.delays[min(self.number, other), max(self.number, other)]


def membership(label: str) -> StaticMembership:
    return StaticMembership(label, StaticSecret(sha256(label.encode()).digest()))


def macs_of(plan: Plan) -> dict[str, list[Mac]]:
    """The virtual MACs of the members of each VLAN."""
    found: dict[str, list[Mac]] = {}
    for number, labels in enumerate(plan.vlans):
        for label in labels:
            mac = virtual_mac(identity(number).peer_id, membership(label).vlan_id, 0)
            found.setdefault(label, []).append(mac)
    return found


def _nothing(_action: Action) -> None:
    """Logs and interfaces are no part of the simulation."""
