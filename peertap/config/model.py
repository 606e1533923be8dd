"""The schema of the configuration: one field is one key.

Each field's description, unit and default are what `configs/reference.yaml` documents (a test compares them), and its
"reloads" flag says whether SIGHUP applies a change to a running node.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from peertap.config.address import (
    DEFAULT_QUIC_PORT,
    DEFAULT_TCP_PORT,
    DEFAULT_UDP_PORT,
    DEFAULT_WEBSOCKET_PORT,
    PeerAddress,
    parse_address,
)
from peertap.errors import ConfigError, DecodeError
from peertap.identity.node import parse_peer_id
from peertap.identity.secret import LABEL_HINT, TEXT_PREFIX, is_label
from peertap.types import PeerId

MAX_PEERS: Final = 1024  # ours: a node keeps few trunks; bounds what one file can make it dial
MAX_ADDRESSES_PER_PEER: Final = 16  # ours: each is a dial at every attempt
MAX_BOOTSTRAP: Final = 64  # ours: any of them leads to the others
MAX_VLANS: Final = 256  # ours: each is an interface and a set of tables
MAX_TAP_ADDRESSES: Final = 16  # ours
MAX_LISTEN_ADDRESSES: Final = 16  # ours
MAX_FRAMES_PER_S: Final = 10_000_000  # ours: more than any interface brings in
MAX_MEMBERS: Final = 100_000  # ours: more than a VLAN has
MAX_RELAY_PATTERNS: Final = 4096  # ours: each is tried once per announced VLAN
MAX_CONTROLLERS: Final = 64  # ours: each is somebody who may open the relay
MAX_RATE: Final = 1_000_000  # ours: 1 Tbit/s
MAX_CONNECTIONS: Final = 1024  # ours: a node that needs more neighbours is a mesh of its own
MIN_MTU: Final = 576  # RFC 791: what every IPv4 host takes
MIN_IPV6_MTU: Final = 1280  # RFC 8200 section 5
MAX_MTU: Final = 65521  # 65,535 of a packet's length field less 14 of Ethernet header
MAX_UNDERLAY_MTU: Final = 9216  # what jumbo-frame switches carry
MAX_SOCKET_PATH_BYTES: Final = 107  # Linux unix(7): sun_path is 108 with its zero

_LISTEN_HINT: Final = '"0.0.0.0" is all of IPv4, "::" all of IPv6'
_NODE = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_TAP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)  # Linux IFNAMSIZ 16 with its zero
_PATTERN = re.compile(r"[0-9a-f*]{1,64}", re.ASCII)
VLAN_ID_HEX_CHARS: Final = 32

Offload = Literal["checksum", "tso", "uso", "coalesce", "gso", "gro", "mmsg"]  # as the data plane names them


def show(value: object) -> str:
    """Returns a value for a message: short, on one line, and never a secret that strayed into it."""
    text = repr(value)
    if TEXT_PREFIX in text.lower():
        return "(a secret)"
    return text if len(text) <= 48 else f"{text[:44]}…{text[-1]}"


def _rule(parse: Callable[[object], object]) -> BeforeValidator:
    """Makes a parser that raises ConfigError into a validator whose error keeps what and hint apart."""

    def check(value: object) -> object:
        try:
            return parse(value)
        except ConfigError as error:
            raise PydanticCustomError("rule", "{what}", {"what": error.what, "hint": error.hint or ""}) from None

    return BeforeValidator(check)


def _text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{show(value)} is not text", hint=f"put quotes around it, or write, for instance, {example}")
    return value


def parse_node_name(value: object) -> str:
    """Reads a node's name; raises ConfigError for anything else."""
    if _NODE.fullmatch(_text(value, "default")) is None:
        raise ConfigError(f"{show(value)} is not a node's name", hint="use 1 to 32 of a-z, 0-9 and -")
    return str(value)


def _label(value: object) -> str:
    if not is_label(_text(value, "lab")):
        raise ConfigError(f"{show(value)} is not a label", hint=LABEL_HINT)
    return str(value)


def _absolute_path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    path = _text(value, "/var/lib/peertap/default")
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(f"{show(path)} is not an absolute path", hint="start it with /")
    return Path(path)


