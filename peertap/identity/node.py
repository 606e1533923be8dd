"""A node's identity: an Ed25519 key and the libp2p peer ID made from it.

    PeerId, 38 bytes: identity multihash of the protobuf PublicKey{Ed25519, key}
    ┌────────────────┬─────────────────────────┬────────────┐
    │ 00 24          │ 08 01 12 20             │ public 32  │
    │ identity, 36 B │ type Ed25519, 32 B data │            │
    └────────────────┴─────────────────────────┴────────────┘
    as text: base58btc, "12D3KooW…" (52 characters)

Source: libp2p peer-ids specification; SPEC 1.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import base58
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peertap.errors import DecodeError
from peertap.identity import armour
from peertap.types import PeerId, is_peer_id, peer_id_of

MAX_PEER_ID_CHARS: Final = 64  # ours: 38 bytes are 52 characters; bounds base58's quadratic decoding
TEXT_PREFIX: Final = "ptnode1"


class NodeIdentity:
    """The private key of a node; `repr` shows only the peer ID."""

    def __init__(self, seed: bytes) -> None:
        """Args: seed: the Ed25519 seed, 32 bytes."""
        if len(seed) != armour.KEY_BYTES:
            raise DecodeError(f"node identity: a seed has {armour.KEY_BYTES} bytes, not {len(seed)}")
        self._seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self._seed)

    @classmethod
    def parse(cls, text: str) -> NodeIdentity:
        """Reads the content of an identity file ("ptnode1-…").

        Raises:
            DecodeError: Anything else; the text is not repeated.
        """
        label, seed = armour.parse(TEXT_PREFIX, text, what="node identity")
        if label:
            raise DecodeError("node identity: holds a label, as only a VLAN secret does")
        return cls(seed)

    def emit(self) -> str:
        """Returns the private text for an identity file."""
        return armour.emit(TEXT_PREFIX, "", self._seed)

    @property
    def seed(self) -> bytes:
        """The private seed, 32 bytes, for the libp2p host's key pair."""
        return self._seed

    @cached_property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    @cached_property
    def peer_id(self) -> PeerId:
        """The peer ID, 38 bytes."""
        return peer_id_of(self.public_key)

    @property
    def text(self) -> str:
        """The peer ID as text: "12D3KooW…"."""
        return format_peer_id(self.peer_id)

    def sign(self, message: bytes) -> bytes:
        """Returns the Ed25519 signature of `message`, 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"NodeIdentity({self.text})"


def check_peer_id(raw: bytes) -> PeerId:
    """Returns `raw` as a peer ID.

    Raises:
        DecodeError: Not 38 bytes, or not made from an Ed25519 key.
    """
    if not is_peer_id(raw):
        raise DecodeError(
            "peer ID: not made from an Ed25519 key", hint="PeerTap's peer IDs start with 12D3KooW: see `peertap id`"
        )
    return PeerId(bytes(raw))


def format_peer_id(peer_id: PeerId) -> str:
    """Returns a peer ID as text: "12D3KooW…"."""
    return base58.b58encode(peer_id).decode("ascii")


def parse_peer_id(text: str) -> PeerId:
    """Reads a peer ID in base58.

    Raises:
        DecodeError: Not base58, or not the ID of an Ed25519 key.
    """
    hint = "a peer ID is 12D3KooW and 44 more letters and digits: see `peertap id` on that machine"
    if not text.isascii() or len(text) > MAX_PEER_ID_CHARS:
        raise DecodeError("peer ID: not base58, or too long", hint=hint)
    try:
        raw = base58.b58decode(text)
    except ValueError:
        raise DecodeError("peer ID: not base58, a character is wrong", hint=hint) from None
    if base58.b58encode(raw).decode("ascii") != text:  # b58decode strips white space
        raise DecodeError("peer ID: not base58, a character is wrong", hint=hint)
    return check_peer_id(raw)
