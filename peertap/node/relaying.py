"""Whom this node relays for, and the proofs that relays are given (SPEC 6.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from peertap.errors import PeerError
from peertap.mesh.fabric import Fabric
from peertap.mesh.policy import RelayPolicy
from peertap.node.actions import Action, Send
from peertap.node.trunk import Trunk
from peertap.node.vlan import LocalVlan
from peertap.types import TrunkId, VlanId, VlanIndex, VTag
from peertap.vlan.grants import checked_grant
from peertap.wire.control import Grant, Policy, Refresh


class State(Protocol):
    """What relaying depends on."""

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    @property
    def fabric(self) -> Fabric: ...

    @property
    def now_unix(self) -> float: ...


class Relaying:
    """Proves our VLANs to relays that want it, and believes the proofs of others."""

    def __init__(self, state: State, policy: RelayPolicy, say: Callable[[Action], None]) -> None:
        self.policy: Final = policy
        self._state = state
        self._say = say
        self._waiting: dict[TrunkId, Policy] = {}  # of neighbours that said too many; the last of each counts

    def carries(self, vtag: VTag) -> bool:
        """Whether routes and joins under this VTag are taken."""
        return self.policy.carries(vtag, self._state.now_unix)

    def own_name(self, vtag: VTag) -> VlanId | None:
        """The VLAN-ID of a VLAN of ours."""
        for vlan in self._state.vlans.values():
            if any(names.vtag == vtag for names in vlan.names):
                return vlan.source.vlan_id
        return None

    def policy_untrusted(self, trunk: Trunk, message: Policy, now: float) -> None:
        """A neighbour says what it relays, and its role: now, or later where it does so too often."""
        if trunk.policies.take(now):
            self._waiting.pop(trunk.id, None)
            self._follow(trunk, message, now)
        else:
            self._waiting[trunk.id] = message

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        trunks = self._state.trunks
        return min((trunks[one].policies.ready_at() for one in self._waiting if one in trunks), default=None)

    def tick(self, now: float) -> None:
        """Follows what waited, where it is time."""
        for number, message in list(self._waiting.items()):
            trunk = self._state.trunks.get(number)
            if trunk is None or trunk.is_leaving:
                del self._waiting[number]
            elif trunk.policies.ready_at() <= now:
                self.policy_untrusted(trunk, message, now)

    def prove_all(self, trunk: Trunk) -> None:
        """Proofs of all our VLANs, where the neighbour wants them."""
        if trunk.wants_grants:
            for vlan in self._state.vlans.values():
                self._prove(vlan, trunk)

    def prove(self, vlan: LocalVlan) -> None:
        """Proof of a VLAN that we take part in from now on."""
        for trunk in self._state.trunks.values():
            if trunk.wants_grants:
                self._prove(vlan, trunk)

    def granted(self, grant: Grant, now: float) -> None:
        """A neighbour proves a VLAN. Raises PeerError."""
        proven = checked_grant(grant, self._state.now_unix)
        if proven is None:
            raise PeerError("grant: a signature or the expiry is not valid")
        vtag, vlan_id = proven
        was_carried = self.carries(vtag)
        self.policy.granted(vtag, vlan_id, grant.expiry)
        is_carried = self.carries(vtag)
        if is_carried and not was_carried:
            self.ask_for(vtag)
        elif was_carried and not is_carried:
            self._state.fabric.forget(vtag, now)

    def ask_for(self, vtag: VTag) -> None:
        """We carry this VTag from now on: neighbours may have announced something under it before."""
        for trunk in self._state.trunks.values():
            if self._state.fabric.has_neighbour(trunk.id):
                self._say(Send(trunk.id, Refresh(vtag)))

    # Inside

    def _follow(self, trunk: Trunk, message: Policy, now: float) -> None:
        is_news = (trunk.relays, trunk.wants_grants) != (message.relays, message.wants_grants)
        trunk.relays, trunk.wants_grants, trunk.is_leaf = message.relays, message.wants_grants, message.is_leaf
        self.prove_all(trunk)
        fabric = self._state.fabric
        if fabric.has_neighbour(trunk.id):
            fabric.neighbour_is_leaf(trunk.id, trunk.cost, is_leaf=trunk.is_leaf)
            if is_news and trunk.refreshes.take(now):
                fabric.refresh_all(trunk.id)
        else:
            fabric.add_neighbour(
                trunk.id, cost=trunk.cost, mtu=trunk.max_payload, is_silent=trunk.is_silent, is_leaf=trunk.is_leaf
            )
            if trunk.close_at is not None:
                fabric.retire(trunk.id, now)

    def _prove(self, vlan: LocalVlan, trunk: Trunk) -> None:
        grant = vlan.source.grant(self._state.now_unix)
        if grant is not None:
            self._say(Send(trunk.id, grant))
