"""A first configuration as text: YAML with comments, or JSON.

One value serves both forms, and the caller can check the text before anything is stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ports:
    """The four ports that a node listens on."""

    tcp: int
    websocket: int
    quic: int
    udp: int


@dataclass(frozen=True, slots=True)
class FirstConfig:
    """What `peertap init` decides.

    Args:
        node: Name of the node.
        state_dir: Its state directory.
        ports: None: the default ones, left out of the text.
        peers: One tuple of multiaddrs per peer.
        relay: Pass on every VLAN's frames.
        label: The VLAN, or None.
        tap: Name of its interface.
        addresses: Addresses of the interface, with prefix length.
        derived: The addresses were derived, not given.
    """

    node: str
    state_dir: Path
    ports: Ports | None
    peers: tuple[tuple[str, ...], ...]
    relay: bool
    label: str | None
    tap: str
    addresses: tuple[str, ...]
    derived: bool


def as_json(first: FirstConfig) -> str:
    """Returns the configuration as JSON."""
    data: dict[str, object] = {"node": first.node, "state_dir": str(first.state_dir)}
    if first.ports is not None:
        data["listen"] = _ports(first.ports)
    data["peers"] = [addresses[0] if len(addresses) == 1 else list(addresses) for addresses in first.peers]
    if first.relay:
        data["relay"] = {"mode": "open"}
    data["vlans"] = []
    if first.label is not None:
        tap = {"name": first.tap, "address": list(first.addresses)}
        data["vlans"] = [
            {"label": first.label, "membership": "static", "secret_file": f"{first.label}.secret", "tap": tap}
        ]
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def as_yaml(first: FirstConfig, path: Path) -> str:
    """Returns the configuration as YAML with comments; `path` is where it will lie."""
    lines = [
        "# PeerTap, written by `peertap init`. Every key with its default: configs/reference.yaml.",
        f"# After a change: peertap config check {json.dumps(str(path), ensure_ascii=False)}",
        "",
        f"node: {_quoted(first.node)}",
        "# Identity and secrets, readable by their owner only.",
        f"state_dir: {_quoted(str(first.state_dir))}",
        "",
    ]
    if first.ports is not None:
        lines += ["# Not the default ports (4511, 4512), which another node here uses."]
        lines += ["listen:", *(f"  {name}: {port}" for name, port in _ports(first.ports).items()), ""]
    else:
        lines += ["# listen: {tcp: 4511, websocket: 4512, quic: 4512, udp: 4511}", ""]
    lines += ["# Nodes to link to; those that link to us need no entry here."]
    if first.peers:
        lines += ["peers:"]
        for addresses in first.peers:
            lines += [f"  - {_quoted(addresses[0])}"] if len(addresses) == 1 else [f"  - {_list(addresses)}"]
    else:
        lines += ["peers: []", "#  - /ip4/192.0.2.1/p2p/12D3KooW…      (`peertap id` there prints the last part)"]
    lines += [""]
    if first.relay:
        lines += [
            "# Passes on the frames of every VLAN without being able to read them.",
            "# restricted, allow and deny narrow that down.",
            "relay:",
            "  mode: open",
            "",
        ]
    if first.label is not None:
        lines += [
            "vlans:",
            f"  - label: {_quoted(first.label)}",
            "    membership: static            # whoever has the secret is a member",
            f"    secret_file: {_quoted(first.label + '.secret')}",
            "    tap:",
            f"      name: {_quoted(first.tap)}",
        ]
        if first.derived:
            lines += [
                "      # Derived from the secret (network) and this node's peer ID (host). Any others will do,",
                "      # as long as all members share the network; [] leaves the addresses to DHCP or to you.",
            ]
        lines += [f"      address: {_list(first.addresses)}", "      mtu: auto", ""]
    elif not first.relay:
        lines += [
            "# Static VLANs. Those with a group come by `peertap vlan` and are kept in state_dir.",
            "vlans: []",
            "",
        ]
    lines += ["log:", "  level: info                     # debug, info, warning, error", ""]
    return "\n".join(lines)


def _ports(ports: Ports) -> dict[str, int]:
    return {"tcp": ports.tcp, "websocket": ports.websocket, "quic": ports.quic, "udp": ports.udp}


def _quoted(text: str) -> str:
    """Text as YAML; in quotes, as JSON's are YAML's, unless it is a plain word."""
    plain = text.replace("-", "").replace("/", "").replace("_", "").replace(".", "")
    starts_well = text[:1].isalpha() or text[:1] == "/"
    special = text.lower() in {"null", "true", "false"}
    if starts_well and plain.isascii() and plain.isalnum() and not special:
        return text
    return json.dumps(text, ensure_ascii=False)


def _list(items: tuple[str, ...]) -> str:
    return "[" + ", ".join(json.dumps(item, ensure_ascii=False) for item in items) + "]"
