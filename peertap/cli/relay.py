"""`peertap relay …`: whom a relay relays for. All of it asks the running node, which may pass it on to a relay."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from peertap.cli.ask import ask
from peertap.cli.options import ConfigOption, JsonOption, NodeOption, QuickCommand
from peertap.cli.report import say

app = typer.Typer(help="Whom this relay, or another one, relays for.", no_args_is_help=True, rich_markup_mode=None)

PatternsArgument = Annotated[
    list[str], typer.Argument(metavar="PATTERN…", help="VLAN-IDs in hexadecimal, * stands for any digits.")
]
RelayOption = Annotated[
    str | None,
    typer.Option("--relay", metavar="PEER_ID", help="A neighbour whose relay.controllers names this node."),
]
ForOption = Annotated[str | None, typer.Option("--for", metavar="TIME", help="30m, 12h, 1d, …; for ever when absent.")]


@app.command("list", cls=QuickCommand)
def list_(config: ConfigOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """Show mode, rules, limits, and what is carried for whom: VTag, proven VLAN-ID, packets and bytes."""
    found = _ask("list", config, node)
    if as_json:
        print(json.dumps(found), flush=True)
        return
    from peertap.observe.relay_text import relay_lines

    print("\n".join(relay_lines(found)), flush=True)


@app.command("allow", cls=QuickCommand)
def allow(
    patterns: Annotated[
        list[str],
        typer.Argument(metavar="PATTERN…", help="VLAN-IDs, * stands for any digits; or what `vlan grant` printed."),
    ],
    relay: RelayOption = None,
    lifetime: ForOption = None,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry these VLANs from now on, whatever mode and list say. Holds across restarts."""
    _change("allow", patterns, relay, lifetime, config, node, as_json)


@app.command("deny", cls=QuickCommand)
def deny(
    patterns: PatternsArgument,
    relay: RelayOption = None,
    lifetime: ForOption = None,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry these VLANs no more; what is carried of them ends at once. Of two rules the one with more digits holds."""
    _change("deny", patterns, relay, lifetime, config, node, as_json)


@app.command("forget", cls=QuickCommand)
def forget(
    patterns: PatternsArgument,
    relay: RelayOption = None,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take rules of `allow` and `deny` back: the configuration decides again."""
    _change("forget", patterns, relay, None, config, node, as_json)


def _change(
    verdict: str,
    patterns: list[str],
    relay: str | None,
    lifetime: str | None,
    config: ConfigOption,
    node: NodeOption,
    as_json: bool,
) -> None:
    from peertap.cli.vlan import duration_s

    fields: dict[str, Any] = {"patterns": patterns}
    if relay is not None:
        fields["relay"] = relay
    if lifetime is not None:
        fields["lifetime_s"] = duration_s(lifetime)
    found = _ask(verdict, config, node, **fields)
    if as_json:
        print(json.dumps(found), flush=True)
    elif "vlan_id" in found:
        say(f"VLAN {found['vlan_id']} is carried from now on")
    else:
        where = "it is in effect" if relay is None else f"it is in effect there (update {found['sequence']})"
        say(f"{verdict} {' '.join(patterns)}: {where}")


def _ask(name: str, config: ConfigOption, node: NodeOption, **fields: Any) -> dict[str, Any]:
    last: dict[str, Any] = {}
    ask({"command": f"relay {name}", **fields}, config, node, last.update)
    return last
