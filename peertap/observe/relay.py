"""What a relay carries, as one plain object: part of the status, and what `peertap relay list` says (SPEC 15.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peertap.identity.node import format_peer_id
from peertap.node.carried import OTHERS
from peertap.node.node import Node


def relay_status(node: Node, snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Policy and accounting.

    Args:
        snapshot: of the data plane.
    """
    policy, limits = node.policy, node.carried.limits
    rules = [
        {"pattern": rule.pattern, "verdict": rule.verdict.name.lower(), "until": rule.until or None}
        for rule in policy.rules.values()
    ]
    return {
        "mode": policy.mode.value,
        "patterns": list(policy.patterns),
        "rules": rules,
        "controllers": sorted(format_peer_id(peer) for peer in node.relay_control.controllers),
        "limits": {
            "rate_bps": 8 * limits.all or None,
            "trunk_rate_bps": 8 * limits.per_trunk or None,
            "vlan_rate_bps": 8 * limits.per_vlan or None,
        },
        "refused_updates": dict(node.relay_control.refused),
        "waiting_bytes": snapshot.get("relay_waiting", 0),
        "carried": _carried(node, snapshot.get("classes", {})),
    }


def _carried(node: Node, counters: Mapping[int, Mapping[str, int]]) -> list[dict[str, Any]]:
    proven = node.policy.proven
    numbers = node.carried.numbers
    found = []
    for vtag in dict.fromkeys((*numbers, *proven)):
        named = node.relaying.own_name(vtag) or (proven[vtag][0] if vtag in proven else None)
        count = counters.get(numbers.get(vtag, -1), {})
        found.append(
            {
                "vtag": vtag.hex(),
                "vlan_id": named.hex() if named is not None else None,
                "is_carried": node.relaying.carries(vtag),
                **_counts(count),
            }
        )
    others = counters.get(OTHERS, {})
    if others.get("packets"):
        found.append({"vtag": None, "vlan_id": None, "is_carried": True, **_counts(others)})
    return found


def _counts(count: Mapping[str, int]) -> dict[str, int]:
    return {name: count.get(name, 0) for name in ("packets", "bytes", "over_rate", "no_room")}
