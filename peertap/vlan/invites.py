"""How a newcomer comes in (PROTOCOL 10, SPEC 10).

    admin                                         newcomer
    │ invite: a line, by whatever way people have ─▶ │
    │                                                │ dials, finds the door: a static VLAN of its own
    │                                                │ whose secret comes from the invite's
    │ ◀── Join: proof, name, key package ─────────── │
    │ ─── Welcome, or "wait", or why not ──────────▶ │

The invite's secret itself is never sent. What it cost is written into the charter with the newcomer's admission, so
that every admin knows a used invite.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA384, Hash

from peertap.types import Sid, VlanId
from peertap.vlan.letters import Join
from peertap.wire.charter import Charter, SpentInvite
from peertap.wire.invite import Invite
from peertap.wire.kdf import expand, mac

MAX_OPEN: Final = 64  # ours: each is a VLAN of its own until it is spent
MAX_WAITING: Final = 64  # ours: newcomers that somebody has to approve
MAX_AGAIN: Final = 8  # ours: each time is an epoch for all
WRONG_PROOFS: Final = 16  # ours: then the door is shut; who gets that far had the invite's text, but not its secret


def door_secret(invite: Invite) -> bytes:
    """The static VLAN secret of the invite's door (SPEC 10.1)."""
    return expand(invite.secret, "door", invite.vlan_id)


def proof(secret: bytes, invite: bytes, vlan_id: VlanId, package: bytes, ends: tuple[End, End]) -> bytes:
    """What a newcomer shows (SPEC 10.2).

    Args:
        secret, invite: of the invite, secret and id.
        ends: the newcomer, then the inviter, as they met at the door; their sids are new at each start.
    """
    digest = Hash(SHA384())
    digest.update(package)
    both = b"".join(one.identity + one.sid for one in ends)
    return mac(secret, b"PeerTap/1 join" + invite + vlan_id + both + digest.finalize())


@dataclass(frozen=True, slots=True)
class End:
    """One side at the door: its identity key, and its present run."""

    identity: bytes
    sid: Sid


@dataclass(frozen=True, slots=True)
class Waiting:
    """A newcomer that an admin has to approve."""

    identity: bytes
    name: str
    invite: bytes
    package: bytes = field(repr=False)


@dataclass(slots=True)
class OpenInvite:
    """An invite of ours. `revoked` ones are kept until they expire.

    Args:
        forgives: those who were removed before it was made; whoever was removed later needs a new one.
    """

    invite: Invite
    revoked: bool = False
    forgives: frozenset[bytes] = frozenset()
    wrong: int = 0
    again: dict[bytes, int] = field(default_factory=dict)  # how often a member was let in anew


class Invites:
    """The invites that this admin has given out, and who waits before their doors."""

    def __init__(self) -> None:
        self.open: dict[bytes, OpenInvite] = {}
        self.waiting: dict[bytes, Waiting] = {}

    def add(self, invite: Invite, forgives: frozenset[bytes]) -> None:
        """Gives an invite out; these were removed before, and may come back by it."""
        self.open[invite.id] = OpenInvite(invite, forgives=forgives)

    def doors(self, charter: Charter, unix: float) -> dict[bytes, Invite]:
        """Those that still let somebody in, by id."""
        return {
            name: one.invite
            for name, one in self.open.items()
            if not one.revoked and one.invite.expiry > unix and self.left(one.invite, charter) > 0
        }

    @staticmethod
    def left(invite: Invite, charter: Charter) -> int:
        """How many may still come in by it."""
        return invite.uses - next((one.uses for one in charter.spent if one.id == invite.id), 0)

    def revoke(self, name: bytes) -> None:
        """Nobody comes in by it any more."""
        self.open[name].revoked = True
        self.waiting = {who: one for who, one in self.waiting.items() if one.invite != name}

    def tidy(self, unix: float) -> bool:
        """Forgets what has expired; says whether there was any."""
        old = [name for name, one in self.open.items() if one.invite.expiry <= unix]
        for name in old:
            del self.open[name]
        self.waiting = {who: one for who, one in self.waiting.items() if one.invite in self.open}
        return bool(old)

    def spent(self, invite: Invite, charter: Charter) -> SpentInvite:
        """What the charter says once another one has come in."""
        return SpentInvite(invite.id, invite.uses - self.left(invite, charter) + 1, invite.expiry)

    def refusal(
        self, join: Join, ends: tuple[End, End], charter: Charter, unix: float, *, is_member: bool
    ) -> str | None:
        """Why a newcomer is not let in; None: nothing speaks against it.

        Args:
            is_member: it was let in before, and its process ended before that was on its disk.
        """
        known = self.open.get(join.invite)
        if known is None:
            return "this invite is not known here; ask for a new one"
        invite = known.invite
        shown = proof(invite.secret, invite.id, invite.vlan_id, join.package, ends)
        if known.wrong >= WRONG_PROOFS or not hmac.compare_digest(shown, join.proof):
            known.wrong += 1
            return "the proof does not match the invite; paste it again"
        if ends[0].identity in charter.removed - known.forgives:
            return "this node was removed since the invite was made; ask for a new one"
        if is_member:
            known.again[ends[0].identity] = known.again.get(ends[0].identity, 0) + 1
            if known.again[ends[0].identity] > MAX_AGAIN:
                return "this node came by this invite too often; ask for a new one"
        return self.shut(known, charter, unix, is_member=is_member)

    def shut(self, known: OpenInvite, charter: Charter, unix: float, *, is_member: bool = False) -> str | None:
        """Why nobody comes in by an invite now; None: somebody may."""
        if known.revoked:
            return "this invite was revoked; ask for a new one"
        if known.invite.expiry <= unix:
            return "this invite has expired; ask for a new one"
        if self.left(known.invite, charter) <= 0 and not is_member:
            return "this invite was used up; ask for a new one"
        return None

    def wait(self, join: Join, identity: bytes) -> None:
        """The newcomer waits for an admin's word."""
        self.waiting[identity] = Waiting(identity, join.name, join.invite, join.package)
        while len(self.waiting) > MAX_WAITING:
            del self.waiting[next(iter(self.waiting))]
