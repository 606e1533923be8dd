"""VLANs with a group as plain objects: what `peertap vlan members` and `vlan invites` print."""

from __future__ import annotations

from typing import Any

from peertap.identity.node import format_peer_id
from peertap.node.group_vlan import GroupVlan
from peertap.node.node import Node
from peertap.types import peer_id_of
from peertap.vlan.motions import describe

SUITES = {0xF1A1: "hybrid", 1: "x25519-aes128", 3: "x25519-chacha20"}  # SPEC 9.1


def group_status(node: Node, vlan: GroupVlan) -> dict[str, Any]:
    """One VLAN: who is in it, where its group stands, and what waits."""
    found: dict[str, Any] = {"vlan": vlan.label, "state": state(vlan)}
    if vlan.joining is not None:
        answer = vlan.joining.answer
        found["inviter"] = format_peer_id(peer_id_of(vlan.joining.invite.inviter))
        found["reason"] = answer.reason if answer is not None else None
        return found
    group = vlan.group
    if group is None:
        return found
    found |= {
        "vlan_id": charter_id(vlan),
        "epoch": group.epoch,
        "suite": SUITES.get(group.mls.suite, hex(group.mls.suite)),
        "members": [_member(node, vlan, identity) for identity in sorted(group.members, key=_rank(vlan))],
        "waiting": [
            {"peer_id": _text(one.identity), "name": one.name, "invite": one.invite.hex()[:8]}
            for one in vlan.doors.invites.waiting.values()
        ],
        "admins_needed": group.charter.threshold,
        "awaited": [_text(one) for one in group.charter.admins if one not in group.members],
        "changes": [
            {
                "id": name,
                "what": [{"do": what, "peer_id": _text(who)} for what, who in describe(one.motion, group.charter)],
                "asked_by": _text(one.by),
                "agreed": [_text(who) for who, _ in one.motion.signatures],
            }
            for name, one in group.motions.items()
            if not one.is_refused
        ],
        "refused": {"count": group.refusals, "last": list(group.refused)[-3:]},
        "routing_number": vlan.source.secrets.number if vlan.source is not None else None,
    }
    return found


def invites(vlan: GroupVlan, now_unix: float) -> list[dict[str, Any]]:
    """The invites that this node gave out; never their secrets."""
    charter = vlan.group.charter if vlan.group is not None else None
    return [
        {
            "id": name.hex()[:8],
            "uses": one.invite.uses,
            "left": vlan.doors.invites.left(one.invite, charter) if charter is not None else None,
            "expires_in_s": max(0, round(one.invite.expiry - now_unix)),
            "approve": one.invite.approve,
            "revoked": one.revoked,
        }
        for name, one in vlan.doors.invites.open.items()
    ]


def state(vlan: GroupVlan) -> str:
    """joining, waiting, refused, returning, member, leaving, or gone."""
    if vlan.joining is not None:
        answer = vlan.joining.answer
        return "joining" if answer is None else "refused" if vlan.joining.is_refused else "waiting"
    if vlan.is_over or vlan.group is None:
        return "gone"
    if vlan.group.is_returning:
        return "returning"
    return "leaving" if vlan.group.is_leaving else "member"


def charter_id(vlan: GroupVlan) -> str | None:
    """The VLAN-ID in hexadecimal."""
    return vlan.source.vlan_id.hex() if vlan.source is not None else None


def _member(node: Node, vlan: GroupVlan, identity: bytes) -> dict[str, Any]:
    group = vlan.group
    admins = group.charter.admins if group is not None else ()
    peer_id = peer_id_of(identity)
    is_us = peer_id == node.identity.peer_id
    near = vlan.main is not None and vlan.main in node.vlans and not is_us and node.reaches(vlan.main, peer_id)
    return {
        "peer_id": format_peer_id(peer_id),
        "role": "admin" if identity in admins else "member",
        "bridge": group is not None and identity in group.charter.bridges,
        "rank": admins.index(identity) if identity in admins else None,
        "is_us": is_us,
        "reachable": is_us or near,
    }


def _rank(vlan: GroupVlan) -> Any:
    admins = vlan.group.charter.admins if vlan.group is not None else ()
    return lambda identity: (admins.index(identity) if identity in admins else len(admins), identity)


def _text(identity: bytes) -> str:
    return format_peer_id(peer_id_of(identity))
