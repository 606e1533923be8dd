"""Identities and VLAN secrets for the nodes of the lab, made by PeerTap's own store."""

from pathlib import Path

from peertap.shell.store import Store, new_vlan_secret


def create_identity(state_directory: Path) -> str:
    """A new identity in a node's state directory; returns the peer ID as text."""
    return Store(state_directory).create_identity().text


def create_secret(directory: Path, label: str) -> Path:
    """A new VLAN secret in a directory of its own (0700); returns its file (0600)."""
    return Store(directory).save_vlan_secret(new_vlan_secret(label))
