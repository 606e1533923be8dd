"""VLANs with a group in the lab: machines on one LAN, and the operator's commands as they are typed.

lan             n1 n2 n3 …  on a switch       10.86.0.N; interfaces of the VLAN have 10.99.9.N
"""

import json
import time
from typing import Any, Final

from netns import links
from netns.checks.side import Side
from netns.errors import ScenarioFailed, require
from netns.lab import Lab
from netns.node import Node, start_all
from netns.waiting import wait_for
from peertap.shell import admin_client

LABEL: Final = "club"
TAP: Final = "ptap0"


def lan(lab: Lab, count: int) -> list[Node]:
    """Nodes on one LAN that know nobody, started."""
    switch = lab.namespace("switch")
    nodes = []
    for number in range(1, count + 1):
        machine = lab.namespace(f"n{number}")
        links.veth(switch, f"s{number}", None, machine, "up0", f"10.86.0.{number}/24")
        nodes.append(Node(machine).configure(vlans=()))
    links.bridge(switch, "br0", [f"s{number}" for number in range(1, count + 1)])
    start_all(*nodes)
    return nodes


def number_of(node: Node) -> int:
    return int(node.name.removeprefix("n"))


def side(node: Node) -> Side:
    """The node's end of the VLAN as the checks see it."""
    number = number_of(node)
    return Side(node.namespace, TAP, f"10.99.9.{number}", f"fd99:9::{number}")


def port(node: Node) -> list[str]:
    """Options for its interface."""
    number = number_of(node)
    return ["--tap", TAP, "--address", f"10.99.9.{number}/24", "--address", f"fd99:9::{number}/64"]


def vlan(node: Node, *words: str, timeout_s: float = 40.0) -> dict[str, Any]:
    """`peertap vlan WORDS --json`."""
    found: dict[str, Any] = json.loads(node.command("vlan", *words, "--json", timeout_s=timeout_s))
    return found


def ask(node: Node, command: str, **fields: object) -> list[dict[str, Any]]:
    """By the admin socket itself: where starting a program would take longer, or more, than what is measured."""
    with admin_client.connect(node.directory / "admin.sock", node=node.name) as connection:
        return list(admin_client.ask(connection, {"command": command, **fields}, node=node.name))


def create(node: Node, *options: str) -> None:
    vlan(node, "create", LABEL, *port(node), *options)


def invite(node: Node, *options: str) -> str:
    return str(vlan(node, "invite", LABEL, *options)["line"])


def join(node: Node, line: str) -> float:
    """Types the command; returns the seconds from then to the return of the command, the node being a member."""
    began = time.monotonic()
    found = vlan(node, "join", line, *port(node))
    require(found["state"] == "member", f"{node.name} is not in: {found}")
    return time.monotonic() - began


def founded(lab: Lab, count: int) -> list[Node]:
    """Members of one VLAN that reach each other, the first one its founder."""
    nodes = lan(lab, count)
    create(nodes[0])
    for node in nodes[1:]:
        join(node, invite(nodes[0]))
    agree(*nodes)
    all_ping(*nodes)
    return nodes


def members(node: Node) -> dict[str, Any]:
    return vlan(node, "members", LABEL)


def is_in(node: Node) -> bool:
    """Whether the node itself believes so."""
    found = vlan(node, "members")
    return any(one["vlan"] == LABEL and one["state"] in ("member", "leaving") for one in found["vlans"])


def agree(*nodes: Node, timeout_s: float = 20.0) -> int:
    """All are in one epoch with exactly these members; returns it."""
    wanted = {node.peer_id for node in nodes}

    def same() -> int | None:
        seen = [members(node) for node in nodes]
        for node, one in zip(nodes, seen, strict=True):
            found = {member["peer_id"] for member in one.get("members", [])}
            require(found == wanted, f"{node.name} sees {len(found)} members of {len(wanted)}: {one}")
        epochs = {one["epoch"] for one in seen}
        require(len(epochs) == 1, f"epochs {epochs}")
        return int(epochs.pop()) + 1

    return wait_for(same, timeout_s, f"{len(nodes)} members agree", interval_s=0.2) - 1


def pings(a: Node, b: Node, count: int = 3) -> bool:
    status, _, _ = a.namespace.try_run("ping", "-nqc", str(count), "-i0.05", "-W1", side(b).ipv4)
    return status == 0


def all_ping(*nodes: Node) -> None:
    """Everybody reaches everybody."""
    for a in nodes:
        for b in nodes:
            if a is not b:
                wait_for(lambda a=a, b=b: pings(a, b), 15, f"{a.name} pings {b.name}")  # type: ignore[misc]


def refused(node: Node, *words: str) -> str:
    """The error that a command ends with.

    Raises:
        ScenarioFailed: it was accepted.
    """
    try:
        found = vlan(node, *words)
    except ScenarioFailed as error:
        return str(error)
    raise ScenarioFailed(f"{node.name}: `vlan {words[0]}` was accepted: {found}")
