"""What steers a relay, on the wire and on disk: what goes out comes back, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import os
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.identity.carriage import emit_line, parse_line
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.node.relay_state import RelayState
from peertap.types import PeerId, VlanId, peer_id_of, public_key_of
from peertap.vlan.grants import checked_carriage
from peertap.vlan.membership import StaticMembership
from peertap.wire import control
from peertap.wire.relay import (
    MAX_CHANGES,
    Carriage,
    Change,
    Outcome,
    RelayResult,
    RelayUpdate,
    Verdict,
)
from peertap.wire.routes import signed_by
from tests.support.identities import identity

EXAMPLES = 20_000 if os.environ.get("PEERTAP_FULL") else 300
NOW_UNIX = 1_800_000_000


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def uint(size: int) -> st.SearchStrategy[int]:
    return st.integers(0, 256**size - 1)


patterns = st.text("0123456789abcdef*", min_size=1, max_size=64)
peers = exactly(32).map(peer_id_of)
changes = st.builds(Change, st.sampled_from(Verdict), patterns, uint(8))
rules = changes.filter(lambda one: one.verdict is not Verdict.FORGET)
updates = st.builds(RelayUpdate, peers, peers, uint(8), st.lists(changes, max_size=20).map(tuple), exactly(64))
results = st.builds(RelayResult, uint(8), st.sampled_from(Outcome), uint(8))
states = st.builds(
    RelayState,
    st.lists(rules, max_size=20, unique_by=lambda one: one.pattern).map(tuple),
    st.dictionaries(peers, uint(8), max_size=5),
)


def genuine(*what: Change, sequence: int = 9) -> RelayUpdate:
    unsigned = RelayUpdate(identity("relay").peer_id, identity("controller").peer_id, sequence, what, b"")
    return dataclasses.replace(unsigned, signature=identity("controller").sign(unsigned.signed_part()))


@settings(max_examples=EXAMPLES)
@given(st.one_of(updates, results))
def test_updates_and_results_come_back_as_they_went(message: RelayUpdate | RelayResult) -> None:
    assert control.parse_untrusted(control.emit(message)) == message


@settings(max_examples=EXAMPLES)
@given(states)
def test_what_a_relay_keeps_comes_back_as_it_was(state: RelayState) -> None:
    assert RelayState.parse(state.emit()) == state


@settings(max_examples=EXAMPLES)
@given(peers, uint(8), exactly(64), st.binary(max_size=400))
def test_a_carriage_line_comes_back_as_it_was(relay: PeerId, until: int, signature: bytes, grant: bytes) -> None:
    carriage = Carriage(relay, until, signature, grant)
    assert parse_line(emit_line("lab", carriage)) == carriage


@settings(max_examples=EXAMPLES)
@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_decode_error(data: bytes) -> None:
    for parse in (
        RelayState.parse,
        Carriage.parse_untrusted,
        lambda data: control.parse_untrusted(b"\x18" + data),
        lambda data: control.parse_untrusted(b"\x19" + data),
        lambda data: RelayState.parse(b"PTRELAY1" + data),
    ):
        try:
            parse(data)
        except DecodeError:
            continue


@settings(max_examples=EXAMPLES)
@given(st.lists(rules, max_size=5), st.integers(0, 10_000), st.integers(1, 255), st.booleans())
def test_an_update_with_any_byte_changed_is_not_signed(what: list[Change], at: int, flip: int, cut: bool) -> None:
    data = bytearray(control.emit(genuine(*what)))
    place = 1 + at % (len(data) - 1)
    if cut:
        del data[place]
    else:
        data[place] ^= flip
    try:
        got = control.parse_untrusted(bytes(data))
    except DecodeError:
        return
    assert isinstance(got, RelayUpdate)
    assert not signed_by(public_key_of(got.controller), got.signature, got.signed_part())


@settings(max_examples=EXAMPLES)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_carriage_grant_with_any_byte_changed_proves_nothing(at: int, flip: int) -> None:
    from peertap._core import StaticSecret

    source = StaticMembership("lab", StaticSecret(b"l" * 32))
    carriage = source.carriage(identity("relay").peer_id, NOW_UNIX + 1000, NOW_UNIX)
    assert carriage is not None
    data = bytearray(carriage.emit())
    data[at % len(data)] ^= flip
    try:
        got = Carriage.parse_untrusted(bytes(data))
    except DecodeError:
        return
    assert got.relay != carriage.relay or checked_carriage(got, NOW_UNIX) is None or got == carriage


def test_an_update_of_more_changes_than_allowed_is_refused() -> None:
    most = tuple(Change(Verdict.ALLOW, f"{number:x}*") for number in range(MAX_CHANGES))
    assert control.parse_untrusted(control.emit(genuine(*most))) == genuine(*most)
    with pytest.raises(DecodeError, match="at most 256"):
        control.parse_untrusted(control.emit(genuine(*most, Change(Verdict.DENY, "ff"))))


@pytest.mark.parametrize("pattern", ["", "AB", "[0-9]", "?", "g", "0 ", "0" * 65, "ä"])
def test_a_pattern_of_anything_else_is_refused(pattern: str) -> None:
    update = RelayUpdate(identity("r").peer_id, identity("c").peer_id, 1, (Change(Verdict.ALLOW, pattern),), bytes(64))
    with pytest.raises(DecodeError):
        control.parse_untrusted(control.emit(update))


@settings(max_examples=EXAMPLES)
@given(
    st.lists(rules, max_size=12),
    st.sampled_from(Mode),
    st.lists(patterns, max_size=3).map(tuple),
    exactly(16).map(VlanId),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_rules_came_never_matters_and_the_closest_decides(
    what: list[Change], mode: Mode, listed: tuple[str, ...], vlan: VlanId, chance: object
) -> None:
    unique = list({rule.pattern: rule for rule in what}.values())
    first = RelayPolicy(mode, listed)
    first.change(unique)
    chance.shuffle(unique)  # type: ignore[attr-defined]
    second = RelayPolicy(mode, listed)
    second.change(unique)
    assert first.serves(vlan) == second.serves(vlan)
    matching = [rule for rule in unique if fnmatchcase(vlan.hex(), rule.pattern)]
    if matching:
        most = max(len(rule.pattern.replace("*", "")) for rule in matching)
        closest = [rule for rule in matching if len(rule.pattern.replace("*", "")) == most]
        assert first.serves(vlan) == all(rule.verdict is Verdict.ALLOW for rule in closest)
    else:
        plain = RelayPolicy(mode, listed)
        assert first.serves(vlan) == plain.serves(vlan)


@settings(max_examples=EXAMPLES)
@given(exactly(16).map(VlanId), st.integers(1, 32), st.sampled_from(Mode))
def test_forgetting_a_rule_leaves_no_trace(vlan: VlanId, digits: int, mode: Mode) -> None:
    policy = RelayPolicy(mode)
    before = policy.serves(vlan), policy.relays, policy.wants_grants
    pattern = vlan.hex()[:digits] + "*"
    policy.change([Change(Verdict.ALLOW, pattern)])
    assert policy.serves(vlan)
    policy.change([Change(Verdict.DENY, pattern)])
    assert not policy.serves(vlan)
    policy.change([Change(Verdict.FORGET, pattern)])
    assert (policy.serves(vlan), policy.relays, policy.wants_grants) == before
