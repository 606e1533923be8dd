"""The three messages of the trunk handshake (SPEC 4.1)."""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from peertap.errors import DecodeError
from peertap.wire.codec import Reader, lp

MAGIC: Final = b"PT1T"
MAX_HANDSHAKE_BYTES: Final = 8192  # ours: an offer has about 1,750 bytes
MAX_CHOICES: Final = 16  # ours: versions and suites offered at most

VERSION: Final = 1
SUITE_X25519_MLKEM1024_AES256GCM: Final = 1
SUITE_X25519_MLKEM1024_CHACHA20POLY1305: Final = 2
CIPHERS: Final = {  # SPEC 1: a suite's id is its AEAD's
    SUITE_X25519_MLKEM1024_AES256GCM: "AES-256-GCM",
    SUITE_X25519_MLKEM1024_CHACHA20POLY1305: "ChaCha20-Poly1305",
}

NONCE_BYTES: Final = 32
X25519_BYTES: Final = 32
MLKEM1024_KEY_BYTES: Final = 1568  # FIPS 203
MLKEM1024_CIPHERTEXT_BYTES: Final = 1568  # FIPS 203
SIGNATURE_BYTES: Final = 64
CONFIRMATION_BYTES: Final = 48  # HMAC-SHA-384


def _choices(reader: Reader, field: str) -> tuple[int, ...]:
    count = reader.uint(1, field)
    if not 1 <= count <= MAX_CHOICES:
        raise DecodeError(f"offer: {count} {field}, 1 to {MAX_CHOICES} are allowed")
    return tuple(reader.uint(1, field) for _ in range(count))


@dataclass(frozen=True, slots=True)
class Offer:
    """Begins a handshake.

    magic 4 | kind 1 | lp(peer ID) | versions (count 1, each 1) | suites (count 1, each 1) | features 8
    | nonce 32 | X25519 32 | ML-KEM-1024 encapsulation key 1568
    """

    KIND: ClassVar[int] = 1

    peer: bytes
    versions: tuple[int, ...]
    suites: tuple[int, ...]
    features: int
    nonce: bytes
    x25519: bytes
    mlkem: bytes

    def emit(self) -> bytes:
        return b"".join(
            (
                MAGIC,
                bytes((self.KIND,)),
                lp(self.peer),
                bytes((len(self.versions), *self.versions)),
                bytes((len(self.suites), *self.suites)),
                self.features.to_bytes(8, "big"),
                self.nonce,
                self.x25519,
                self.mlkem,
            )
        )

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        reader = Reader(data, "offer")
        _head(reader, cls.KIND)
        message = cls(
            peer=reader.lp("peer ID", 64),
            versions=_choices(reader, "versions"),
            suites=_choices(reader, "suites"),
            features=reader.uint(8, "features"),
            nonce=reader.take(NONCE_BYTES, "nonce"),
            x25519=reader.take(X25519_BYTES, "X25519 key"),
            mlkem=reader.take(MLKEM1024_KEY_BYTES, "ML-KEM key"),
        )
        reader.end()
        return message


@dataclass(frozen=True, slots=True)
class Answer:
    """Answers an Offer.

    magic 4 | kind 1 | lp(peer ID) | version 1 | suite 1 | features 8 | nonce 32 | X25519 32
    | ML-KEM-1024 ciphertext 1568
    """

    KIND: ClassVar[int] = 2

    peer: bytes
    version: int
    suite: int
    features: int
    nonce: bytes
    x25519: bytes
    mlkem: bytes

    def emit(self) -> bytes:
        return b"".join(
            (
                MAGIC,
                bytes((self.KIND,)),
                lp(self.peer),
                bytes((self.version, self.suite)),
                self.features.to_bytes(8, "big"),
                self.nonce,
                self.x25519,
                self.mlkem,
            )
        )

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        reader = Reader(data, "answer")
        _head(reader, cls.KIND)
        message = cls(
            peer=reader.lp("peer ID", 64),
            version=reader.uint(1, "version"),
            suite=reader.uint(1, "suite"),
            features=reader.uint(8, "features"),
            nonce=reader.take(NONCE_BYTES, "nonce"),
            x25519=reader.take(X25519_BYTES, "X25519 key"),
            mlkem=reader.take(MLKEM1024_CIPHERTEXT_BYTES, "ML-KEM ciphertext"),
        )
        reader.end()
        return message


@dataclass(frozen=True, slots=True)
class Proof:
    """Proves the identity and the keys of its sender: magic 4 | kind 1 | signature 64 | confirmation 48."""

    KIND: ClassVar[int] = 3

    signature: bytes
    confirmation: bytes

    def emit(self) -> bytes:
        return MAGIC + bytes((self.KIND,)) + self.signature + self.confirmation

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        reader = Reader(data, "proof")
        _head(reader, cls.KIND)
        message = cls(
            signature=reader.take(SIGNATURE_BYTES, "signature"),
            confirmation=reader.take(CONFIRMATION_BYTES, "confirmation"),
        )
        reader.end()
        return message


@dataclass(frozen=True, slots=True)
class Refusal:
    """Ends a handshake before there are keys; says why: magic 4 | kind 1 | code 1 (SPEC 4.5)."""

    KIND: ClassVar[int] = 4

    code: int

    def emit(self) -> bytes:
        return MAGIC + bytes((self.KIND, self.code))

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        reader = Reader(data, "refusal")
        _head(reader, cls.KIND)
        message = cls(code=reader.uint(1, "code"))
        reader.end()
        return message


def is_refusal_untrusted(data: bytes) -> bool:
    """Whether these bytes begin like a Refusal."""
    return data[: len(MAGIC) + 1] == MAGIC + bytes((Refusal.KIND,))


def _head(reader: Reader, kind: int) -> None:
    if reader.take(len(MAGIC), "magic") != MAGIC:
        raise DecodeError("not a PeerTap trunk handshake")
    got = reader.uint(1, "kind")
    if got != kind:
        raise DecodeError(f"handshake message of kind {got}, expected {kind}")
