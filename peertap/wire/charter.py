"""What the members of a VLAN agree on: the group's context (SPEC 9.4).

    ├ version 1 ┼ lp(label) ┼ name nonce 16 ┼ n 1 ┼ n × creator key 32 ┼ k 1 ┼ AEAD 1 ┼ lobby secret 32 ┤
    ├ n 2 ┼ n × admin 32 ┼ n 2 ┼ n × bridge 32 ┼ n 2 ┼ n × removal 160 ┼ n 2 ┼ n × spent invite 26 ┤
    removal: identity 32 ‖ leaf key 32 ‖ admin 32 ‖ signature 64      spent invite: id 16 ‖ uses 2 ‖ expiry 8 (Unix s)

Admins, bridges and the removed are identities: Ed25519 public keys. Admins stand in the order of their rank, removals
in that of their time, the rest is sorted, so that equal charters are equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from peertap.errors import DecodeError
from peertap.wire.codec import Reader, lp

VERSION: Final = 1
LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)  # it names a file
KEY_BYTES: Final = 32  # Ed25519
SIGNATURE_BYTES: Final = 64  # Ed25519
NONCE_BYTES: Final = 16
LOBBY_BYTES: Final = 32
INVITE_ID_BYTES: Final = 16
MAX_LABEL_BYTES: Final = 32  # as in the text of a secret (SPEC 8.2)
MAX_CREATORS: Final = 16  # ours
MAX_ADMINS: Final = 64  # ours
MAX_BRIDGES: Final = 1024  # ours
MAX_REMOVED: Final = 256  # ours: who was removed longest ago is forgotten
MAX_SPENT: Final = 1024  # ours: invites that are used up or expired leave


@dataclass(frozen=True, slots=True)
class Removal:
    """An admin's word that a member is removed, or the member's own. It counts on every branch (PROTOCOL 10).

    Args:
        key: the leaf's MLS key: a member that was admitted anew has another, and this says nothing about it.
        admin: who said it.
    """

    identity: bytes
    key: bytes
    admin: bytes
    signature: bytes = b""

    def signed(self, vlan_id: bytes) -> bytes:
        """What the admin's identity signs."""
        return b"PeerTap/1 removal" + vlan_id + self.identity + self.key

    def emit(self) -> bytes:
        return self.identity + self.key + self.admin + self.signature

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Removal:
        """Raises DecodeError."""
        reader = Reader(data, "removal")
        removal = cls.read(reader)
        reader.end()
        return removal

    @classmethod
    def read(cls, reader: Reader) -> Removal:
        """Raises DecodeError."""
        identity, key = reader.take(KEY_BYTES, "removed identity"), reader.take(KEY_BYTES, "leaf key")
        return cls(identity, key, reader.take(KEY_BYTES, "admin"), reader.take(SIGNATURE_BYTES, "signature"))


@dataclass(frozen=True, slots=True, order=True)
class SpentInvite:
    """How often an invite was used. Forgotten after its expiry, for it is of no use then."""

    id: bytes
    uses: int
    expiry: int


@dataclass(frozen=True, slots=True)
class Charter:
    """What the members agree on.

    Args:
        label: the VLAN's name for people.
        name_nonce: 16 random bytes; with label, creators and threshold it makes the VLAN-ID (SPEC 3.2).
        creators, threshold: whose signatures, and how many of them, speak for the VLAN.
        aead: of all frames.
        lobby: 32 random bytes that never change: where those who slept find the others (PROTOCOL 10).
        admins: identities that may commit, highest rank first.
        bridges: identities that may speak with many MACs.
        removals: of those who may not come back by themselves, the longest gone first.
        spent: invites that were used.
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
        )

    def with_newcomers(self, newcomers: Set[bytes], used: SpentInvite | None, unix: float) -> Charter:
        """The charter once these are admitted: a removal of theirs is forgiven, the invite that they used is spent."""
        spent = {one.id: one for one in self.spent if one.expiry > unix}
        if used is not None:
            spent[used.id] = used
        forgiven = tuple(one for one in self.removals if one.identity not in newcomers)
        return replace(self, removals=forgiven, spent=tuple(sorted(spent.values())))

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
            _keys(sorted(self.creators), 1, MAX_CREATORS, "creators") + bytes((self.threshold, self.aead)) + self.lobby
        )
        out += _keys(self.admins, 2, MAX_ADMINS, "admins") + _keys(sorted(self.bridges), 2, MAX_BRIDGES, "bridges")
        if len(self.removals) > MAX_REMOVED:
            raise DecodeError(f"charter: {len(self.removals)} removals, at most {MAX_REMOVED}")
        out += len(self.removals).to_bytes(2, "big") + b"".join(one.emit() for one in self.removals)
        if len(self.spent) > MAX_SPENT:
            raise DecodeError(f"charter: {len(self.spent)} spent invites, at most {MAX_SPENT}")
        out += len(self.spent).to_bytes(2, "big")
        for one in sorted(self.spent):
            out += one.id + one.uses.to_bytes(2, "big") + one.expiry.to_bytes(8, "big")
        return out

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
            creators=_read_keys(reader, 1, MAX_CREATORS, "creators"),
            threshold=reader.uint(1, "threshold"),
            aead=reader.uint(1, "AEAD"),
            lobby=reader.take(LOBBY_BYTES, "lobby secret"),
            admins=_read_keys(reader, 2, MAX_ADMINS, "admins"),
            bridges=frozenset(_read_keys(reader, 2, MAX_BRIDGES, "bridges")),
            removals=_read_removals(reader),
            spent=_read_spent(reader),
        )
        reader.end()
        if charter.emit() != data:
            raise DecodeError("charter: a list is not in order, or names somebody twice")
        if LABEL.fullmatch(charter.label) is None:
            raise DecodeError("charter: the label is not valid")
        if not 1 <= charter.threshold <= len(charter.creators):
            raise DecodeError(f"charter: {charter.threshold} of {len(charter.creators)} creators")
        gone = tuple(one.identity for one in charter.removals)
        used = tuple(one.id for one in charter.spent)
        if any(len(set(names)) != len(names) for names in (charter.admins, charter.creators, gone, used)):
            raise DecodeError("charter: a list names somebody twice")
        if not charter.admins:
            raise DecodeError("charter: there is no admin")
        return charter


def _keys(keys: tuple[bytes, ...] | list[bytes], size: int, most: int, field: str) -> bytes:
    if len(keys) > most:
        raise DecodeError(f"charter: {len(keys)} {field}, at most {most}")
    return len(keys).to_bytes(size, "big") + b"".join(keys)


def _read_keys(reader: Reader, size: int, most: int, field: str) -> tuple[bytes, ...]:
    count = reader.uint(size, field)
    if count > most:
        raise DecodeError(f"charter: {count} {field}, at most {most}")
    return tuple(reader.take(KEY_BYTES, field) for _ in range(count))


def _read_removals(reader: Reader) -> tuple[Removal, ...]:
    count = reader.uint(2, "removals")
    if count > MAX_REMOVED:
        raise DecodeError(f"charter: {count} removals, at most {MAX_REMOVED}")
    return tuple(Removal.read(reader) for _ in range(count))


def _read_spent(reader: Reader) -> tuple[SpentInvite, ...]:
    count = reader.uint(2, "spent invites")
    if count > MAX_SPENT:
        raise DecodeError(f"charter: {count} spent invites, at most {MAX_SPENT}")
    return tuple(
        SpentInvite(reader.take(INVITE_ID_BYTES, "invite"), reader.uint(2, "uses"), reader.uint(8, "expiry"))
        for _ in range(count)
    )
