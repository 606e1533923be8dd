"""Commands that ask the running node: status, topology, mesh, ping, path, trace, rekey.

They import the little that asking needs, so that an answer is there in a tenth of a second: no trio, no pydantic, no
libp2p (tests/unit/cli/test_start_up.py).
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from peertap.cli.ask import ask
from peertap.cli.options import ConfigOption, JsonOption, NodeOption
from peertap.cli.report import say
from peertap.errors import DecodeError, DeviceError


def status(config: ConfigOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """Show trunks, VLANs and members of the running node."""
    from peertap.observe.text import status_lines

    found = _ask_once({"command": "status"}, config, node)
    _print(json.dumps(found) if as_json else "\n".join(status_lines(found)))


def topology(
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
    as_dot: Annotated[bool, typer.Option("--dot", help="Print a graph for Graphviz.")] = False,
) -> None:
    """Show the mesh as this node sees it: trunks, members behind them, trees, tokens."""
    from peertap.observe import text

    found = _ask_once({"command": "status"}, config, node)
    if as_json:
        _print(json.dumps(text.topology(found)))
    else:
        _print("\n".join(text.topology_dot(found) if as_dot else text.topology_lines(found)))


def mesh(config: ConfigOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """Show which nodes are there: all relays of the mesh, and this node's neighbours."""
    from peertap.observe.text import mesh_lines

    found = _ask_once({"command": "status"}, config, node)["mesh"]
    _print(json.dumps(found) if as_json else "\n".join(mesh_lines(found)))


def ping(
    target: Annotated[str, typer.Argument(help="A peer ID, a member's MAC, or an IP address on a VLAN.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="How many.")] = 4,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the round trip to a neighbour or, sealed end to end, to a member of a VLAN."""
    from statistics import median  # 3 ms, only needed here

    from peertap.observe.text import duration

    answers: list[float | None] = []

    def take(answer: dict[str, Any]) -> None:
        rtt_s = answer["rtt_s"]
        answers.append(rtt_s)
        if not as_json:
            _print(f"{answer['seq']}: {duration(rtt_s) if rtt_s is not None else 'no answer'}")

    ask({"command": "ping", "target": target, "count": count}, config, node, take)
    times = [one for one in answers if one is not None]
    median_s = median(times) if times else None
    if as_json:
        _print(json.dumps({"target": target, "sent": len(answers), "received": len(times), "median_s": median_s}))
    else:
        say(f"{len(times)} of {len(answers)} answered, median {duration(median_s)}")
    if not times:
        raise typer.Exit(1)


def path(
    member: Annotated[str, typer.Argument(help="A member's peer ID or MAC, or its IP address on a VLAN.")],
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the way to a member, node by node, and why it is this one. Relays that do not say their name are a *."""
    from peertap.observe.text import path_line

    last: dict[str, Any] = {"hop": -1, "end": "passes"}

    def take(step: dict[str, Any]) -> None:
        last.update(step)
        _print(json.dumps(step) if as_json else path_line(step))

    ask({"command": "path", "target": member}, config, node, take)
    if last["end"] == "passes":
        say(f"nothing more was heard: node {last['hop'] + 1} of the way does not answer")
    if last["end"] != "member":
        raise typer.Exit(1)


def trace(
    mac: Annotated[str | None, typer.Argument(help="Only frames from or to this MAC.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.1, max=600, help="For how long.")] = 5.0,
    config: ConfigOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow frames through the node: port, switch, seal, trunk, and back."""
    from peertap.types import parse_mac

    if mac is not None:
        try:
            parse_mac(mac)
        except DecodeError as error:
            raise typer.BadParameter(str(error)) from None

    def take(line: dict[str, Any]) -> None:
        where = f"{line['at_s']:.6f}  vlan {line['vlan']}  {line['step']}"
        _print(json.dumps(line) if as_json else f"{where}  {line['text']}")

    ask({"command": "trace", "mac": mac, "seconds": seconds}, config, node, take)


def rekey(config: ConfigOption = None, node: NodeOption = None) -> None:
    """Give the trunks new keys now, where it is this end's turn to begin."""
    found = _ask_once({"command": "rekey"}, config, node)
    say(f"{found['rekeyed']} trunks get new keys")


def _ask_once(request: dict[str, Any], config: ConfigOption, node: NodeOption) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    ask(request, config, node, answers.append)
    if not answers:
        raise DeviceError("the node gave no answer")
    return answers[0]


def _print(text: str) -> None:
    print(text, flush=True)
