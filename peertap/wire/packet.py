"""The readable reference of the frame packet: what the data plane does, in Python (SPEC 2, 3.3).

Tests hold the data plane against it, with the vectors of tests/vectors/frame.json and with packets made here. Nothing
on a frame's way calls it.
"""

import hmac as constant_time
from dataclasses import dataclass
from typing import Final, Self

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from peertap.errors import DecodeError
from peertap.wire.codec import Reader, lp

CLEAR_BYTES: Final = 12
HOP_BYTES: Final = 18
TAG_BYTES: Final = 16
TYPE_FRAME: Final = 0
FLAG_INTRO: Final = 1
HOP_LIMIT: Final = 32  # SPEC 2.1
SIGNATURE_BYTES: Final = 64
MAX_DEPTH: Final = 5  # SPEC 2.4

_AEADS: Final[dict[int, type[AESGCM] | type[ChaCha20Poly1305]]] = {1: AESGCM, 2: ChaCha20Poly1305}  # SPEC 1


def expand(key: bytes, label: str, *context: bytes) -> bytes:
    """X(key, label, context ...) of SPEC 1."""
    info = b"PeerTap/1 " + label.encode("ascii") + b"\0" + b"".join(map(lp, context))
    return HKDFExpand(SHA384(), 32, info).derive(key)


def group_secret(root: bytes, member: bytes, sid: bytes, generation: int, aead: int) -> bytes:
    """The sender secret of a member's group frames (SPEC 3.3)."""
    return expand(root, "group", member, sid, generation.to_bytes(4, "big"), bytes((aead,)))


def pair_secret(root: bytes, secret: bytes, info: bytes, sealed_hash: bytes, aead: int) -> bytes:
    """The sender secret of one member's frames to another (SPEC 3.3)."""
    prk = HKDF.extract(SHA384(), expand(root, "pair"), secret)
    return expand(prk, "pair", info, sealed_hash, bytes((aead,)))


def frame_key(secret: bytes) -> tuple[bytes, bytes]:
    """AEAD key and kid of a sender secret (SPEC 3.3)."""
    return expand(secret, "key"), expand(secret, "kid")[:4]


def frame_aad(vlan_id: bytes, mls_id: bytes, token: bytes, nonce: bytes, sid: bytes = b"") -> bytes:
    """What the inner AEAD covers beside the frame (SPEC 2.3)."""
    return b"PT1F" + vlan_id + mls_id + token + nonce + sid


