"""What a group needs of its node, and what it wants done, in order: what follows a Save is done once it is on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from peertap.vlan.commits import Step
from peertap.wire.codec import lp32
from peertap.wire.motion import Motion, Removal


class Us(Protocol):
    """This node, as far as a group needs it."""

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...

    def random(self, size: int) -> bytes: ...

    def jitter(self) -> float:
        """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class Save:
    """The state of the group, which replaces the last one on disk."""

    state: bytes


@dataclass(frozen=True, slots=True)
class ToAll:
    """A message for all members of the epoch that it ends or belongs to."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """Lets a newcomer in."""

    identity: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class Give:
    """What a member who was away lacks: commits and wishes, in order."""

    identity: bytes
    messages: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """Our position, for a member that is ahead."""

    identity: bytes
    epoch: int
    transcript_hash: bytes


@dataclass(frozen=True, slots=True)
class Show:
    """An admin's branch, for a member that is on another, signed by its identity."""

    identity: bytes
    steps: tuple[Step, ...]
    signature: bytes = b""

    def signed(self, vlan_id: bytes) -> bytes:
        """What the admin signs."""
        return b"PeerTap/1 branch" + vlan_id + self.identity + b"".join(lp32(one.emit()) for one in self.steps)


@dataclass(frozen=True, slots=True)
class AskAdmins:
    """We are lost: any admin may give a GroupInfo.

    Args:
        steps: the branch that lost; its removals still count.
        nonce: 16 random bytes that the answer must sign, so that no old answer fits.
    """

    steps: tuple[Step, ...]
    nonce: bytes


@dataclass(frozen=True, slots=True)
class GiveInfo:
    """Where an admin is, for a member that is lost: it comes back by this.

    Args:
        steps: the admin's branch, up to there.
    """

    identity: bytes
    group_info: bytes
    steps: tuple[Step, ...]
    signature: bytes = b""

    def signed(self, vlan_id: bytes, nonce: bytes) -> bytes:
        """What the admin's identity signs."""
        asked = b"PeerTap/1 group info" + vlan_id + self.identity + nonce
        return asked + b"".join(lp32(one.emit()) for one in self.steps) + self.group_info


@dataclass(frozen=True, slots=True)
class Remind:
    """The rejoin secrets of the epochs that a member missed, under its pair key: it lets others come back too then."""

    identity: bytes
    secrets: bytes


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Tells somebody that it was removed while it was away, by the word of whoever did it."""

    identity: bytes
    removal: Removal


@dataclass(frozen=True, slots=True)
class Move:
    """A change that more admins have to agree to, with the signatures that there are: to all other admins."""

    motion: Motion


@dataclass(frozen=True, slots=True)
class Admit:
    """Enough admins agreed on a newcomer: whoever has its key package lets it in."""

    identity: bytes


@dataclass(frozen=True, slots=True)
class EpochBegan:
    """New keys. `removed` are those who are gone with it."""

    epoch: int
    removed: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Gone:
    """We are no member any more."""


Action = (
    Save
    | ToAll
    | Welcome
    | Give
    | Tell
    | Show
    | AskAdmins
    | GiveInfo
    | Remind
    | Dismiss
    | Move
    | Admit
    | EpochBegan
    | Gone
)


def at_once(actions: list[Action]) -> list[Action]:
    """Several steps as one: the last state is kept, the last epoch begins, nobody meets those between."""
    saves = [one for one in actions if isinstance(one, Save)]
    began = [one for one in actions if isinstance(one, EpochBegan)]
    rest = [one for one in actions if not isinstance(one, Save | EpochBegan)]
    removed = frozenset(who for one in began for who in one.removed)
    return [*saves[-1:], *rest, *(EpochBegan(one.epoch, removed) for one in began[-1:])]
