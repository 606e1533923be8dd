"""The hybrid SIGMA handshake of a trunk (SPEC 4.1, 4.2).

    dialler                            listener
       │ Offer ───────────────────────────▶ │  T = SHA-384(both peer IDs, Offer, Answer)
       │ ◀──────────────── Answer, Proof    │  Proof = signature over T, HMAC under the new keys
       │ Proof ───────────────────────────▶ │

Both parts are values: each method takes a message and returns the next. Any mismatch raises, and the trunk ends there.
"""

import hmac as constant_time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey, MLKEM1024PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from peertap.errors import DecodeError, PeerError, StateError
from peertap.types import PeerId, is_peer_id, public_key_of
from peertap.wire.codec import lp
from peertap.wire.control import CloseCode
from peertap.wire.handshake import (
    NONCE_BYTES,
    SUITE_X25519_MLKEM1024_AES256GCM,
    SUITE_X25519_MLKEM1024_CHACHA20POLY1305,
    VERSION,
    Answer,
    Offer,
    Proof,
)
from peertap.wire.kdf import expand, extract, hash384, mac

VERSIONS: Final = (VERSION,)
SUITES: Final = (SUITE_X25519_MLKEM1024_AES256GCM, SUITE_X25519_MLKEM1024_CHACHA20POLY1305)  # ours: best first

RandomBytes = Callable[[int], bytes]
Parsed = TypeVar("Parsed")


class Signer(Protocol):
    """The node's identity, as far as a handshake needs it."""

    @property
    def peer_id(self) -> PeerId: ...

    def sign(self, message: bytes) -> bytes: ...


class Role(Enum):
    """Which end of a handshake; its value goes into signatures and keys."""

    DIALLER = b"dialler"
    LISTENER = b"listener"

    @property
    def other(self) -> "Role":
        return Role.LISTENER if self is Role.DIALLER else Role.DIALLER


class HandshakeFailed(PeerError):
    """The handshake ends here; `code` is what the other side is told (SPEC 4.5)."""

    def __init__(self, code: CloseCode, what: str) -> None:
        super().__init__(what)
        self.code = code


@dataclass(frozen=True, slots=True)
class TrunkSecrets:
    """What a finished handshake leaves: the keys of one epoch, for one end (SPEC 4.2)."""

    peer: PeerId
    role: Role
    version: int
    suite: int
    features: int
    control_send: bytes
    control_receive: bytes
    chain: bytes
    prk: bytes

    @property
    def aead(self) -> int:
        """AEAD id of records and hops (SPEC 1); the suite ids are the AEAD ids."""
        return self.suite

    def hop(self, *, sending: bool, carrier: str) -> bytes:
        """The hop key of one direction and carrier ("udp" or "stream")."""
        sender = self.role if sending else self.role.other
        return expand(self.prk, "hop", sender.value, carrier.encode("ascii"))


def _identity_key(peer: PeerId) -> Ed25519PublicKey:
    """The identity key inside a peer ID.

    Raises: HandshakeFailed when it is not an Ed25519 peer ID.
    """
    if not is_peer_id(peer):
        raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour's peer ID holds no Ed25519 key")
    try:
        return Ed25519PublicKey.from_public_bytes(public_key_of(peer))
    except ValueError:
        raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour's peer ID holds no Ed25519 key") from None


class _Handshake:
    """What both ends do alike: transcript, keys, proofs."""

    def __init__(self, signer: Signer, peer: PeerId, role: Role, chain: bytes) -> None:
        self._signer = signer
        self._peer = peer
        self._role = role
        self._chain = chain
        self._transcript = b""
        self._prk = b""
        self._answer: Answer | None = None

    def _agree(self, offer: bytes, answer: bytes, mlkem_secret: bytes, x25519_secret: bytes) -> None:
        dialler, listener = self._signer.peer_id, self._peer
        if self._role is Role.LISTENER:
            dialler, listener = listener, dialler
        self._transcript = hash384(b"PeerTap/1 trunk", lp(dialler), lp(listener), lp(offer), lp(answer))
        self._prk = extract(hash384(self._transcript, self._chain), mlkem_secret + x25519_secret)

    def _signed(self, role: Role) -> bytes:
        return b"PeerTap/1 trunk" + lp(role.value) + self._transcript

    def _confirmation(self, role: Role) -> bytes:
        return mac(expand(self._prk, "confirm", role.value), self._transcript)

    def _proof(self) -> Proof:
        return Proof(self._signer.sign(self._signed(self._role)), self._confirmation(self._role))

    def _check(self, data: bytes) -> None:
        proof = _parsed(Proof.parse_untrusted, data)
        role = self._role.other
        if not constant_time.compare_digest(proof.confirmation, self._confirmation(role)):
            raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour's confirmation does not match")
        try:
            _identity_key(self._peer).verify(proof.signature, self._signed(role))
        except InvalidSignature:
            raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour's signature does not match") from None

    def _secrets(self, answer: Answer) -> TrunkSecrets:
        return TrunkSecrets(
            peer=self._peer,
            role=self._role,
            version=answer.version,
            suite=answer.suite,
            features=answer.features,
            control_send=expand(self._prk, "control", self._role.value),
            control_receive=expand(self._prk, "control", self._role.other.value),
            chain=expand(self._prk, "chain"),
            prk=self._prk,
        )


