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

PEER_ID_BYTES: Final = 38  # 2 multihash + 4 protobuf + 32 key (libp2p peer-id spec, identity multihash)

_MAC_TEXT = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}", re.ASCII)


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
