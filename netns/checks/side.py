"""One end of an Ethernet under test."""

import ipaddress
from dataclasses import dataclass

from netns.namespace import Namespace


@dataclass(frozen=True, slots=True)
class Side:
    """A machine, its interface on the Ethernet, and its addresses there (without prefix length)."""

    namespace: Namespace
    interface: str
    ipv4: str
    ipv6: str

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.interface}"

    @property
    def mac(self) -> bytes:
        return self.namespace.interface(self.interface).mac

    @property
    def mac_text(self) -> str:
        return self.mac.hex(":")

    @property
    def ipv4_broadcast(self) -> str:
        """The /24's."""
        return str(ipaddress.ip_interface(f"{self.ipv4}/24").network.broadcast_address)
