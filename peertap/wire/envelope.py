"""libp2p's signed envelope: a payload that says who signed it, and for what (libp2p RFC 0002; SPEC 11.1).

    ├ 0a ┼ 36 ┼ public key 36 ┼ 12 ┼ n ┼ payload type n ┼ 1a ┼ n ┼ payload n ┼ 2a ┼ 64 ┼ signature 64 ┤

A protobuf message; n is a varint. Of all that protobuf allows only this order and the shortest varints are taken, so
that equal envelopes are equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from peertap.errors import DecodeError
from peertap.types import PEER_ID_PREFIX, PeerId, is_peer_id, public_key_of
from peertap.wire.routes import signed_by

MAX_ENVELOPE_BYTES: Final = 8192  # ours: what a presence needs at most, and a little more
SIGNATURE_BYTES: Final = 64  # RFC 8032
_HASH_BYTES: Final = 2  # of a peer ID, before the protobuf PublicKey (libp2p peer-ids)
_KEY, _TYPE, _PAYLOAD, _SIGNATURE = b"\x0a", b"\x12", b"\x1a", b"\x2a"  # field 1, 2, 3 and 5, each bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and who signed it; `is_signed` says whether they did."""

    signer: PeerId
    payload_type: bytes
    payload: bytes
    signature: bytes

    @classmethod
    def seal(
        cls, signer: PeerId, sign: Callable[[bytes], bytes], domain: bytes, payload_type: bytes, payload: bytes
    ) -> Envelope:
        """Signs a payload; the domain keeps it from meaning anything elsewhere."""
        return cls(signer, payload_type, payload, sign(_signed_part(domain, payload_type, payload)))

    def is_signed(self, domain: bytes) -> bool:
        """Whether the signature is the signer's, for this domain."""
        return signed_by(
            public_key_of(self.signer), self.signature, _signed_part(domain, self.payload_type, self.payload)
        )

    def emit(self) -> bytes:
        """Its bytes."""
        fields = (
            (_KEY, self.signer[_HASH_BYTES:]),
            (_TYPE, self.payload_type),
            (_PAYLOAD, self.payload),
            (_SIGNATURE, self.signature),
        )
        return b"".join(tag + _varint(len(data)) + data for tag, data in fields)

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Envelope:
        """Reads one.

        Raises:
            DecodeError: anything but what `emit` makes, of an Ed25519 key.
        """
        if len(data) > MAX_ENVELOPE_BYTES:
            raise DecodeError(f"envelope: {len(data)} bytes, at most {MAX_ENVELOPE_BYTES} are allowed")
        found, at = [], 0
        for tag in (_KEY, _TYPE, _PAYLOAD, _SIGNATURE):
            if data[at : at + 1] != tag:
                raise DecodeError(f"envelope: no field {tag[0] >> 3} at byte {at}")
            size, at = _read_varint(data, at + 1)
            if at + size > len(data):
                raise DecodeError(f"envelope: field {tag[0] >> 3} wants {size} bytes, {len(data) - at} are left")
            found.append(data[at : at + size])
            at += size
        key, payload_type, payload, signature = found
        if at != len(data):
            raise DecodeError(f"envelope: {len(data) - at} bytes too many")
        signer = PEER_ID_PREFIX[:_HASH_BYTES] + key
        if not is_peer_id(signer):
            raise DecodeError("envelope: the key is no Ed25519 key")
        if len(signature) != SIGNATURE_BYTES:
            raise DecodeError(f"envelope: a signature of {len(signature)} bytes, not {SIGNATURE_BYTES}")
        return cls(PeerId(signer), payload_type, payload, signature)


def _signed_part(domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    return b"".join(_varint(len(part)) + part for part in (domain, payload_type, payload))


def _varint(value: int) -> bytes:
    """The shortest unsigned varint (protobuf)."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The shortest varint of at most two bytes, and where it ends; raises DecodeError."""
    first, second = data[at : at + 1], data[at + 1 : at + 2]
    if first and first[0] < 0x80:
        return first[0], at + 1
    if first and second and 0 < second[0] < 0x80:
        return first[0] & 0x7F | second[0] << 7, at + 2
    raise DecodeError(f"envelope: no length at byte {at}")
