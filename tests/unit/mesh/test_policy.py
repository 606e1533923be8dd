"""Grants: a stranger's changes nothing for others, and takes no room."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peertap._core import StaticSecret
from peertap.mesh import policy
from peertap.mesh.policy import NEVER, Mode, RelayPolicy
from peertap.types import VlanId, VTag
from peertap.vlan.grants import checked_grant, grant_message, owner_message, vtag_message
from peertap.vlan.membership import StaticMembership
from peertap.vlan.names import vlan_id
from peertap.wire.control import Grant
from peertap.wire.relay import Change, Verdict
from peertap.wire.routes import vtag_of

NOW_UNIX = 1_800_000_000.0
LAB = StaticMembership("lab", StaticSecret(b"l" * 32))
LAB_TAG = vtag_of(LAB.keys.route_public)


def stranger_grant(route_public: bytes, route_signature: bytes | None = None) -> Grant:
    """All that a stranger can sign: a VLAN of its own, and another's route key under it."""
    creator, grantee, route = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
    public, grant_key = creator.public_key().public_bytes_raw(), grantee.public_key().public_bytes_raw()
    expiry = int(NOW_UNIX) + 1000
    vlan = vlan_id((public,), 1, bytes(32))
    return Grant(
        (public,), 1, bytes(32), grant_key, expiry, creator.sign(grant_message(vlan, grant_key, expiry)), route_public,
        grantee.sign(vtag_message(vtag_of(route_public))), route_signature or route.sign(owner_message(vlan)),
    )  # fmt: skip


def test_a_stranger_who_claims_the_tag_of_a_vlan_proves_nothing() -> None:
    good = LAB.grant(NOW_UNIX)
    assert checked_grant(good, NOW_UNIX) == (LAB_TAG, LAB.vlan_id)
    assert checked_grant(stranger_grant(LAB.keys.route_public), NOW_UNIX) is None
    recorded = stranger_grant(LAB.keys.route_public, good.route_signature)
    assert checked_grant(recorded, NOW_UNIX) is None, "the owner's signature is for the owner's VLAN-ID"


def test_a_grant_with_any_part_of_anothers_proves_nothing() -> None:
    good, other = LAB.grant(NOW_UNIX), StaticMembership("other", StaticSecret(b"o" * 32)).grant(NOW_UNIX)
    for field in ("creators", "name_hash", "grant_key", "creator_signature", "route_public", "grant_signature",
                  "route_signature"):  # fmt: skip
        assert checked_grant(replace(good, **{field: getattr(other, field)}), NOW_UNIX) is None, field


@pytest.mark.parametrize("mode", [Mode.ALLOW, Mode.RESTRICTED])
def test_a_grant_that_matches_nothing_neither_displaces_one_nor_takes_room(mode: Mode) -> None:
    relay = RelayPolicy(mode, (LAB.vlan_id.hex(),))
    relay.granted(LAB_TAG, LAB.vlan_id, NOW_UNIX + 10)
    relay.granted(LAB_TAG, VlanId(bytes(16)), NOW_UNIX + 1000)
    assert relay.carries(LAB_TAG, NOW_UNIX)
    for number in range(100):
        relay.granted(VTag(number.to_bytes(16, "big")), VlanId(bytes(16)), NOW_UNIX + 1000)
    assert len(relay._granted) == 1


def test_in_deny_mode_a_grant_of_a_denied_vlan_takes_no_room() -> None:
    relay = RelayPolicy(Mode.DENY, (LAB.vlan_id.hex(),))
    relay.granted(LAB_TAG, LAB.vlan_id, NOW_UNIX + 10)
    assert not relay.carries(LAB_TAG, NOW_UNIX)
    assert not relay._granted
    relay.granted(VTag(bytes(16)), VlanId(bytes(16)), NOW_UNIX + 10)
    assert relay.carries(VTag(bytes(16)), NOW_UNIX)


def test_more_grants_than_the_table_holds_push_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_GRANTS", 3)
    relay = RelayPolicy(Mode.ALLOW, ("*",))
    tags = [VTag(bytes([number]) * 16) for number in range(5)]
    for tag in tags:
        relay.granted(tag, VlanId(bytes(16)), NOW_UNIX + 10)
    assert [relay.carries(tag, NOW_UNIX) for tag in tags] == [False, False, True, True, True]
    assert not relay.carries(tags[4], NOW_UNIX + 11), "a grant ends with its expiry"


def rule(verdict: Verdict, pattern: str, until: int = 0) -> Change:
    return Change(verdict, pattern, until)


def test_proofs_are_wanted_only_where_a_rule_makes_a_difference() -> None:
    relay = RelayPolicy(Mode.OPEN)
    relay.change([rule(Verdict.ALLOW, "3f*")])
    assert not relay.wants_grants, "it carries everything anyway"
    relay.change([rule(Verdict.DENY, "3f*")])
    assert relay.wants_grants and relay.relays
    for_nobody = RelayPolicy(Mode.NONE)
    for_nobody.change([rule(Verdict.DENY, "3f*")])
    assert not for_nobody.wants_grants and not for_nobody.relays
    for_nobody.change([rule(Verdict.ALLOW, "40*")])
    assert for_nobody.wants_grants and for_nobody.relays


def test_no_more_rules_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_RULES", 2)
    relay = RelayPolicy(Mode.ALLOW)
    relay.change([rule(Verdict.ALLOW, "00*"), rule(Verdict.ALLOW, "01*")])
    assert not relay.has_room([rule(Verdict.ALLOW, "02*")])
    assert relay.has_room([rule(Verdict.DENY, "01*")])
    assert relay.has_room([rule(Verdict.FORGET, "00*"), rule(Verdict.ALLOW, "02*")])


def test_rules_and_proofs_end_with_their_time() -> None:
    relay = RelayPolicy(Mode.RESTRICTED)
    relay.change([rule(Verdict.ALLOW, LAB.vlan_id.hex(), int(NOW_UNIX) + 5), rule(Verdict.ALLOW, "00*")])
    relay.granted(LAB_TAG, LAB.vlan_id, NOW_UNIX + 100)
    assert relay.ends_at == NOW_UNIX + 5
    relay.end_rules(NOW_UNIX + 4.9)
    assert relay.carries(LAB_TAG, NOW_UNIX) and len(relay.rules) == 2
    relay.end_rules(NOW_UNIX + 5)
    assert list(relay.rules) == ["00*"] and relay.ends_at == NEVER
    assert not relay.carries(LAB_TAG, NOW_UNIX + 5)
    relay.end_proofs(NOW_UNIX + 100)
    assert LAB_TAG in relay.proven
    relay.end_proofs(NOW_UNIX + 101)
    assert not relay.proven


def test_what_was_carried_without_proof_is_tolerated_until_it_proves_something_or_the_grace_ends() -> None:
    relay = RelayPolicy(Mode.OPEN)
    silent, denied = VTag(b"s" * 16), VTag(b"d" * 16)
    relay.change([rule(Verdict.DENY, LAB.vlan_id.hex())])
    relay.tolerate([silent, denied])
    assert relay.carries(silent, NOW_UNIX) and relay.carries(denied, NOW_UNIX)
    assert not relay.carries(VTag(b"n" * 16), NOW_UNIX), "what is new proves itself first"
    relay.granted(denied, LAB.vlan_id, NOW_UNIX + 100)
    assert not relay.carries(denied, NOW_UNIX)
    relay.end_grace()
    assert not relay.carries(silent, NOW_UNIX)
