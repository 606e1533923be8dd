"""What a VLAN with a group needs of its node, and who we are in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from peertap._core import MlsMember, MlsSigner, mls_credential_message
from peertap.node.actions import Action
from peertap.node.vlan import LocalVlan, VlanSettings
from peertap.types import PeerId, VlanIndex, public_key_of
from peertap.vlan import group_actions
from peertap.vlan.introductions import Identity
from peertap.vlan.letters import Answer, Verdict
from peertap.wire.invite import Invite

CREDENTIAL_S: Final = 10 * 365 * 86_400  # ours: the identity behind it lives as long as the node


class Us(group_actions.Us, Protocol):
    """This node, as far as its VLANs need it."""

    @property
    def peer_id(self) -> PeerId: ...


class Ourselves:
    """The node's identity and chance, as groups want them."""

    def __init__(self, identity: Identity, random: Callable[[int], bytes]) -> None:
        self.peer_id: Final = identity.peer_id
        self.public_key: Final = public_key_of(identity.peer_id)
        self.sign: Final = identity.sign
        self.random: Final = random

    def jitter(self) -> float:
        """From 0 to 1."""
        return int.from_bytes(self.random(4), "big") / 0xFFFFFFFF


class Host(Protocol):
    """The node, as its VLANs with groups see it."""

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    @property
    def now_unix(self) -> float: ...

    def open_vlan(self, settings: VlanSettings) -> VlanIndex:
        """Takes part in a VLAN from now on."""

    def close_vlan(self, index: VlanIndex) -> None:
        """Takes part no longer."""

    def use_names(self, index: VlanIndex) -> None:
        """The VLAN has another routing secret."""

    def reaches(self, index: VlanIndex, member: PeerId) -> bool:
        """Whether a sealed letter can go to a member now."""

    def say(self, action: Action) -> None:
        """One more thing to do."""

    def random(self, size: int) -> bytes: ...


@dataclass(slots=True)
class Joining:
    """We came with an invite, and wait to be let in."""

    invite: Invite
    name: str
    member: MlsMember
    package: bytes
    answer: Answer | None = None
    shown_to: bytes = b""  # the inviter's run that has our proof
    again_at: float = float("inf")

    @property
    def is_refused(self) -> bool:
        return self.answer is not None and self.answer.verdict is Verdict.REFUSED


def new_member(us: Us, vlan_id: bytes, suite: int, unix: int) -> MlsMember:
    """Us in a VLAN, with a new MLS key and a credential for it (SPEC 9.2)."""
    signer = MlsSigner(suite)
    not_after = unix + CREDENTIAL_S
    signature = us.sign(mls_credential_message(vlan_id, us.public_key, suite, not_after, signer.public))
    return MlsMember(signer, vlan_id, us.public_key + not_after.to_bytes(8, "big") + signature)
