"""Announcements signed under a VLAN's route key (SPEC 6.1, 6.3)."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple, Self

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from peertap.types import Token, VTag
from peertap.wire.codec import Reader

ORIGIN_BYTES: Final = 16
KIND_UNICAST: Final = 1  # SPEC 3.2
KIND_TREE: Final = 3  # SPEC 3.2
ROUTE_BYTES: Final = 139
JOIN_BYTES: Final = 136
EVERY_GROUP: Final = Token(bytes(16))  # SPEC 13.1: stands for all groups; relays know it


class Origin(NamedTuple):
    """Who announces a token, and since when; the smallest is a tree's root.

    priority 1 | start (ms, Unix) 6 | random 9
    """

    priority: int
    start_ms: int
    random: bytes

    def emit(self) -> bytes:
        return bytes((self.priority,)) + self.start_ms.to_bytes(6, "big") + self.random

    @classmethod
    def parse(cls, data: bytes) -> Self:
        return cls(data[0], int.from_bytes(data[1:7], "big"), data[7:16])


@lru_cache(maxsize=4096)  # ours: as many VLANs are looked up without hashing
def vtag_of(route_public: bytes) -> VTag:
    """The VLAN's only name on trunks (SPEC 3.2)."""
    return VTag(blake3(route_public).digest(16))


def signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this Ed25519 key made the signature."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class SignedRoute:
    """An owner's announcement of a token.

    route key 32 | kind 1 (1 unicast, 3 tree) | VFT 16 | origin 16 | sequence 4 | expiry (Unix s) 6
    | signature 64 over the prefix and all before it
    """

    PREFIX: ClassVar[bytes] = b"PeerTap/1 route"

    public: bytes
    kind: int
    token: Token
    origin: Origin
    sequence: int
    expiry: int
    signature: bytes
    key: tuple[VTag, Token] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (vtag_of(self.public), self.token))

    @property
    def vtag(self) -> VTag:
        return self.key[0]

    @classmethod
    def unsigned(cls, public: bytes, kind: int, token: Token, origin: Origin, sequence: int, expiry: int) -> bytes:
        """What the signature covers."""
        numbers = sequence.to_bytes(4, "big") + expiry.to_bytes(6, "big")
        return cls.PREFIX + public + bytes((kind,)) + token + origin.emit() + numbers

    def signed_part(self) -> bytes:
        return self.unsigned(self.public, self.kind, self.token, self.origin, self.sequence, self.expiry)

    def emit(self) -> bytes:
        return self.signed_part()[len(self.PREFIX) :] + self.signature

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        reader = Reader(data, "route")
        return cls(
            public=reader.take(32, "route key"),
            kind=reader.uint(1, "kind"),
            token=Token(reader.take(16, "VFT")),
            origin=Origin.parse(reader.take(ORIGIN_BYTES, "origin")),
            sequence=reader.uint(4, "sequence"),
            expiry=reader.uint(6, "expiry"),
            signature=reader.take(64, "signature"),
        )


@dataclass(frozen=True, slots=True)
class SignedJoin:
    """A member's wish for a group's frames, as any relay may pass it up.

    route key 32 | root origin 16 | VFT 16 | expiry (Unix s) 8 | signature 64 over the prefix and all before it
    """

    PREFIX: ClassVar[bytes] = b"PeerTap/1 join"

    public: bytes
    root: Origin
    token: Token
    expiry: int
    signature: bytes

    @property
    def vtag(self) -> VTag:
        return vtag_of(self.public)

    @classmethod
    def unsigned(cls, public: bytes, root: Origin, token: Token, expiry: int) -> bytes:
        return cls.PREFIX + public + root.emit() + token + expiry.to_bytes(8, "big")

    def signed_part(self) -> bytes:
        return self.unsigned(self.public, self.root, self.token, self.expiry)

    def emit(self) -> bytes:
        return self.signed_part()[len(self.PREFIX) :] + self.signature

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        reader = Reader(data, "join")
        return cls(
            public=reader.take(32, "route key"),
            root=Origin.parse(reader.take(ORIGIN_BYTES, "root origin")),
            token=Token(reader.take(16, "VFT")),
            expiry=reader.uint(8, "expiry"),
            signature=reader.take(64, "signature"),
        )


@dataclass(frozen=True, slots=True)
class SignedSubscription(SignedJoin):
    """A member's wish for a multicast group's frames, by those edges of the tree that lead to it (SPEC 13.1).

    As a join, under a prefix of its own: neither can pass for the other.
    """

    PREFIX: ClassVar[bytes] = b"PeerTap/1 subscription"
