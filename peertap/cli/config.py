"""`peertap config`: look at a configuration without starting anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from peertap.cli.options import JsonOption, NodeOption
from peertap.cli.report import EXIT_USAGE
from peertap.errors import ConfigError

app = typer.Typer(help="Check a configuration.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Check a configuration."""


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Default: the node's own.")] = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a configuration: every mistake with file, line, key and a hint. Starts and changes nothing."""
    from peertap.config.load import load_config
    from peertap.config.paths import find_config

    try:
        path = find_config(file, node, os.environ)
        config = load_config(path, node=node, environ=os.environ)
    except ConfigError as error:
        if not as_json:
            raise
        print(json.dumps({"ok": False, "mistakes": [_as_json(mistake) for mistake in error.mistakes]}))
        raise typer.Exit(EXIT_USAGE) from None
    if as_json:
        vlans = [vlan.label for vlan in config.vlans]
        print(json.dumps({"ok": True, "file": str(path), "node": config.node, "vlans": vlans, "mistakes": []}))
    else:
        what = [f"VLAN {vlan.label} on {vlan.tap.name}" for vlan in config.vlans]
        what += [f"relay {config.relay.mode}"] if config.relay else []
        print(f"{path}: ok: node {config.node}: {', '.join(what)}, peers: {len(config.peers)}")


def _as_json(mistake: ConfigError) -> dict[str, str | int | None]:
    return {
        "file": mistake.file,
        "line": mistake.line,
        "key": mistake.key,
        "what": mistake.what,
        "hint": mistake.hint,
    }
