"""The configuration file of a node in the lab, as a value. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VlanConfig:
    """A VLAN of a node: its label, the secret's file, and what the TAP is to be."""

    label: str
    secret_file: Path
    tap: str
    addresses: tuple[str, ...] = ()
    mtu: int | str = "auto"
    bridge: bool = False


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a scenario decides about a node; the rest are the defaults of PeerTap."""

    name: str
    directory: Path
    peers: tuple[str, ...] = ()
    vlans: tuple[VlanConfig, ...] = ()
    relay_mode: str | None = None
    relay: Mapping[str, object] = field(default_factory=dict)  # keys beside the mode
    carrier: str = "auto"
    underlay_mtu: int = 1500
    log_level: str = "info"
    without_offloads: tuple[str, ...] = ()
    spread: tuple[str, ...] = ()  # labels of the VLANs whose flows are spread over several ways
    duplicate: tuple[str, ...] = ()  # and of those of which each frame goes by two
    bpdus: tuple[str, ...] = ()  # labels of the VLANs that carry spanning tree, LLDP and the like
    mdns: bool = False  # who is linked to whom is the scenario's business
    dht: str = "off"
    bootstrap: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        return self.directory / "config.json"

    @property
    def state_directory(self) -> Path:
        return self.directory / "state"

    def emit(self) -> str:
        """The file's text (JSON, which is YAML too)."""
        content: dict[str, object] = {
            "node": self.name,
            "state_dir": str(self.state_directory),
            "listen": {"tcp": 4511, "websocket": 4512, "quic": 4512, "udp": 4511},
            "peers": list(self.peers),
            "vlans": [
                {
                    "label": vlan.label,
                    "membership": "static",
                    "secret_file": str(vlan.secret_file),
                    "tap": {"name": vlan.tap, "address": list(vlan.addresses), "mtu": vlan.mtu},
                    "bridge": vlan.bridge,
                }
                for vlan in self.vlans
            ],
            "discovery": {"mdns": self.mdns, "dht": self.dht, "bootstrap": list(self.bootstrap)},
            "underlay_mtu": self.underlay_mtu,
            "carrier": self.carrier,
            "without_offloads": list(self.without_offloads),
            "log": {"level": self.log_level, "format": "text"},
            "admin_socket": str(self.directory / "admin.sock"),
        }
        if self.spread or self.duplicate:
            content["paths"] = {"spread": list(self.spread), "duplicate": list(self.duplicate)}
        if self.bpdus:
            content["switch"] = {"bpdus": list(self.bpdus)}
        if self.relay_mode is not None:
            content["relay"] = {"mode": self.relay_mode, **self.relay}
        return json.dumps(content, indent=2) + "\n"


def peer_address(ip: str, peer_id: str) -> str:
    """The address under which a node of the lab is dialled; ports and transports are PeerTap's defaults."""
    return f"/ip4/{ip}/p2p/{peer_id}"
