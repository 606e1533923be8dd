"""What admins agree on, with their signatures: it counts on every branch of the group (SPEC 9.4, PROTOCOL 10).

    removal, admission: identity 32 ‖ MLS key of the leaf 32 ‖ number 8 ‖ signatures
    roles: number 8 ‖ n 2 × admin 32 ‖ n 2 × bridge 32 ‖ signatures
    signatures: n 1 ‖ n × (identity 32 ‖ Ed25519 signature 64), sorted by identity

The number is one more than that of the changes that had been agreed on when it was asked for: a word counts for the
next few changes, and then no more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Self, TypeVar

from peertap.errors import DecodeError
from peertap.wire.codec import Reader
from peertap.wire.routes import signed_by

KEY_BYTES: Final = 32  # Ed25519
SIGNATURE_BYTES: Final = 64  # Ed25519
MAX_SIGNATURES: Final = 16  # ours: as many as creators
MAX_ADMINS: Final = 64  # ours
MAX_BRIDGES: Final = 1024  # ours
MAX_NUMBER: Final = 1 << 62  # ours: nobody gets there by ones

Signatures = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class OfLeaf:
    """About a member; `key` is its leaf's MLS key."""

    identity: bytes
    key: bytes
    number: int = 1
    signatures: Signatures = ()

    def _body(self) -> bytes:
        return self.identity + self.key + self.number.to_bytes(8, "big")

    def emit(self) -> bytes:
        return self._body() + emit_signatures(self.signatures)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Raises DecodeError."""
        identity, key = reader.take(KEY_BYTES, "identity"), reader.take(KEY_BYTES, "leaf key")
        return cls(identity, key, read_number(reader), read_signatures(reader))


@dataclass(frozen=True, slots=True)
class Removal(OfLeaf):
    """A member goes: the word of admins, or its own."""

    @property
    def is_own(self) -> bool:
        """Whether the member itself says so, and nobody else."""
        return [who for who, _ in self.signatures] == [self.identity]

    def signed(self, vlan_id: bytes) -> bytes:
        """What is signed."""
        return b"PeerTap/1 removal" + vlan_id + self._body()

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Removal:
        """Raises DecodeError."""
        reader = Reader(data, "removal")
        removal = cls.read(reader)
        reader.end()
        return removal


@dataclass(frozen=True, slots=True)
class Admission(OfLeaf):
    """Somebody comes in."""

    def signed(self, vlan_id: bytes) -> bytes:
        """What is signed."""
        return b"PeerTap/1 admission" + vlan_id + self._body()


@dataclass(frozen=True, slots=True)
class Roles:
    """Who the admins are, highest rank first, and who may bridge."""

    number: int
    admins: tuple[bytes, ...]
    bridges: frozenset[bytes]
    signatures: Signatures = ()

    def _body(self) -> bytes:
        return self.number.to_bytes(8, "big") + emit_keys(self.admins, 2) + emit_keys(sorted(self.bridges), 2)

    def signed(self, vlan_id: bytes) -> bytes:
        """What is signed."""
        return b"PeerTap/1 roles" + vlan_id + self._body()

    def emit(self) -> bytes:
        return self._body() + emit_signatures(self.signatures)

    @classmethod
    def read(cls, reader: Reader) -> Roles:
        """Raises DecodeError."""
        number = read_number(reader)
        admins = read_keys(reader, 2, MAX_ADMINS, "admins")
        bridges = read_keys(reader, 2, MAX_BRIDGES, "bridges")
        if list(bridges) != sorted(set(bridges)) or len(set(admins)) != len(admins):
            raise DecodeError("roles: a list is not in order, or names somebody twice")
        return cls(number, admins, frozenset(bridges), read_signatures(reader))


Motion = Removal | Admission | Roles
M = TypeVar("M", bound=Motion)
L = TypeVar("L", Removal, Admission)


KINDS: Final = (Removal, Admission, Roles)  # by their number


def emit_motion(motion: Motion) -> bytes:
    """Kind 1 (0: removal, 1: admission, 2: roles) ‖ it."""
    return bytes((KINDS.index(type(motion)),)) + motion.emit()


def read_motion(reader: Reader) -> Motion:
    """Raises DecodeError."""
    kind = reader.uint(1, "kind of change")
    if kind >= len(KINDS):
        raise DecodeError(f"change: kind {kind} is not known")
    return KINDS[kind].read(reader)


def signers(motion: Motion, vlan_id: bytes, among: Collection[bytes]) -> frozenset[bytes]:
    """Whose signatures under it hold, of these; no others are looked at."""
    message = motion.signed(vlan_id)
    return frozenset(who for who, signed in motion.signatures if who in among and signed_by(who, signed, message))


def is_agreed(motion: Motion, vlan_id: bytes, admins: Collection[bytes], threshold: int) -> bool:
    """Whether so many of these admins have signed it."""
    return len(signers(motion, vlan_id, admins)) >= threshold


def with_signatures(motion: M, more: Signatures) -> M:
    """The motion with these signatures, too."""
    both = dict(more) | dict(motion.signatures)
    return replace(motion, signatures=tuple(sorted(both.items())[:MAX_SIGNATURES]))


def read_number(reader: Reader) -> int:
    """A count of changes, or a change's number. Raises DecodeError."""
    number = reader.uint(8, "number of changes")
    if number > MAX_NUMBER:
        raise DecodeError(f"change: its number {number} is not credible")
    return number


def emit_signatures(signatures: Signatures) -> bytes:
    """n 1 ‖ n × (identity 32 ‖ signature 64)."""
    return bytes((len(signatures),)) + b"".join(who + signature for who, signature in signatures)


def read_signatures(reader: Reader) -> Signatures:
    """Raises DecodeError."""
    count = reader.uint(1, "signatures")
    if count > MAX_SIGNATURES:
        raise DecodeError(f"{count} signatures, at most {MAX_SIGNATURES}")
    found = tuple(
        (reader.take(KEY_BYTES, "who signed"), reader.take(SIGNATURE_BYTES, "signature")) for _ in range(count)
    )
    names = [who for who, _ in found]
    if names != sorted(set(names)):
        raise DecodeError("signatures: not in order, or one signed twice")
    return found


def emit_keys(keys: Collection[bytes], size: int) -> bytes:
    """n `size` ‖ n × key 32."""
    return len(keys).to_bytes(size, "big") + b"".join(keys)


def read_keys(reader: Reader, size: int, most: int, field: str) -> tuple[bytes, ...]:
    """Raises DecodeError."""
    count = reader.uint(size, field)
    if count > most:
        raise DecodeError(f"{count} {field}, at most {most}")
    return tuple(reader.take(KEY_BYTES, field) for _ in range(count))
