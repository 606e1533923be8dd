"""Status and topology as text that fits a terminal, and as a graph for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

SHORT: Final = 10  # ours: the end of a peer ID, which tells nodes apart


def short(peer_id: str | None) -> str:
    """The end of a peer ID: they all begin alike."""
    return "-" if peer_id is None else f"…{peer_id[-SHORT:]}"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def table(rows: list[list[str]], indent: str = "  ") -> Iterator[str]:
    """Rows with their columns aligned; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """`peertap status`."""
    state = "ready" if status["ready"] else "not ready"
    yield f"node {status['node']}  {state}, up {duration(status['uptime_s'])}, PeerTap {status['version']}"
    yield f"  peer ID  {status['peer_id']}"
    if status["relay"]["mode"] != "none":
        yield f"  relay    {status['relay']['mode']} {' '.join(status['relay']['patterns'])}".rstrip()
    yield ""
    yield from _trunk_lines(status)
    yield from _offload_lines(status)
    for vlan in status["vlans"]:
        yield ""
        yield from _vlan_lines(vlan)
    if status["drops"]:
        yield ""
        yield "dropped  " + ", ".join(f"{reason} {count}" for reason, count in sorted(status["drops"].items()))


def mesh_lines(mesh: dict[str, Any]) -> Iterator[str]:
    """`peertap mesh`."""
    if not mesh["nodes"]:
        yield "no other node is seen"
        return
    rows = [
        [
            one["peer_id"],
            "neighbour" if one["hops"] == 1 else f"{one['hops']} hops",
            duration(one["rtt_s"]),
            f"{one['load']:.0%}",
            ", ".join(_mesh_notes(one)),
        ]
        for one in mesh["nodes"]
    ]
    yield from table([["NODE", "WHERE", "ABOUT", "LOAD", "WHAT"], *rows], indent="")
    for one in mesh["nodes"]:
        yield from (f"{short(one['peer_id'])} is in VLAN {vlan}" for vlan in one["vlans"])


def _mesh_notes(one: dict[str, Any]) -> Iterator[str]:
    yield ("relay, by its rules" if one["wants_grants"] else "relay") if one["relays"] else one["role"]
    yield from (note for note in ("busy", "full", "chosen") if one[note])


def path_line(step: dict[str, Any]) -> str:
    """A node of the way to a member."""
    who = "this node" if step["hop"] == 0 else step["node"] or "*"
    parts = [f"{step['hop']:2}", who]
    if step["rtt_s"] is not None:
        parts.append(duration(step["rtt_s"]))
    if step["transport"] is not None:
        link = f", {duration(step['link_s'])}" if step["link_s"] is not None else ""
        parts.append(f"on by {step['transport']}, {step['carrier']}{link}")
    if step["end"] != "passes":
        parts.append({"member": "the member", "lost": "knows no way"}[step["end"]])
    return "  ".join(parts) + (f"\n    {step['why']}" if step["why"] else "")


def _trunk_lines(status: dict[str, Any]) -> Iterator[str]:
    if not status["trunks"]:
        yield "no trunks"
    else:
        yield "trunks"
        head = ["NEIGHBOUR", "CARRIER", "BY", "REMOTE", "CIPHER", "RTT", "LOSS", "RECEIVED", "SENT"]
        yield from table([head, *map(_trunk_row, status["trunks"])])
    for trunk in status["trunks"]:
        if trunk["refused_routes"]:
            faults = ", ".join(f"{count} {why}" for why, count in sorted(trunk["refused_routes"].items()))
            yield f"  {short(trunk['peer_id'])} announces what cannot be: {faults}"
    for peer, reason in status["not_reached"].items():
        yield f"  {short(peer)} not reached: {reason}"


def _trunk_row(trunk: dict[str, Any]) -> list[str]:
    return [
        short(trunk["peer_id"]) + (" relay" if trunk["relays"] else ""),
        trunk["carrier"],
        trunk["transport"],
        trunk["remote"] or "-",
        trunk["cipher"],
        duration(trunk["rtt_s"]),
        f"{trunk['loss']:.0%}",
        size(trunk["received"]["bytes"]),
        size(trunk["sent"]["bytes"]),
    ]


def _offload_lines(status: dict[str, Any]) -> Iterator[str]:
    """Which offloads are in use, and what a frame costs."""
    udp = status["udp"]
    yield ""
    yield f"overhead {status['overhead_bytes']} bytes a frame, on packets of {status['underlay_mtu']} bytes"
    buffers = f"buffers {size(udp['receive_buffer_bytes'])} in, {size(udp['send_buffer_bytes'])} out"
    yield f"  UDP port {udp['port']}  {_offloads(udp['offloads'])}, {buffers}"
    yield from (f"  {port['name']}  {_offloads(port['offloads'])}" for port in status["ports"])
    for trunk in status["trunks"]:
        if trunk["carrier"] == "udp" and trunk["sends"] != "trains" and "gso" in udp["offloads"]:
            yield f"  to {short(trunk['peer_id'])} datagrams go as: {trunk['sends']} (the system refused more)"


def _offloads(names: list[str]) -> str:
    return f"offloads {' '.join(names)}" if names else "no offloads"


