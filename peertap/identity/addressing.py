"""IP addresses inside a VLAN that need no agreement: every member derives its own.

    IPv4  10.A.0.0/16                A from the secret, 64..223       host: .0.1, or 16 bits of the peer ID's hash
    IPv6  fdGG:GGGG:GGGG:SSSS::/64   G, S from the secret (RFC 4193)  host: ::1, or 64 bits of the peer ID's hash

The founder, who made the secret, takes the first host; so a network of two never has a collision. Among n others,
two share an IPv4 address with probability about n²/131,000.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

import blake3

from peertap.types import PeerId

FIRST_OCTET: Final = 64  # ours: home and office networks, and container runtimes, crowd the low ones
OCTETS: Final = 160
IPV4_PREFIX: Final = 16
IPV6_PREFIX: Final = 64


def interface_addresses(
    label: str, network: bytes, peer_id: PeerId, *, founder: bool
) -> tuple[IPv4Interface, IPv6Interface]:
    """Returns the addresses of the member `peer_id`; the same input always gives the same ones.

    Args:
        network: what all members know alike: the VLAN's static secret, or its VLAN-ID.
    """
    name = label.encode()
    net = blake3.blake3(b"PeerTap/1 subnet" + len(name).to_bytes(2, "big") + name + network).digest(8)
    host = blake3.blake3(b"PeerTap/1 host" + net + peer_id).digest(10)
    # IPv4 host parts: 0 is the network, 1 the founder, 65,535 the broadcast address
    host4 = 1 if founder else 2 + int.from_bytes(host[:2], "big") % (2**16 - 3)
    host6 = 1 if founder else 2 + int.from_bytes(host[2:], "big") % (2**64 - 2)
    net4 = (10 << 24) | (FIRST_OCTET + net[0] % OCTETS) << 16
    net6 = int.from_bytes(b"\xfd" + net[1:8], "big") << 64
    return IPv4Interface((net4 | host4, IPV4_PREFIX)), IPv6Interface((net6 | host6, IPV6_PREFIX))
