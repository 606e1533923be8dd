"""The names of a VLAN and of its members (SPEC 3.2)."""

from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from peertap.types import Mac, PeerId, VlanId, public_key_of
from peertap.wire.codec import lp

BROADCAST: Final = Mac(b"\xff" * 6)
KIND_GROUP: Final = 2  # SPEC 3.2; the other kinds are in wire.routes
NO_MAC: Final = Mac(bytes(6))  # the MAC field of a tree token

_LOCAL_BIT: Final = 0x02  # IEEE 802: locally administered
_GROUP_BIT: Final = 0x01  # IEEE 802: multicast


def name_hash(label: str, nonce: bytes) -> bytes:
    """What a VLAN-ID knows of the label: 32 bytes."""
    return blake3(lp(label.encode()) + lp(nonce)).digest()


def vlan_id(creators: Sequence[bytes], threshold: int, hashed_name: bytes) -> VlanId:
    """The VLAN-ID of `threshold` of these creators and a hashed name."""
    keys = b"".join(map(lp, sorted(creators)))
    parts = (b"PeerTap/1 vlan-id", bytes((len(creators),)), keys, bytes((threshold,)), hashed_name)
    return VlanId(blake3(b"".join(parts)).digest(16))


def virtual_mac(member: PeerId, vlan: VlanId, nonce: int) -> Mac:
    """The MAC address of a member's interface in a VLAN: local, never multicast."""
    digest = bytearray(blake3(b"PeerTap/1 mac" + public_key_of(member) + vlan + nonce.to_bytes(4, "big")).digest(6))
    digest[0] = (digest[0] | _LOCAL_BIT) & ~_GROUP_BIT
    return Mac(bytes(digest))