def _socket_path(value: object) -> Path:
    path = _absolute_path(value)
    if len(str(path).encode(errors="surrogateescape")) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"{show(str(path))} is longer than {MAX_SOCKET_PATH_BYTES} bytes", hint="Linux limits socket paths"
        )
    return path


def _secret_file(value: object) -> str:
    name = _text(value, "lab.secret")
    if name.strip().lower().startswith(TEXT_PREFIX):
        raise ConfigError("holds the secret itself", hint="put the secret into a file of mode 0600 and name it here")
    if not name or "\0" in name or name.endswith("/"):
        raise ConfigError(
            f"{show(name)} is not a file name", hint="write lab.secret, in the state directory, or a path"
        )
    return name


def _tap_name(value: object) -> str:
    name = _text(value, "ptap0")
    if _TAP_NAME.fullmatch(name) is None or name in {".", "..", "all", "default", "lo"}:
        raise ConfigError(f"{show(name)} cannot name an interface", hint="use 1 to 15 of letters, digits, _ . and -")
    return name


def parse_tap_address(value: object) -> IPv4Interface | IPv6Interface:
    """Reads an interface's address with prefix length; raises ConfigError for anything else."""
    if isinstance(value, IPv4Interface | IPv6Interface):
        return value
    text = _text(value, '"10.9.0.1/24"')
    if "/" not in text:
        raise ConfigError(f"{show(text)} has no prefix length", hint="write 10.9.0.1/24 or fd00:9::1/64")
    try:
        address = ip_interface(text)
    except ValueError:
        raise ConfigError(f"{show(text)} is not an address", hint="write 10.9.0.1/24 or fd00:9::1/64") from None
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ConfigError(f"{show(text)} cannot be an interface's address", hint="write 10.9.0.1/24 or fd00:9::1/64")
    network = address.network
    if network.max_prefixlen - network.prefixlen >= 2:
        if address.ip == network.network_address:
            raise ConfigError(
                f"{show(text)} is the network, not a host in it", hint=f"for instance {network[1]}/{network.prefixlen}"
            )
        if isinstance(address, IPv4Interface) and address.ip == network.broadcast_address:
            raise ConfigError(
                f"{show(text)} is the broadcast address", hint=f"for instance {network[1]}/{network.prefixlen}"
            )
    return address


def _mtu(value: object) -> str | int:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and MIN_MTU <= value <= MAX_MTU:
        return value
    raise ConfigError(f"{show(value)} is neither auto nor {MIN_MTU} to {MAX_MTU}", hint="auto fits every underlay")


def _pattern(value: object) -> str:
    pattern = _text(value, '"3f2a*"').lower()
    if _PATTERN.fullmatch(pattern) is None:
        raise ConfigError(f"{show(value)} is no pattern for a VLAN-ID", hint='use hexadecimal digits and *: "3f2a*"')
    digits = len(pattern.replace("*", ""))
    if digits > VLAN_ID_HEX_CHARS or ("*" not in pattern and digits != VLAN_ID_HEX_CHARS):
        raise ConfigError(
            f"{show(value)} matches no VLAN-ID: it has {digits} digits, a VLAN-ID {VLAN_ID_HEX_CHARS}",
            hint='end it with *: "3f2a*"',
        )
    return pattern


def parse_pattern(value: object) -> str:
    """Reads a VLAN-ID or a pattern of some; raises ConfigError for anything else."""
    return _pattern(value)


def _peer_id(value: object) -> PeerId:
    if isinstance(value, bytes):
        return PeerId(value)
    try:
        return parse_peer_id(_text(value, "12D3KooW…"))
    except DecodeError as error:
        raise ConfigError(f"{show(value)}: {error.what}", hint="peertap id prints it on that machine") from None


def _listen_address(value: object) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        address = ip_address(_text(value, '"0.0.0.0"'))
    except ValueError:
        raise ConfigError(f"{show(value)} is not an IP address", hint=_LISTEN_HINT) from None
    if address.is_multicast:
        raise ConfigError(f"{show(value)} is a multicast address", hint=_LISTEN_HINT)
    return address


def _one_or_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
Address = Annotated[PeerAddress, _rule(parse_address)]
TapAddress = Annotated[IPv4Interface | IPv6Interface, _rule(parse_tap_address)]
ListenAddress = Annotated[IPv4Address | IPv6Address, _rule(_listen_address)]
Pattern = Annotated[str, _rule(_pattern)]
Controller = Annotated[PeerId, _rule(_peer_id)]
Rate = Annotated[float, Field(gt=0, le=MAX_RATE, allow_inf_nan=False)]


