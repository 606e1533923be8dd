"""The node's role in the mesh: what it says of it, and what it asks for as a leaf (SPEC 6.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from peertap.mesh.audience import Key
from peertap.mesh.fabric import Fabric
from peertap.mesh.policy import RelayPolicy
from peertap.mesh.roles import Role, Wish
from peertap.node.actions import Action, Log, Send
from peertap.node.locals import LocalVlans
from peertap.node.trunk import Trunk
from peertap.types import TrunkId
from peertap.wire.control import Policy


class State(Protocol):
    """What the role depends on."""

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...

    @property
    def fabric(self) -> Fabric: ...


class OurRole:
    """Looks whether enough relays are in reach, and follows."""

    def __init__(
        self, state: State, vlans: LocalVlans, policy: RelayPolicy, wish: Wish, say: Callable[[Action], None]
    ) -> None:
        self._role: Final = Role(wish, relays=policy.relays)
        self._state = state
        self._vlans = vlans
        self._policy = policy
        self._say = say
        self._asked_for: int | None = None

    @property
    def is_leaf(self) -> bool:
        return self._role.is_leaf

    def begin(self, now: float) -> None:
        """Before the first trunk."""
        self._vlans.take_role(now, is_leaf=self.is_leaf)
        self._state.fabric.becomes(now, is_leaf=self.is_leaf)

    def introduce(self, trunk: Trunk) -> None:
        """The first thing that a neighbour hears of us."""
        self._say(Send(trunk.id, Policy(self._policy.relays, self._policy.wants_grants, self.is_leaf)))

    def look(self, now: float) -> None:
        """Follows what is in reach now."""
        if self._role.is_fixed:
            return
        trunks = self._state.trunks.values()
        relays = {trunk.peer for trunk in trunks if trunk.relays and not trunk.is_silent and self.serves(trunk)}
        if self._role.look(len(relays), now, is_public=any(one.is_from_outside for one in trunks)):
            self._changed(now, relays=len(relays))
            self._introduce_to_all()

    def follow(self, now: float) -> None:
        """We relay by other rules: our role may be another one, and the neighbours hear of both."""
        if self._role.follow(relays=self._policy.relays):
            self._changed(now)
        self._introduce_to_all()

    def ask(self, now: float) -> None:
        """As a leaf: wants what our VLANs need, where that changed."""
        if not self.is_leaf:
            return
        needs = self._vlans.needs_number()
        if needs != self._asked_for:
            self._asked_for = needs
            self._state.fabric.want(self._needs(), now)

    def next_deadline(self) -> float | None:
        return self._role.next_deadline()

    # Inside

    def _changed(self, now: float, **fields: object) -> None:
        self._say(Log("info", "role", {"role": "leaf" if self.is_leaf else "transit", **fields}))
        self.begin(now)
        self._asked_for = None

    def _introduce_to_all(self) -> None:
        for trunk in self._state.trunks.values():
            self.introduce(trunk)

    def _needs(self) -> list[Key]:
        return [key for vlan in self._vlans.all.values() for names in vlan.names for key in names.needs()]

    def serves(self, trunk: Trunk) -> bool:
        """Whether the neighbour relays all our VLANs; who wants proofs shows it by what it announces."""
        if not trunk.wants_grants:
            return True
        routes = self._state.fabric.routes
        return all(routes.hears_of(vlan.newest.vtag, trunk.id) for vlan in self._vlans.all.values() if vlan.is_inside)
