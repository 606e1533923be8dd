"""What the operator asks of the VLANs with a group: each is one command of `peertap vlan`."""

from __future__ import annotations

from dataclasses import dataclass

from peertap.vlan.record import Port, VlanRecord
from peertap.wire.invite import Invite


@dataclass(frozen=True, slots=True)
class Create:
    """A new VLAN with us alone.

    Args:
        founders: identities that are admins from the beginning, beside us.
        threshold: how many admins have to agree on who is in and who may do what.
        is_public: whether members let everybody in the mesh know of it.
    """

    label: str
    suite: int
    aead: int
    port: Port
    founders: tuple[bytes, ...] = ()
    threshold: int = 1
    is_public: bool = False


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
class Agree:
    """Our word on a change that waits for more admins, by its short name."""

    label: str
    name: str
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


OnPerson = Approve | Agree | Kick | Promote | Demote | Bridge
Command = Create | MakeInvite | Revoke | JoinBy | OnPerson | Rotate | LeaveVlan | Restore
