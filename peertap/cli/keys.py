"""`peertap keygen` and `peertap id`: secrets and identities by themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from peertap.cli.options import ConfigOption, JsonOption, NodeOption
from peertap.cli.report import say
from peertap.errors import ConfigError


def keygen(
    vlan: Annotated[str, typer.Option("--vlan", metavar="LABEL", help="The VLAN's label.")] = "lab",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there, mode 0600, not to stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE: the old secret is lost.")] = False,
) -> None:
    """Make a new VLAN secret. Whoever has it is a member: hand it over where nobody listens."""
    from peertap.identity.secret import LABEL_HINT, is_label
    from peertap.shell.store import new_vlan_secret, write_file

    if not is_label(vlan):
        raise ConfigError("not a label", key="--vlan", hint=LABEL_HINT)
    line = new_vlan_secret(vlan).emit()
    if out is None:
        print(line)
        return
    write_file(out.absolute(), f"{line}\n".encode(), replace=force)
    say(f"secret   {out} (new, for VLAN {vlan})")


def show_id(config: ConfigOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """Print this node's peer ID. Creates nothing."""
    from peertap.config.load import load_config
    from peertap.config.model import parse_node_name
    from peertap.config.paths import DEFAULT_NODE, default_state_dir, find_config
    from peertap.shell.store import Store

    name = DEFAULT_NODE if node is None else parse_node_name(node)
    try:
        path = find_config(config, node, os.environ)
    except ConfigError:  # no configuration, yet perhaps an identity
        directory = Path(os.environ.get("PEERTAP_STATE_DIR") or default_state_dir(name, os.environ))
    else:
        loaded = load_config(path, node=node, environ=os.environ)
        name, directory = loaded.node, loaded.state_dir
    store = Store(directory)
    if not store.has_identity():
        suffix = "" if node is None else f" --node {node}"
        raise ConfigError("there is no identity yet", file=store.identity_path, hint=f"run `peertap init{suffix}`")
    identity = store.load_identity()
    if as_json:
        print(json.dumps({"node": name, "peer_id": identity.text, "public_key": identity.public_key.hex()}))
    else:
        print(identity.text)
