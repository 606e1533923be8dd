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
from peertap.wire.control import Grant, Refresh


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

    def carries(self, vtag: VTag) -> bool:
        """Whether routes and joins under this VTag are taken."""
        return self.policy.carries(vtag, self._state.now_unix)

    def own_name(self, vtag: VTag) -> VlanId | None:
        """The VLAN-ID of a VLAN of ours."""
        for vlan in self._state.vlans.values():
            if any(names.vtag == vtag for names in vlan.names):
                return vlan.source.vlan_id
        return None

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

    def _prove(self, vlan: LocalVlan, trunk: Trunk) -> None:
        grant = vlan.source.grant(self._state.now_unix)
        if grant is not None:
            self._say(Send(trunk.id, grant))