def _extra(*, unit: str | None = None, reloads: bool = False) -> JsonDict:
    return {"unit": unit, "reloads": reloads}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Listen(_Model):
    """Where the node waits for others."""

    address: Annotated[tuple[ListenAddress, ...], BeforeValidator(_one_or_list)] = Field(
        default=(IPv4Address("0.0.0.0"),),  # noqa: S104  a node is there to be reached
        min_length=1,
        max_length=MAX_LISTEN_ADDRESSES,
        description='IP addresses to listen on: one, or a list; "0.0.0.0" is all of IPv4, "::" all of IPv6',
        json_schema_extra=_extra(),
    )
    tcp: Port | None = Field(
        default=DEFAULT_TCP_PORT,
        description="TCP port for trunks; 0 is any free port, null none",
        json_schema_extra=_extra(unit="port"),
    )
    websocket: Port | None = Field(
        default=DEFAULT_WEBSOCKET_PORT,
        description="TCP port for trunks over WebSocket; 0 is any free port, null none",
        json_schema_extra=_extra(unit="port"),
    )
    quic: Port | None = Field(
        default=DEFAULT_QUIC_PORT,
        description="UDP port for trunks over QUIC; 0 is any free port, null none",
        json_schema_extra=_extra(unit="port"),
    )
    udp: Port | None = Field(
        default=DEFAULT_UDP_PORT,
        description="UDP port of the data plane's own carrier; 0 is any free port, null none",
        json_schema_extra=_extra(unit="port"),
    )


class Relay(_Model):
    """Whose frames the node passes on; without this section, only those of its own VLANs."""

    mode: Literal["open", "restricted", "allow", "deny"] = Field(
        default="restricted",
        description="open: every VLAN's; restricted: its own and the exact VLAN-IDs listed; "
        "allow: only those that match the list; deny: all but those that match",
        json_schema_extra=_extra(reloads=True),
    )
    vlans: tuple[Pattern, ...] = Field(
        default=(),
        max_length=MAX_RELAY_PATTERNS,
        description="VLAN-IDs in hexadecimal, * stands for any digits (not with restricted)",
        json_schema_extra=_extra(reloads=True),
    )
    trace: bool = Field(
        default=True,
        strict=True,
        description="say this node's peer ID to whoever asks by `peertap path` for a way that leads through it",
        json_schema_extra=_extra(reloads=True),
    )
    controllers: tuple[Controller, ...] = Field(
        default=(),
        max_length=MAX_CONTROLLERS,
        description="peer IDs of nodes that may change whom this one relays for, by `peertap relay … --relay`",
        json_schema_extra=_extra(reloads=True),
    )
    rate: Rate | None = Field(
        default=None,
        description="the most that is carried for others; VLANs share it fairly; null: as much as goes",
        json_schema_extra=_extra(unit="Mbit/s", reloads=True),
    )
    trunk_rate: Rate | None = Field(
        default=None,
        description="the most that is taken from one trunk to be carried; the rest is dropped; null: no limit",
        json_schema_extra=_extra(unit="Mbit/s", reloads=True),
    )
    vlan_rate: Rate | None = Field(
        default=None,
        description="the most that is carried of one VLAN of others; the rest is dropped; null: no limit",
        json_schema_extra=_extra(unit="Mbit/s", reloads=True),
    )


class Tap(_Model):
    """The interface that a VLAN has on this machine."""

    name: Annotated[str, _rule(_tap_name)] = Field(
        "ptap0", description="name of the interface, 1 to 15 characters", json_schema_extra=_extra()
    )
    address: Annotated[tuple[TapAddress, ...], BeforeValidator(_one_or_list)] = Field(
        default=(),
        max_length=MAX_TAP_ADDRESSES,
        description="addresses with prefix length: one, or a list; empty leaves them to DHCP or to you",
        json_schema_extra=_extra(),
    )
    mtu: Annotated[Literal["auto"] | int, _rule(_mtu)] = Field(
        default="auto",
        description=f"largest IP packet, {MIN_MTU} to {MAX_MTU}; auto: what fits every path unfragmented",
        json_schema_extra=_extra(unit="bytes"),
    )