def _vlan_lines(vlan: dict[str, Any]) -> Iterator[str]:
    tap = vlan["tap"]
    addresses = " ".join(tap["addresses"])
    yield f"VLAN {vlan['label']}  on {tap['name']}  {tap['mac']}  MTU {tap['mtu']}  {addresses}".rstrip()
    yield f"  VLAN-ID {vlan['vlan_id']}"
    if vlan["warning"]:
        yield f"  note: {vlan['warning']}"
    port = vlan["port"]
    if port["state"] != "forwarding":
        yield f"  port {port['state']}: {port['cause']}" + (f" ({short(port['member'])})" if port["member"] else "")
    for host in vlan["hosts"]:
        if host["frozen"]:
            yield f"  host {host['mac']} is frozen, claimed by {' '.join(map(short, host['claimed_by']))}"
    if not vlan["members"]:
        yield "  no other member known yet"
        return
    rows = [[short(member["peer_id"]), member["mac"], _by(member), _member_state(member)] for member in vlan["members"]]
    yield from table([["MEMBER", "MAC", "BY", "STATE"], *rows])
    for member in vlan["members"]:
        for one in member["swallowed_by"]:
            yield (
                f"  {short(one['peer_id'])} swallows frames to {short(member['peer_id'])}: they go by"
                f" {short(member['next_hop'])}; it is tried again in {duration(one['tried_in_s'])}"
            )


def _by(member: dict[str, Any]) -> str:
    """The ways that frames to a member take."""
    return " + ".join(map(short, member["ways"])) or short(member["next_hop"])


def _member_state(member: dict[str, Any]) -> str:
    if member["next_hop"] is None:
        return "no route"
    return "connected" if member["pair"] else "agreeing on keys"


def size(count: float) -> str:
    """Bytes in a unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def topology_lines(status: dict[str, Any]) -> Iterator[str]:
    """`peertap topology`: this node, its trunks, and what is behind each."""
    yield f"{short(status['peer_id'])} (this node, {status['node']})"
    behind: dict[str | None, list[str]] = {}
    for vlan in status["vlans"]:
        for member in vlan["members"]:
            behind.setdefault(member["next_hop"], []).append(
                f"{short(member['peer_id'])}  {vlan['label']}  {member['mac']}  {_member_state(member)}"
            )
    tokens: dict[str | None, list[dict[str, Any]]] = {}
    for route in status["routes"]:
        tokens.setdefault(route["next_hop"], []).append(route)
    trunks = status["trunks"]
    for number, trunk in enumerate(trunks):
        last = number == len(trunks) - 1
        yield (
            f"{'└' if last else '├'}─ {short(trunk['peer_id'])}{' relay' if trunk['relays'] else ''}"
            f"  {trunk['carrier']} over {trunk['transport']}  RTT {duration(trunk['rtt_s'])}  loss {trunk['loss']:.0%}"
        )
        bar = " " if last else "│"
        yield from (f"{bar}    ├─ member {line}" for line in behind.get(trunk["peer_id"], []))
        for route in tokens.get(trunk["peer_id"], []):
            yield (
                f"{bar}    ├─ token {route['token'][:8]}…  of {route['vtag'][:8]}…"
                f"  {route['kind']}  metric {route['metric']}  path {route['path_mtu']} bytes"
            )
    own = tokens.get(None, [])
    for vlan in status["vlans"]:
        tree = vlan["tree"]
        where = "is the root" if tree["is_root"] else f"root by {short(tree['parent'])}"
        edges = ", ".join(short(edge) for edge in tree["edges"]) or "none"
        yield f"VLAN {vlan['label']}: VTag {vlan['vtag'][:8]}…, tree {where}, edges {edges}"
    for route in own:
        yield f"own token {route['token'][:8]}…  of {route['vtag'][:8]}…  {route['kind']}"


def topology(status: dict[str, Any]) -> dict[str, Any]:
    """`peertap topology --json`: nodes and edges."""
    nodes = {status["peer_id"]: {"id": status["peer_id"], "self": True, "relays": status["relay"]["mode"] != "none"}}
    edges = []
    for trunk in status["trunks"]:
        nodes[trunk["peer_id"]] = {"id": trunk["peer_id"], "self": False, "relays": trunk["relays"]}
        kept = ("carrier", "transport", "rtt_s", "loss", "epoch")
        edges.append({"from": status["peer_id"], "to": trunk["peer_id"], **{key: trunk[key] for key in kept}})
    members = []
    for vlan in status["vlans"]:
        for member in vlan["members"]:
            nodes.setdefault(member["peer_id"], {"id": member["peer_id"], "self": False, "relays": None})
            members.append({"vlan": vlan["label"], **member})
    return {"nodes": list(nodes.values()), "trunks": edges, "members": members, "routes": status["routes"]}


def topology_dot(status: dict[str, Any]) -> Iterator[str]:
    """`peertap topology --dot`."""
    graph = topology(status)
    yield "graph peertap {"
    for node in graph["nodes"]:
        shape = "box" if node["relays"] else "ellipse"
        yield f'  "{node["id"]}" [label="{short(node["id"])}", shape={shape}{", style=bold" if node["self"] else ""}];'
    for trunk in graph["trunks"]:
        label = f"{trunk['carrier']} {duration(trunk['rtt_s'])}"
        yield f'  "{trunk["from"]}" -- "{trunk["to"]}" [label="{label}"];'
    for member in graph["members"]:
        if member["next_hop"] not in (None, member["peer_id"]):
            yield f'  "{member["next_hop"]}" -- "{member["peer_id"]}" [style=dashed, label="{member["vlan"]}"];'
    yield "}"
