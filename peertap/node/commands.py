"""What the operator asks of the VLANs with a group: each is one command of `peertap vlan`."""

from __future__ import annotations

from dataclasses import dataclass

from peertap.vlan.record import Port, VlanRecord
from peertap.wire.invite import Invite


@dataclass(frozen=True, slots=True)
class Create:
    """A new VLAN with us alone."""

    label: str
    suite: int
    aead: int
    port: Port


@dataclass(frozen=True, slots=True)
class MakeInvite:
    """An invite that we answer, with addresses at which we can be dialled."""

    label: str
    uses: int
    lifetime_s: int
    approve: bool
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revoke:
    """An invite of ours is of no more use; `invite` is its id."""

    label: str
    invite: bytes


@dataclass(frozen=True, slots=True)
class JoinBy:
    """We want to come in."""

    invite: Invite
    port: Port


@dataclass(frozen=True, slots=True)
class Approve:
    """A newcomer that waits may come in, or may not."""

    label: str
    identity: bytes
    is_welcome: bool


@dataclass(frozen=True, slots=True)
class Kick:
    """A member goes."""

    label: str
    identity: bytes


@dataclass(frozen=True, slots=True)
class Promote:
    """A member becomes an admin."""

    label: str
    identity: bytes


@dataclass(frozen=True, slots=True)
class Demote:
    """An admin becomes a member like others."""

    label: str
    identity: bytes


@dataclass(frozen=True, slots=True)
class Bridge:
    """Other MACs may be behind a member, or may not."""

    label: str
    identity: bytes
    is_allowed: bool


@dataclass(frozen=True, slots=True)
class Rotate:
    """New keys."""

    label: str


@dataclass(frozen=True, slots=True)
class LeaveVlan:
    """We go; `at_once`: without waiting until an admin has taken note."""

    label: str
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Restore:
    """A VLAN comes back from a backup of this node's."""

    record: VlanRecord


Command = (
    Create | MakeInvite | Revoke | JoinBy | Approve | Kick | Promote | Demote | Bridge | Rotate | LeaveVlan | Restore
)
