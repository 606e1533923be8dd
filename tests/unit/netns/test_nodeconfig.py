"""The configuration files that the lab writes are ones that PeerTap accepts."""

import json
from pathlib import Path

from netns.nodeconfig import NodeConfig, VlanConfig, peer_address
from peertap.config.model import Config

PEER = "12D3KooWGzh2V5oj2hc8sgCVPcdKpiFJF5JBJgdYbJb7ZkLX4Kcc"


def test_a_member_is_accepted_by_the_schema(tmp_path: Path) -> None:
    vlan = VlanConfig("lab", tmp_path / "lab.secret", "ptap0", ("10.99.1.1/24", "fd99:1::1/64"))
    config = NodeConfig("a", tmp_path, peers=(peer_address("10.80.0.2", PEER),), vlans=(vlan,))
    parsed = Config.model_validate(json.loads(config.emit()))
    assert parsed.node == "a"
    assert parsed.vlans[0].tap.name == "ptap0"
    assert parsed.relay is None


def test_a_relay_is_accepted_by_the_schema(tmp_path: Path) -> None:
    parsed = Config.model_validate(json.loads(NodeConfig("r", tmp_path, relay_mode="open").emit()))
    assert parsed.relay is not None
    assert parsed.relay.mode == "open"
    assert parsed.vlans == ()