class Dialler(_Handshake):
    """The end that begins."""

    def __init__(
        self, signer: Signer, peer: PeerId, random: RandomBytes, *, features: int = 0, chain: bytes = b"",
        suites: tuple[int, ...] = SUITES,
    ) -> None:  # fmt: skip
        super().__init__(signer, peer, Role.DIALLER, chain)
        self._x25519 = X25519PrivateKey.generate()
        self._mlkem = MLKEM1024PrivateKey.generate()
        self._offer = Offer(
            peer=signer.peer_id,
            versions=VERSIONS,
            suites=suites,
            features=features,
            nonce=random(NONCE_BYTES),
            x25519=self._x25519.public_key().public_bytes_raw(),
            mlkem=self._mlkem.public_key().public_bytes_raw(),
        )

    def offer(self) -> bytes:
        return self._offer.emit()

    def answered(self, answer_bytes: bytes, proof: bytes) -> tuple[bytes, TrunkSecrets]:
        """Takes the listener's Answer and Proof.

        Returns: our Proof to send, and the keys.
        Raises: HandshakeFailed.
        """
        answer = _parsed(Answer.parse_untrusted, answer_bytes)
        if answer.peer != self._peer:
            raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour answered under another peer ID")
        if answer.version not in self._offer.versions or answer.suite not in self._offer.suites:
            raise HandshakeFailed(CloseCode.VERSION, "the neighbour chose a version or suite that was not offered")
        if answer.features & ~self._offer.features:
            raise HandshakeFailed(CloseCode.VERSION, "the neighbour chose a feature that was not offered")
        self._agree(
            self._offer.emit(),
            answer_bytes,
            self._mlkem.decapsulate(answer.mlkem),
            _x25519(self._x25519, answer.x25519),
        )
        self._check(proof)
        return self._proof().emit(), self._secrets(answer)


class Listener(_Handshake):
    """The end that answers."""

    def __init__(
        self, signer: Signer, peer: PeerId, random: RandomBytes, *, features: int = 0, chain: bytes = b"",
        suites: tuple[int, ...] = SUITES,
    ) -> None:  # fmt: skip
        super().__init__(signer, peer, Role.LISTENER, chain)
        self._random = random
        self._features = features
        self._suites = suites

    def offered(self, offer_bytes: bytes) -> tuple[bytes, bytes]:
        """Takes the dialler's Offer.

        Returns: Answer and Proof to send.
        Raises: HandshakeFailed.
        """
        offer = _parsed(Offer.parse_untrusted, offer_bytes)
        if offer.peer != self._peer:
            raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour offers under another peer ID")
        version = next((one for one in VERSIONS if one in offer.versions), None)
        if version is None:
            raise HandshakeFailed(CloseCode.VERSION, f"no common version: offered {list(offer.versions)}")
        suite = next((one for one in self._suites if one in offer.suites), None)
        if suite is None:
            raise HandshakeFailed(CloseCode.VERSION, f"no common suite: offered {list(offer.suites)}")
        try:
            mlkem_secret, ciphertext = MLKEM1024PublicKey.from_public_bytes(offer.mlkem).encapsulate()
        except ValueError:
            raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour's ML-KEM key is not valid") from None
        x25519 = X25519PrivateKey.generate()
        answer = Answer(
            peer=self._signer.peer_id,
            version=version,
            suite=suite,
            features=offer.features & self._features,
            nonce=self._random(NONCE_BYTES),
            x25519=x25519.public_key().public_bytes_raw(),
            mlkem=ciphertext,
        )
        self._answer = answer
        self._agree(offer_bytes, answer.emit(), mlkem_secret, _x25519(x25519, offer.x25519))
        return answer.emit(), self._proof().emit()

    def proved(self, proof: bytes) -> TrunkSecrets:
        """Takes the dialler's Proof.

        Raises: HandshakeFailed.
        """
        if self._answer is None:
            raise StateError("proof before the offer")
        self._check(proof)
        return self._secrets(self._answer)


def _parsed(parse: Callable[[bytes], Parsed], data: bytes) -> Parsed:
    try:
        return parse(data)
    except DecodeError as error:
        raise HandshakeFailed(CloseCode.MALFORMED, str(error)) from None


def _x25519(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # an all-zero result (RFC 7748, 6.1)
        raise HandshakeFailed(CloseCode.HANDSHAKE, "the neighbour's X25519 key is of low order") from None
