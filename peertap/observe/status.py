"""The status of a node as one plain object (SPEC 8.3): what `peertap status --json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peertap import __version__
from peertap.identity.node import format_peer_id
from peertap.node.node import Node
from peertap.node.tables import Hop, MemberTable
from peertap.node.trunk import Trunk
from peertap.node.vlan import LocalVlan
from peertap.observe.relay import relay_status
from peertap.types import TrunkId, VlanIndex, format_mac
from peertap.vlan.membership import GroupMembership, KeySource
from peertap.vlan.peer import Peer
from peertap.wire.handshake import CIPHERS
from peertap.wire.routes import EVERY_GROUP


@dataclass(frozen=True, slots=True)
class TapStatus:
    """A VLAN's interface."""

    name: str
    mtu: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """What the process knows beside the node."""

    name: str
    pid: int
    uptime_s: float
    ready: bool
    listen: Sequence[str]
    underlay_mtu: int
    overhead_bytes: int
    taps: Mapping[VlanIndex, TapStatus]


def status(process: Process, node: Node, snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """The whole status.

    Args:
        snapshot: of the data plane.
    """
    return {
        "node": process.name,
        "version": __version__,
        "pid": process.pid,
        "peer_id": format_peer_id(node.identity.peer_id),
        "ready": process.ready,
        "uptime_s": round(process.uptime_s, 3),
        "listen": list(process.listen),
        "underlay_mtu": process.underlay_mtu,
        "overhead_bytes": process.overhead_bytes,
        "role": "leaf" if node.is_leaf else "transit",
        "relay": relay_status(node, snapshot),
        "mesh": _mesh(node),
        "trunks": [_trunk(node, trunk, snapshot["trunks"].get(trunk.id, {})) for trunk in node.trunks.values()],
        "vlans": [
            _vlan(node, vlan, process.taps.get(vlan.index), snapshot["vlans"].get(vlan.index, {}))
            for vlan in node.vlans.values()
            if vlan.is_inside
        ],
        "routes": _routes(node),
        "frame_keys": _frame_keys(node),
        "udp": snapshot["udp"],
        "ports": [
            {"name": port["name"], "offloads": port["offloads"], "read": port["read"], "written": port["written"]}
            for port in snapshot["ports"].values()
        ],
        "drops": {reason: count for reason, count in snapshot["drops"].items() if count},
        "rejected": {
            "routes": node.routes.refused,
            "introductions": sum(vlan.introductions.rejected for vlan in node.vlans.values()),
            "multicast": node.multicast.refused,
            "presence": sum(node.presence.refused.values()),
        },
    }


def _mesh(node: Node) -> dict[str, Any]:
    """Who is there beside us, the nearest first, and whom we chose."""
    chosen = node.relays.chosen
    return {
        "load": round(node.presence.load, 3),
        "full": node.is_full,
        "nodes": [
            {
                "peer_id": format_peer_id(seen.peer),
                "hops": seen.hops,
                "rtt_s": round(seen.rtt_s, 6),
                "role": "leaf" if seen.presence.is_leaf else "transit",
                "relays": seen.presence.relays,
                "wants_grants": seen.presence.wants_grants,
                "load": round(seen.presence.load / 255, 3),
                "busy": seen.presence.is_busy,
                "full": seen.presence.is_full,
                "chosen": seen.peer in chosen,
                "vlans": [vlan.hex() for vlan in seen.presence.vlans],
                "said_at": seen.presence.sequence / 1000,
            }
            for seen in node.presence.seen().values()
        ],
    }


def _trunk(node: Node, trunk: Trunk, counters: Mapping[str, Any]) -> dict[str, Any]:
    remote = trunk.choice.remote
    return {
        "id": trunk.id,
        "peer_id": format_peer_id(trunk.peer),
        "state": "up",
        "transport": trunk.transport,
        "dialled": trunk.dialled,
        "carrier": trunk.choice.name,
        "remote": f"{remote[0]}:{remote[1]}" if remote else trunk.host,
        "rtt_s": trunk.rtt_s,
        "loss": counters.get("loss", 0.0),
        "epoch": trunk.epoch,
        "cipher": CIPHERS[trunk.aead],
        "sends": counters.get("sends", "single"),
        "relays": trunk.relays,
        "refused_routes": node.routes.refusals(trunk.id),
        "differed_routes": node.fabric.differed[trunk.id],
        "held_batches": node.fabric.inflow.held_back[trunk.id],
        "refused_presences": node.presence.refused_from(trunk.id),
        "received": {"packets": counters.get("rx_packets", 0), "bytes": counters.get("rx_bytes", 0)},
        "sent": {"packets": counters.get("tx_packets", 0), "bytes": counters.get("tx_bytes", 0)},
    }


def _vlan(node: Node, vlan: LocalVlan, tap: TapStatus | None, counters: Mapping[str, Any]) -> dict[str, Any]:
    names = vlan.for_group()
    sending = node.trees.sending_group(names.vtag, names.group_token)
    root = node.trees.root_of(names.vtag)
    group = sending[1] if sending is not None else None
    members = [member for table in node.tables.vlans if table.id == vlan.index for member in table.members]
    ways = {
        member.id: [member.hop[0], *(hop[0] for hop in (*member.spread, *_second(member)))]
        for member in members
        if member.hop is not None
    }
    backups = {member.id: member.backup[0] for member in members if member.backup is not None}
    return {
        "label": vlan.source.label,
        "vlan_id": vlan.source.vlan_id.hex(),
        "vtag": vlan.newest.vtag.hex(),
        **_membership(vlan.source),
        "cipher": CIPHERS[vlan.source.aead],
        "warning": vlan.source.warning,
        "bridge": vlan.bridge,
        "paths": node.ways.of(vlan.source.label).value,
        "port": _port(node, vlan),
        "hosts": _hosts(node, vlan),
        "tap": {
            "name": tap.name if tap is not None else None,
            "mac": format_mac(vlan.mac),
            "mtu": tap.mtu if tap is not None else None,
            "addresses": list(tap.addresses) if tap is not None else [],
        },
        "tokens": {
            "unicast": vlan.newest.token.hex(),
            "group": names.group_token.hex(),
            "tree": vlan.newest.tree_token.hex(),
        },
        "tree": {
            "root": root[0].emit().hex() if root is not None else None,
            "is_root": root is not None and root[1] is None,
            "parent": _peer(node, group.parent) if group is not None else None,
            "edges": [_peer(node, trunk) for trunk in group.edges()] if group is not None else [],
        },
        "multicast": _multicast(node, vlan),
        "members": [
            {
                "peer_id": format_peer_id(peer.member),
                "mac": format_mac(peer.mac),
                "known": True,
                "pair": peer.pair_send is not None,
                "pair_from": bool(peer.pair_receive),
                "bridge": vlan.may_bridge(peer.member),
                "spoofed": counters.get("members", {}).get(peer.id, {}).get("spoofed", 0),
                "policed": counters.get("members", {}).get(peer.id, {}).get("policed", 0),
                "next_hop": _next_hop(node, vlan, peer, ways),
                "backup": _peer(node, backups.get(peer.id)),
                "ways": [_peer(node, trunk) for trunk in ways.get(peer.id, ())],
                "swallowed_by": [
                    {"peer_id": format_peer_id(relay), "tried_in_s": round(seconds, 1)}
                    for relay, seconds in node.end_to_end.swallows(vlan.index, peer.member, node.now)
                ],
            }
            for peer in vlan.introductions.peers.values()
        ],
        "policed": counters.get("policed", 0),
        "answered": counters.get("answered", 0),
        "forged": {str(trunk): count for trunk, count in counters.get("forged", {}).items()},
        "received": {"frames": counters.get("rx_frames", 0), "bytes": counters.get("rx_bytes", 0)},
        "sent": {"frames": counters.get("tx_frames", 0), "bytes": counters.get("tx_bytes", 0)},
    }


def _second(member: MemberTable) -> tuple[Hop, ...]:
    """The way that a second copy of each packet takes."""
    return (member.backup,) if member.duplicate and member.backup is not None else ()


def _port(node: Node, vlan: LocalVlan) -> dict[str, Any]:
    """What the VLAN's port does, and who keeps it from forwarding."""
    state, cause, rival = node.bridges.port(vlan)
    return {"state": state, "cause": cause, "member": format_peer_id(rival) if rival is not None else None}


def _hosts(node: Node, vlan: LocalVlan) -> list[dict[str, Any]]:
    """Hosts behind members, and at our port (member: null)."""
    table, me = node.bridges.hosts(vlan.index), vlan.introductions.me
    if table is None:
        return []
    frozen = table.frozen()
    return [
        {
            "mac": format_mac(host.mac),
            "vid": host.vid,
            "member": None if place == me else format_peer_id(place),
            "moves": moves,
            "frozen": host in frozen,
            "claimed_by": [format_peer_id(one) for one in frozen[host].claimants] if host in frozen else [],
        }
        for host, place, moves in table.all()
    ]


def _multicast(node: Node, vlan: LocalVlan) -> dict[str, Any]:
    groups, macs, querier = node.multicast.state_of(vlan.index, node.now)
    trees = node.subscriptions.trees(vlan.newest.vtag)
    return {
        "groups": [str(group) for group in sorted(groups, key=lambda one: (one.version, one.packed))],
        "subscribed": None if macs is None else [format_mac(mac) for mac in sorted(macs)],
        "router": vlan.has_router,
        "querier": querier,
        "elsewhere": max((len(node.subscriptions.tokens(tree) - {EVERY_GROUP}) for tree in trees), default=0),
    }


def _membership(source: KeySource) -> dict[str, Any]:
    if not isinstance(source, GroupMembership):
        return {"membership": "static", "epoch": None}
    return {"membership": "group", "epoch": source.group.epoch}


def _next_hop(node: Node, vlan: LocalVlan, peer: Peer, ways: Mapping[int, Sequence[TrunkId]]) -> str | None:
    """The neighbour that a member's frames take first; while none has a label, that of the route."""
    if peer.id in ways:
        return _peer(node, ways[peer.id][0])
    selected = node.routes.selected(vlan.towards(peer.mac).key_of(peer.mac))
    return None if selected is None else _peer(node, selected.trunk)


def _routes(node: Node) -> list[dict[str, Any]]:
    return [
        {
            "vtag": key[0].hex(),
            "token": key[1].hex(),
            "kind": {1: "unicast", 3: "tree"}.get(selected.advert.route.kind, "?"),
            "next_hop": _peer(node, selected.trunk),
            "metric": selected.metric,
            "path_mtu": selected.path_mtu,
        }
        for key, selected in node.routes.in_use()
    ]


def _frame_keys(node: Node) -> int:
    """How many keys of frames this process holds: none on a node that is no member."""
    count = 0
    for vlan in node.vlans.values():
        count += 1
        for peer in vlan.introductions.peers.values():
            count += len(peer.group_receive) + len(peer.pair_receive) + (peer.pair_send is not None)
    return count


def _peer(node: Node, trunk: TrunkId | None) -> str | None:
    found = node.trunks.get(trunk) if trunk is not None else None
    return None if found is None else format_peer_id(found.peer)
