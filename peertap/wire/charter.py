"""What the members of a VLAN agree on: the group's context (SPEC 9.4).

    ├ version 1 ┼ lp(label) ┼ name nonce 16 ┼ n 1 ┼ n × creator key 32 ┼ k 1 ┼ AEAD 1 ┼ public 1 ┼ lobby secret 32 ┤
    ├ n 2 ┼ n × admin 32 ┼ n 2 ┼ n × bridge 32 ┼ n 2 ┼ n × removal ┼ n 2 ┼ n × spent invite 26 ┤
    ├ n 2 ┼ n × admission ┼ n 1: 0 or 1 ┼ roles ┼ changes 8 ┤
    spent invite: id 16 ‖ uses 2 ‖ expiry 8 (Unix s)      removal, admission, roles: see peertap.wire.motion

Admins, bridges and the removed are identities: Ed25519 public keys. Admins stand in the order of their rank, removals
and admissions in that of their time, the rest is sorted, so that equal charters are equal bytes. Where one admin is
enough, there are neither admissions nor roles: nobody has to prove what any admin may do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from peertap.errors import DecodeError
from peertap.wire.codec import Reader, lp
from peertap.wire.motion import MAX_ADMINS, MAX_BRIDGES, Admission, Removal, Roles, emit_keys, read_keys, read_number

VERSION: Final = 2
LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)  # it names a file
NONCE_BYTES: Final = 16
LOBBY_BYTES: Final = 32
INVITE_ID_BYTES: Final = 16
MAX_LABEL_BYTES: Final = 32  # as in the text of a secret (SPEC 8.2)
MAX_CREATORS: Final = 16  # ours
MAX_REMOVED: Final = 256  # ours: who was removed longest ago is forgotten
MAX_ADMITTED: Final = 256  # ours: who was admitted longest ago needs no proof for members that slept less
MAX_SPENT: Final = 1024  # ours: invites that are used up or expired leave

C = TypeVar("C", bound=Collection[Any])


@dataclass(frozen=True, slots=True, order=True)
class SpentInvite:
    """How often an invite was used. Forgotten after its expiry, for it is of no use then."""

    id: bytes
    uses: int
    expiry: int

    def emit(self) -> bytes:
        """Id 16 ‖ uses 2 ‖ expiry 8."""
        return self.id + self.uses.to_bytes(2, "big") + self.expiry.to_bytes(8, "big")

    @classmethod
    def read(cls, reader: Reader) -> SpentInvite:
        """Raises DecodeError."""
        return cls(reader.take(INVITE_ID_BYTES, "invite"), reader.uint(2, "uses"), reader.uint(8, "expiry"))


@dataclass(frozen=True, slots=True)
class Charter:
    """What the members agree on.

    Args:
        label: the VLAN's name for people.
        name_nonce: 16 random bytes; with label, creators and threshold it makes the VLAN-ID (SPEC 3.2).
        creators: those who were admins from the beginning, before they came in.
        threshold: how many admins have to agree on who is in and who may do what.
        aead: of all frames.
        is_public: whether members let everybody in the mesh know of it (SPEC 11.1).
        lobby: 32 random bytes that never change: where those who slept find the others (PROTOCOL 10).
        admins: identities that may commit, highest rank first.
        bridges: identities that may speak with many MACs.
        removals: of those who may not come back by themselves, the longest gone first.
        spent: invites that were used.
        admissions, roles: what members that were away need to believe it, where more than one admin has to agree.
        changes: how many there were, removals, admissions and roles; where one admin is enough nobody counts.
    """

    label: str
    name_nonce: bytes
    creators: tuple[bytes, ...]
    threshold: int
    aead: int
    lobby: bytes
    admins: tuple[bytes, ...]
    bridges: frozenset[bytes] = frozenset()
    removals: tuple[Removal, ...] = ()
    spent: tuple[SpentInvite, ...] = ()
    admissions: tuple[Admission, ...] = ()
    roles: Roles | None = None
    changes: int = 0
    is_public: bool = False

    @property
    def removed(self) -> frozenset[bytes]:
        """Identities that may not come back by themselves."""
        return frozenset(one.identity for one in self.removals)

    def with_removals(self, removals: Sequence[Removal]) -> Charter:
        """The charter once these are no members: they have no role, and the oldest removals may be forgotten."""
        gone = {one.identity for one in removals}
        if not gone:
            return self
        kept = tuple(one for one in self.removals if one.identity not in gone)
        return replace(
            self,
            admins=tuple(one for one in self.admins if one not in gone),
            bridges=self.bridges - gone,
            removals=(*kept, *removals)[-MAX_REMOVED:],
            admissions=tuple(one for one in self.admissions if one.identity not in gone),
            changes=self.changes + len(gone) if self.threshold > 1 else 0,
        )

    def with_newcomers(self, newcomers: Set[bytes], used: SpentInvite | None, unix: float) -> Charter:
        """The charter once these are admitted: a removal of theirs is forgiven, the invite that they used is spent."""
        spent = {one.id: one for one in self.spent if one.expiry > unix}
        if used is not None:
            spent[used.id] = used
        forgiven = tuple(one for one in self.removals if one.identity not in newcomers)
        return replace(self, removals=forgiven, spent=tuple(sorted(spent.values())))

    def with_admission(self, admission: Admission) -> Charter:
        """The charter once it says who agreed on a newcomer; a removal of its is forgiven."""
        others = tuple(one for one in self.admissions if one.identity != admission.identity)
        return replace(
            self,
            removals=tuple(one for one in self.removals if one.identity != admission.identity),
            admissions=(*others, admission)[-MAX_ADMITTED:],
            changes=self.changes + 1,
        )

    def with_roles(self, roles: Roles) -> Charter:
        """The charter once these roles are agreed on."""
        return replace(self, admins=roles.admins, bridges=roles.bridges, roles=roles, changes=self.changes + 1)

    def with_admin(self, identity: bytes) -> Charter:
        """The charter once this member is an admin, of the lowest rank if it was none."""
        return self if identity in self.admins else replace(self, admins=(*self.admins, identity))

    def without_admin(self, identity: bytes) -> Charter:
        """The charter once this member is no admin."""
        return replace(self, admins=tuple(one for one in self.admins if one != identity))

    def with_bridge(self, identity: bytes, *, is_allowed: bool) -> Charter:
        """The charter once other MACs may, or may not, be behind this member."""
        return replace(self, bridges=self.bridges | {identity} if is_allowed else self.bridges - {identity})

    def emit(self) -> bytes:
        """Returns the bytes of the group context extension.

        Raises:
            DecodeError: a field beyond its bound.
        """
        if len(self.label.encode()) > MAX_LABEL_BYTES:
            raise DecodeError(f"charter: a label of {len(self.label.encode())} bytes, at most {MAX_LABEL_BYTES}")
        out = bytes((VERSION,)) + lp(self.label.encode()) + self.name_nonce
        out += (
            _keys(sorted(self.creators), 1, MAX_CREATORS, "creators")
            + bytes((self.threshold, self.aead, self.is_public))
            + self.lobby
        )
        out += _keys(self.admins, 2, MAX_ADMINS, "admins") + _keys(sorted(self.bridges), 2, MAX_BRIDGES, "bridges")
        removals = _few(self.removals, MAX_REMOVED, "removals")
        out += len(removals).to_bytes(2, "big") + b"".join(one.emit() for one in removals)
        spent = _few(self.spent, MAX_SPENT, "spent invites")
        out += len(spent).to_bytes(2, "big") + b"".join(one.emit() for one in sorted(spent))
        admissions = _few(self.admissions, MAX_ADMITTED, "admissions")
        out += len(admissions).to_bytes(2, "big") + b"".join(one.emit() for one in admissions)
        out += b"\0" if self.roles is None else b"\1" + self.roles.emit()
        return out + self.changes.to_bytes(8, "big")

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Charter:
        """Reads a charter.

        Raises:
            DecodeError: anything but what `emit` makes.
        """
        reader = Reader(data, "charter")
        if (version := reader.uint(1, "version")) != VERSION:
            raise DecodeError(f"charter: version {version} is not {VERSION}", hint="update PeerTap on this node")
        charter = cls(
            label=reader.text("label", MAX_LABEL_BYTES),
            name_nonce=reader.take(NONCE_BYTES, "name nonce"),
            creators=read_keys(reader, 1, MAX_CREATORS, "creators"),
            threshold=reader.uint(1, "threshold"),
            aead=reader.uint(1, "AEAD"),
            is_public=bool(reader.uint(1, "whether it is public")),
            lobby=reader.take(LOBBY_BYTES, "lobby secret"),
            admins=read_keys(reader, 2, MAX_ADMINS, "admins"),
            bridges=frozenset(read_keys(reader, 2, MAX_BRIDGES, "bridges")),
            removals=tuple(Removal.read(reader) for _ in range(_count(reader, MAX_REMOVED, "removals"))),
            spent=tuple(SpentInvite.read(reader) for _ in range(_count(reader, MAX_SPENT, "spent invites"))),
            admissions=tuple(Admission.read(reader) for _ in range(_count(reader, MAX_ADMITTED, "admissions"))),
            roles=Roles.read(reader) if reader.uint(1, "whether there are roles") else None,
            changes=read_number(reader),
        )
        reader.end()
        if charter.emit() != data:
            raise DecodeError("charter: a list is not in order, or names somebody twice")
        if LABEL.fullmatch(charter.label) is None:
            raise DecodeError("charter: the label is not valid")
        if not 1 <= charter.threshold <= len(charter.creators):
            raise DecodeError(f"charter: {charter.threshold} of {len(charter.creators)} creators")
        if charter.threshold == 1 and (charter.admissions or charter.roles is not None or charter.changes):
            raise DecodeError("charter: one admin is enough, and it has what several agreed on")
        gone = tuple(one.identity for one in charter.removals)
        inside = tuple(one.identity for one in charter.admissions)
        used = tuple(one.id for one in charter.spent)
        if any(len(set(names)) != len(names) for names in (charter.admins, charter.creators, gone, inside, used)):
            raise DecodeError("charter: a list names somebody twice")
        if not charter.admins:
            raise DecodeError("charter: there is no admin")
        return charter


def _keys(keys: Collection[bytes], size: int, most: int, field: str) -> bytes:
    return emit_keys(_few(keys, most, field), size)


def _few(found: C, most: int, field: str) -> C:
    if len(found) > most:
        raise DecodeError(f"charter: {len(found)} {field}, at most {most}")
    return found


def _count(reader: Reader, most: int, field: str) -> int:
    count = reader.uint(2, field)
    if count > most:
        raise DecodeError(f"charter: {count} {field}, at most {most}")
    return count
