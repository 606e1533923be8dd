"""Where a peer can be reached: the multiaddrs that PeerTap dials.

    /ip4|ip6|dns|dns4|dns6/HOST [ /tcp/PORT | /tcp/PORT/ws | /udp/PORT/quic-v1 ] /p2p/PEERID

Without the part in brackets every transport is tried on its default port.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Literal, cast

from peertap.errors import ConfigError, DecodeError
from peertap.identity.node import format_peer_id, parse_peer_id
from peertap.types import PeerId

Family = Literal["ip4", "ip6", "dns", "dns4", "dns6"]
Transport = Literal["tcp", "quic-v1", "ws"]

DEFAULT_TCP_PORT: Final = 4511  # ours: unassigned at IANA, below every ephemeral range
DEFAULT_WEBSOCKET_PORT: Final = 4512
DEFAULT_QUIC_PORT: Final = 4512
DEFAULT_UDP_PORT: Final = 4511
MAX_ADDRESS_CHARS: Final = 400  # ours: the longest DNS name is 253 (RFC 1035), a peer ID 52
EXAMPLE: Final = "/ip4/192.0.2.1/p2p/12D3KooW…"

DEFAULT_PORTS: Final[dict[Transport, int]] = {
    "tcp": DEFAULT_TCP_PORT,
    "quic-v1": DEFAULT_QUIC_PORT,
    "ws": DEFAULT_WEBSOCKET_PORT,
}
_FAMILIES: Final = ("ip4", "ip6", "dns", "dns4", "dns6")
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*", re.A
)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """One address of a peer; `str()` is its multiaddr.

    Args:
        family: What kind of host.
        host: IP address or DNS name, in canonical form.
        transport: How to reach it; None: any of the three, each on its default port.
        port: 1..65535; None exactly when `transport` is.
        peer_id: Who must answer there.
    """

    family: Family
    host: str
    transport: Transport | None
    port: int | None
    peer_id: PeerId

    def concrete(self) -> tuple[PeerAddress, ...]:
        """Returns the addresses to dial, each with transport and port: TCP, QUIC, WebSocket, or the one given."""
        if self.transport is not None:
            return (self,)
        return tuple(replace(self, transport=transport, port=port) for transport, port in DEFAULT_PORTS.items())

    @property
    def transport_part(self) -> str:
        """The part between host and peer ID: "/tcp/4511", or nothing."""
        match self.transport:
            case None:
                return ""
            case "tcp":
                return f"/tcp/{self.port}"
            case "ws":
                return f"/tcp/{self.port}/ws"
            case "quic-v1":
                return f"/udp/{self.port}/quic-v1"

    def __str__(self) -> str:
        return f"/{self.family}/{self.host}{self.transport_part}/p2p/{format_peer_id(self.peer_id)}"


def parse_address(value: object) -> PeerAddress:
    """Reads a peer's address.

    Raises:
        ConfigError: Anything that PeerTap cannot dial; what and hint only, the caller knows where it stands.
    """
    if isinstance(value, PeerAddress):
        return value
    if not isinstance(value, str):
        raise ConfigError(f"an address is text, not {type(value).__name__}", hint=f"write {EXAMPLE}")
    shown = repr(value[:60])
    if len(value) > MAX_ADDRESS_CHARS:
        raise ConfigError(f"{shown}…: longer than {MAX_ADDRESS_CHARS} characters", hint=f"write {EXAMPLE}")
    parts = value.split("/")
    if parts[0] != "" or len(parts) < 3:
        raise ConfigError(f"{shown} is not a multiaddr", hint=f"write {EXAMPLE}")
    family, host, rest = parts[1], parts[2], parts[3:]
    if len(rest) < 2 or rest[-2] != "p2p":
        if "p2p-circuit" in rest:
            raise ConfigError(f"{shown}: circuit addresses are not dialled", hint="list the relay itself as a peer")
        raise ConfigError(
            f"{shown} does not end in /p2p/ and a peer ID", hint="`peertap id` on that machine prints its peer ID"
        )
    if family not in _FAMILIES:
        raise ConfigError(f"{shown}: {family!r} is none of {', '.join(_FAMILIES)}", hint=f"write {EXAMPLE}")
    try:
        peer_id = parse_peer_id(rest[-1])
    except DecodeError as error:
        raise ConfigError(f"{shown}: {error.what}", hint=error.hint) from None
    transport, port = _transport(rest[:-2], shown)
    return PeerAddress(cast(Family, family), _host(family, host, shown), transport, port, peer_id)


def _transport(parts: list[str], shown: str) -> tuple[Transport | None, int | None]:
    if not parts:
        return None, None
    match parts:
        case ["tcp", port_text]:
            transport: Transport = "tcp"
        case ["tcp", port_text, "ws"]:
            transport = "ws"
        case ["udp", port_text, "quic-v1"]:
            transport = "quic-v1"
        case _:
            raise ConfigError(
                f"{shown}: no transport of PeerTap's is called {'/' + '/'.join(parts)!r}",
                hint="use /tcp/PORT, /tcp/PORT/ws, /udp/PORT/quic-v1, or nothing to try them all",
            )
    if _PORT.fullmatch(port_text) is None or int(port_text) > 65535:
        raise ConfigError(f"{shown}: {port_text[:20]!r} is not a port to dial", hint="a port is 1 to 65535")
    return transport, int(port_text)


def _host(family: str, host: str, shown: str) -> str:
    if family.startswith("dns"):
        name = host.lower()
        if _HOST_NAME.fullmatch(name) is None:
            raise ConfigError(f"{shown}: not a host name", hint="use letters, digits, - and dots: relay.example.org")
        return name
    try:
        address = IPv4Address(host) if family == "ip4" else IPv6Address(host)
    except AddressValueError:
        kind = "IPv4" if family == "ip4" else "IPv6"
        raise ConfigError(f"{shown}: {host[:50]!r} is not an {kind} address", hint="names go after /dns/") from None
    if address.is_unspecified or address.is_multicast:
        raise ConfigError(f"{shown}: nobody can be dialled at {address}", hint="use an address of that one machine")
    if isinstance(address, IPv6Address) and (address.is_link_local or address.scope_id is not None):
        raise ConfigError(f"{shown}: a link-local address works on one link only", hint="use another address of it")
    return str(address)
