"""Over any small mesh and any order of events: at rest everybody sees exactly who can be reached by relays."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.types import VlanId
from peertap.wire import control
from peertap.wire.envelope import Envelope
from peertap.wire.presence import Link, LinkDown, Presence, SignedLinkDown, SignedPresence
from tests.support.identities import identity
from tests.support.presence import Town

EXAMPLES = 1000 if os.environ.get("PEERTAP_FULL") else 60
SETTLED_S = 60.0  # a trunk is given up after 5 s; what changed often is said 10 s later; doubts last 5 s

events = st.lists(
    st.tuples(st.sampled_from(("dies", "comes", "cuts", "links")), st.integers(0, 60), st.floats(0, 12)), max_size=14
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 7),
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=14),
    events,
    st.integers(0, 99),
)
def test_at_rest_everybody_sees_who_can_be_reached(
    relays: int, users: int, links: list[tuple[int, int]], happenings: list[tuple[str, int, float]], seed: int
) -> None:
    town = Town(seed)
    names = [f"n{number}" for number in range(relays + users)]
    for number, name in enumerate(names):
        town.start(name, is_leaf=number >= relays)

    def link(a: int, b: int) -> None:
        one, other = names[a % len(names)], names[b % len(names)]
        known = any({one, other} == set(ends) for ends in town.trunks.values())
        if one != other and not known and one in town.nodes and other in town.nodes:
            town.link(one, other)

    for a, b in links:
        link(a, b)
    for kind, number, after_s in happenings:
        town.run(after_s)
        name = names[number % len(names)]
        if kind == "dies" and name in town.nodes:
            town.kill(name)
        elif kind == "comes" and name not in town.nodes:
            town.start(name, is_leaf=name in town.leaves)
            link(number, number // 7)
        elif kind == "cuts" and town.trunks:
            town.cut(sorted(town.trunks)[number % len(town.trunks)])
        elif kind == "links":
            link(number, number // 7)
    town.run(SETTLED_S)
    for name in town.nodes:
        assert town.seen(name) == expected(town, name)
    before = len(town.said)
    town.run(100.0)
    assert len(town.said) == before
    assert not town.refused


def expected(town: Town, name: str) -> set[str]:
    """Neighbours, and what a way of relays leads to; nobody here is told of more relays than there are."""
    ways: dict[str, set[str]] = {one: set() for one in town.nodes}
    for a, b in town.trunks.values():
        ways[a].add(b)
        ways[b].add(a)
    found, ahead = set(ways[name]), [one for one in ways[name] if one not in town.leaves]
    while ahead:
        new = {one for one in ways[ahead.pop()] if one not in town.leaves} - found - {name}
        found |= new
        ahead += new
    return found


texts = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=200)
links = st.builds(
    Link,
    st.integers(0, 9).map(lambda number: identity(str(number)).peer_id),
    st.none() | st.integers(0, 65_534).map(lambda rtt: rtt * 0.0001),
)
presences = st.builds(
    Presence,
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 3600),
    relays=st.booleans(),
    wants_grants=st.booleans(),
    is_leaf=st.booleans(),
    is_full=st.booleans(),
    is_busy=st.booleans(),
    load=st.integers(0, 255),
    versions=st.lists(st.integers(0, 65_535), max_size=8).map(tuple),
    links=st.lists(links, max_size=64).map(tuple),
    vlans=st.lists(st.binary(min_size=16, max_size=16).map(VlanId), max_size=32).map(tuple),
    addresses=st.lists(texts, max_size=4).map(tuple),
)


@given(presences)
def test_a_presence_comes_through_the_wire_as_it_was_said(said: Presence) -> None:
    own = identity("a")
    message = SignedPresence.sign(own.peer_id, own.sign, said)
    read = control.parse_untrusted(control.emit(message))
    assert read == message
    assert message.is_signed()


@given(presences, st.integers(0, 1 << 16), st.integers(1, 255))
def test_any_changed_byte_is_noticed(said: Presence, at: int, by: int) -> None:
    own = identity("a")
    data = bytearray(SignedPresence.sign(own.peer_id, own.sign, said).envelope)
    data[at % len(data)] ^= by
    try:
        read = control.parse_untrusted(bytes((SignedPresence.CODE,)) + bytes(data))
    except DecodeError:
        return
    assert isinstance(read, SignedPresence)
    assert not read.is_signed()


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_decode_error(data: bytes) -> None:
    for code in (SignedPresence.CODE, SignedLinkDown.CODE):
        try:
            control.parse_untrusted(bytes((code,)) + data)
        except DecodeError:
            continue
    for parse in (Envelope.parse_untrusted, Presence.parse_untrusted, LinkDown.parse_untrusted):
        try:
            parse(data)
        except DecodeError:
            continue
