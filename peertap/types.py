"""The identifiers of the wire, as types that cannot be mixed up.

PeerId     38 bytes   identity multihash of an Ed25519 key: 00 24 08 01 12 20 ‖ public key 32
VlanId     16 bytes   VLAN-ID (CTag)
MlsId      16 bytes   MLS-ID of an epoch
VTag       16 bytes   the name a VLAN has on a trunk
Token      16 bytes   VFT: names where a frame goes
Sid        16 bytes   one run of a sender
Mac         6 bytes
TrunkId, VlanIndex    numbers local to a process
"""

from __future__ import annotations

import re
from typing import Final, NewType

from peertap.errors import DecodeError

PeerId = NewType("PeerId", bytes)
VlanId = NewType("VlanId", bytes)
MlsId = NewType("MlsId", bytes)
VTag = NewType("VTag", bytes)
Token = NewType("Token", bytes)
Sid = NewType("Sid", bytes)
Mac = NewType("Mac", bytes)
TrunkId = NewType("TrunkId", int)
VlanIndex = NewType("VlanIndex", int)

PUBLIC_KEY_BYTES: Final = 32  # RFC 8032: of Ed25519
PEER_ID_PREFIX: Final = bytes.fromhex("002408011220")  # SPEC 1: multihash identity of 36 bytes; type Ed25519, 32 bytes
PEER_ID_BYTES: Final = len(PEER_ID_PREFIX) + PUBLIC_KEY_BYTES

_MAC_TEXT = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}", re.ASCII)


def is_peer_id(raw: bytes) -> bool:
    """Whether these bytes are a peer ID made from an Ed25519 key (SPEC 1)."""
    return len(raw) == PEER_ID_BYTES and raw.startswith(PEER_ID_PREFIX)


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer ID of an Ed25519 public key.

    Raises:
        DecodeError: `public_key` has not 32 bytes.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise DecodeError(f"public key: {len(public_key)} bytes, not {PUBLIC_KEY_BYTES}")
    return PeerId(PEER_ID_PREFIX + public_key)


def public_key_of(peer: PeerId) -> bytes:
    """The Ed25519 public key in a peer ID, 32 bytes."""
    return peer[len(PEER_ID_PREFIX) :]


def format_mac(mac: Mac) -> str:
    """Returns the usual text of a MAC address: "02:00:5e:10:00:01"."""
    return mac.hex(":")


def parse_mac(text: str) -> Mac:
    """Reads a MAC address of six hexadecimal pairs joined by ":" or "-".

    Raises:
        DecodeError: `text` is anything else.
    """
    if _MAC_TEXT.fullmatch(text) is None:
        raise DecodeError(f"MAC address: {text[:40]!r} is not six hexadecimal pairs", hint="write 02:00:5e:10:00:01")
    return Mac(bytes.fromhex(text.replace("-", ":").replace(":", "")))