class Vlan(_Model):
    """A VLAN that this node is a member of."""

    label: Annotated[str, _rule(_label)] = Field(
        description="the VLAN's label, part of its identity: the same on every member", json_schema_extra=_extra()
    )
    membership: Literal["static"] = Field(
        default="static",
        description="static: whoever has the secret is a member",
        json_schema_extra=_extra(),
    )
    secret_file: Annotated[str, _rule(_secret_file)] = Field(
        description="file with the VLAN's secret, mode 0600; relative to state_dir; LABEL.secret when absent",
        json_schema_extra=_extra(),
    )
    tap: Tap = Field(default=Tap(), description="the VLAN's interface", json_schema_extra=_extra())
    bridge: bool = Field(
        default=False,
        strict=True,
        description="the interface may carry other MAC addresses than its own, as in a bridge",
        json_schema_extra=_extra(),
    )
    public: bool = Field(
        default=False,
        strict=True,
        description="tell every node of the mesh that this one is a member, by the VLAN-ID",
        json_schema_extra=_extra(),
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_secret(cls, data: object) -> object:
        if isinstance(data, dict) and "secret_file" not in data:
            return {**data, "secret_file": f"{data.get('label')}.secret"}  # a missing label is a mistake of its own
        return data


class Discovery(_Model):
    """How the node looks for its network, beside the peers that are configured."""

    mdns: bool = Field(
        default=True,
        strict=True,
        description="find members on the same LAN by multicast DNS; the LAN sees that a PeerTap node is there, "
        "not which VLANs it is in",
        json_schema_extra=_extra(),
    )
    dht: Literal["server", "client", "off"] = Field(
        default="client",
        description="the rendezvous of members: server: keep other nodes' sealed records, too; client: use the nodes "
        "that do; off: neither",
        json_schema_extra=_extra(),
    )
    bootstrap: tuple[Address, ...] = Field(
        default=(),
        max_length=MAX_BOOTSTRAP,
        description="multiaddrs of nodes that serve the rendezvous; a trunk to one is made while there is no other",
        json_schema_extra=_extra(),
    )
    relays: bool = Field(
        default=True,
        strict=True,
        description="dial relays that the mesh tells of: the nearest, and some by chance",
        json_schema_extra=_extra(),
    )


class Switch(_Model):
    """How the node's interfaces switch frames."""

    broadcasts: int = Field(
        default=250,
        strict=True,
        ge=0,
        le=MAX_FRAMES_PER_S,
        description="broadcasts that an interface may bring in, and each member send; 0: no limit",
        json_schema_extra=_extra(unit="frames per second"),
    )
    multicasts: int = Field(
        default=100_000,
        strict=True,
        ge=0,
        le=MAX_FRAMES_PER_S,
        description="the same of multicasts",
        json_schema_extra=_extra(unit="frames per second"),
    )
    unknown: int = Field(
        default=10_000,
        strict=True,
        ge=0,
        le=MAX_FRAMES_PER_S,
        description="the same of frames to MAC addresses that nobody is known under",
        json_schema_extra=_extra(unit="frames per second"),
    )
    answer_above: int = Field(
        default=64,
        strict=True,
        ge=0,
        le=MAX_MEMBERS,
        description="questions for addresses (ARP, neighbour discovery) are answered on the spot, where the answer is "
        "known, in VLANs of more members",
        json_schema_extra=_extra(unit="members"),
    )
    bpdus: tuple[Annotated[str, _rule(_label)], ...] = Field(
        default=(),
        max_length=MAX_VLANS,
        description="labels of the VLANs that carry what bridges keep to themselves: spanning tree and the like",
        json_schema_extra=_extra(),
    )


class Paths(_Model):
    """By which ways frames go to another member where there are several; in other VLANs all by the best one."""

    spread: tuple[Annotated[str, _rule(_label)], ...] = Field(
        default=(),
        max_length=MAX_VLANS,
        description="labels of the VLANs whose flows are spread over the ways of about the same length, four at most",
        json_schema_extra=_extra(),
    )
    duplicate: tuple[Annotated[str, _rule(_label)], ...] = Field(
        default=(),
        max_length=MAX_VLANS,
        description="labels of the VLANs of which each unicast frame goes by the two best ways; a copy that is "
        "lost costs nothing",
        json_schema_extra=_extra(),
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Paths:
        if both := sorted({*self.spread} & {*self.duplicate}):
            what, hint = f"{both[0]} is in spread and in duplicate", "name it in one of them"
            raise PydanticCustomError("rule", "{what}", {"what": what, "hint": hint})
        return self


class Log(_Model):
    """What the node says on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least that is logged", json_schema_extra=_extra(reloads=True)
    )
    format: Literal["text", "json"] = Field(
        "text", description="lines for people, or one JSON object each", json_schema_extra=_extra()
    )


class Config(_Model):
    """A node's configuration. Read one with `peertap.config.load.load_config`."""

    node: Annotated[str, _rule(parse_node_name)] = Field(
        "default", description="name of the node on this machine, 1 to 32 of a-z, 0-9, -", json_schema_extra=_extra()
    )
    state_dir: Annotated[Path, _rule(_absolute_path)] = Field(
        default=Path("/var/lib/peertap/default"),
        description="directory of identity and secrets, mode 0700; "
        "when absent /var/lib/peertap/NODE for root, else ~/.local/state/peertap/NODE",
        json_schema_extra=_extra(),
    )
    listen: Listen = Field(default=Listen(), description="where the node waits for others", json_schema_extra=_extra())
    peers: tuple[
        Annotated[
            tuple[Address, ...], BeforeValidator(_one_or_list), Field(min_length=1, max_length=MAX_ADDRESSES_PER_PEER)
        ],
        ...,
    ] = Field(
        default=(),
        max_length=MAX_PEERS,
        description="nodes to link to: a multiaddr each, or a list of one peer's multiaddrs",
        json_schema_extra=_extra(reloads=True),
    )
    discovery: Discovery = Field(
        default=Discovery(), description="how the node looks for its network", json_schema_extra=_extra()
    )
    relay: Relay | None = Field(
        default=None,
        description="whose frames the node passes on; null: those of its own VLANs only",
        json_schema_extra=_extra(reloads=True),
    )
    role: Literal["auto", "leaf", "transit"] = Field(
        default="auto",
        description="transit: frames of its VLANs may pass through the node; leaf: none do, it hangs on relays; "
        "auto: leaf while three relays are in reach (a node with `relay` is transit)",
        json_schema_extra=_extra(),
    )
    connection_limit: int = Field(
        default=256,
        strict=True,
        ge=1,
        le=MAX_CONNECTIONS,
        description="trunks that the node keeps; others than configured peers are turned away beyond it",
        json_schema_extra=_extra(unit="trunks"),
    )
    vlans: tuple[Vlan, ...] = Field(
        (), max_length=MAX_VLANS, description="VLANs that this node is a member of", json_schema_extra=_extra()
    )
    underlay_mtu: int = Field(
        default=1500,
        strict=True,
        ge=MIN_IPV6_MTU,
        le=MAX_UNDERLAY_MTU,
        description="largest IP packet that the networks between the nodes carry",
        json_schema_extra=_extra(unit="bytes"),
    )
    carrier: Literal["auto", "stream"] = Field(
        default="auto",
        description="how frames travel; auto: UDP when it works, stream: always inside the trunk's connection",
        json_schema_extra=_extra(),
    )
    without_offloads: tuple[Offload, ...] = Field(
        default=(),
        max_length=len(get_args(Offload)),
        description="offloads not to use, for a kernel or driver that gets one wrong; "
        "TAP: checksum, tso, uso, coalesce, UDP: gso, gro, mmsg",
        json_schema_extra=_extra(),
    )
    switch: Switch = Field(
        default=Switch(), description="how the node's interfaces switch frames", json_schema_extra=_extra()
    )
    paths: Paths = Field(
        default=Paths(),
        description="by which ways frames go to another member where there are several",
        json_schema_extra=_extra(),
    )
    log: Log = Field(default=Log(), description="what the node says", json_schema_extra=_extra())
    admin_socket: Annotated[Path, _rule(_socket_path)] = Field(
        default=Path("/run/peertap/default.sock"),
        description="socket for `peertap status` and the like; "
        "when absent /run/peertap/NODE.sock for root, else $XDG_RUNTIME_DIR/peertap/NODE.sock",
        json_schema_extra=_extra(),
    )

    def secret_path(self, vlan: Vlan) -> Path:
        """Returns the file that holds the secret of `vlan`."""
        return self.state_dir / vlan.secret_file