def seal(key: bytes, aead: int, nonce: bytes, aad: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
    """Inner tag and ciphertext."""
    sealed = _AEADS[aead](key).encrypt(nonce, plaintext, aad)
    return sealed[-TAG_BYTES:], sealed[:-TAG_BYTES]


def open_untrusted(key: bytes, aead: int, nonce: bytes, aad: bytes, tag: bytes, ciphertext: bytes) -> bytes | None:
    """The plaintext; None when the tag does not match."""
    try:
        return _AEADS[aead](key).decrypt(nonce, ciphertext + tag, aad)
    except InvalidTag:
        return None


@dataclass(frozen=True, slots=True)
class FramePacket:
    """A frame packet as it is on a trunk.

    0         4                   12                                          30        46          62
    ├ index 4 ┼ type 1, counter 7 ┼ label 4, hop limit 1, flags 1, kid 4, ctr 8 ┼ hop tag ┼ inner tag ┼ ciphertext …
    └───────── clear ────────────┘└───────────── sealed for this hop ──────────┘
    """

    index: int
    counter: int
    label: int
    hop_limit: int
    flags: int
    nonce: bytes  # kid 4, ctr 8
    inner_tag: bytes
    body: bytes  # ciphertext; in an INTRO sid 16 and ciphertext

    def emit(self, hop_key: bytes, aead: int) -> bytes:
        """The packet, its header sealed for one hop."""
        clear = self.index.to_bytes(4, "big") + bytes((TYPE_FRAME,)) + self.counter.to_bytes(7, "big")
        header = self.label.to_bytes(4, "big") + bytes((self.hop_limit, self.flags)) + self.nonce
        sealed = _AEADS[aead](hop_key).encrypt(_hop_nonce(clear), header, _hop_aad(clear, self.inner_tag, self.body))
        return clear + sealed + self.inner_tag + self.body

    @classmethod
    def parse_untrusted(cls, data: bytes, hop_key: bytes, aead: int) -> Self:
        """Opens a packet of this hop.

        Raises: DecodeError.
        """
        reader = Reader(data, "packet")
        clear = reader.take(CLEAR_BYTES, "clear header")
        sealed = reader.take(HOP_BYTES + TAG_BYTES, "sealed header")
        inner_tag, body = reader.take(TAG_BYTES, "inner tag"), reader.rest()
        if clear[4] != TYPE_FRAME:
            raise DecodeError(f"packet: type {clear[4]} is no frame")
        try:
            header = _AEADS[aead](hop_key).decrypt(_hop_nonce(clear), sealed, _hop_aad(clear, inner_tag, body))
        except InvalidTag:
            raise DecodeError("packet: the hop tag does not match") from None
        return cls(
            index=int.from_bytes(clear[:4], "big"),
            counter=int.from_bytes(clear[5:], "big"),
            label=int.from_bytes(header[:4], "big"),
            hop_limit=header[4],
            flags=header[5],
            nonce=header[6:],
            inner_tag=inner_tag,
            body=body,
        )


def _hop_nonce(clear: bytes) -> bytes:
    return bytes(4) + clear[4:]


def _hop_aad(clear: bytes, inner_tag: bytes, body: bytes) -> bytes:
    return clear + len(body).to_bytes(2, "big") + inner_tag


def group_leaf(salt: bytes, aad: bytes, content: bytes) -> bytes:
    """The leaf of a group frame; `content` begins with content type and pad length (SPEC 2.4)."""
    return blake3(b"\0" + salt + aad + content).digest(16)


def group_root(leaf: bytes, salt: bytes, path: list[bytes], index: int) -> bytes:
    """The root above a leaf (SPEC 2.4)."""
    node = leaf
    for height, sibling in enumerate(path):
        left, right = (sibling, node) if index >> height & 1 else (node, sibling)
        node = blake3(b"\1" + salt + left + right).digest(16)
    return node


def group_message(vlan_id: bytes, mls_id: bytes, kid: bytes, salt: bytes, depth: int, root: bytes) -> bytes:
    """What the sender of a group frame signs (SPEC 2.4)."""
    return b"PeerTap/1 group" + vlan_id + mls_id + kid + salt + bytes((depth,)) + root


@dataclass(frozen=True, slots=True)
class GroupTrailer:
    """Who sent a group frame: path 16 x depth | salt 16 | signature 64 | index 1 | depth 1."""

    path: tuple[bytes, ...]
    salt: bytes
    signature: bytes
    index: int

    def emit(self) -> bytes:
        return b"".join(self.path) + self.salt + self.signature + bytes((self.index, len(self.path)))

    @classmethod
    def split_untrusted(cls, data: bytes) -> tuple[bytes, Self]:
        """Content (from the content type on) and trailer of an opened group frame.

        Raises: DecodeError.
        """
        if len(data) < 2:
            raise DecodeError("group frame: too short")
        end = len(data) - data[1]
        depth = data[end - 1] if end > 0 else 0
        at = end - 2 - SIGNATURE_BYTES - 16 - 16 * depth
        if at < 2 or depth > MAX_DEPTH or data[end - 2] >= 1 << depth:
            raise DecodeError("group frame: the trailer does not fit")
        nodes = [data[at + 16 * number : at + 16 * (number + 1)] for number in range(depth)]
        salt_at = at + 16 * depth
        salt, signature = data[salt_at : salt_at + 16], data[salt_at + 16 : salt_at + 16 + SIGNATURE_BYTES]
        return data[:at], cls(tuple(nodes), salt, signature, data[end - 2])


def confirmed(secret: bytes, confirm: bytes) -> bool:
    """Whether this is the confirmation of a pair's sender secret (SPEC 3.3)."""
    return constant_time.compare_digest(expand(secret, "confirm")[:16], confirm)
