"""Who is seen, who is gone, and what nobody can say in another's place (SPEC 11)."""

from dataclasses import replace
from itertools import pairwise

import pytest

from peertap.mesh import presence
from peertap.types import VlanId
from peertap.wire.codec import Reader
from peertap.wire.presence import Link, LinkDown, Presence, SignedLinkDown, SignedPresence
from tests.support.identities import identity
from tests.support.presence import UNIX, Town

SEEN_S = 5.0  # the issue's own bounds
GONE_S = 15.0


def ring(names: str = "abcdef") -> Town:
    town = Town()
    for name in names:
        town.start(name)
    for one, other in zip(names, names[1:] + names[0], strict=True):
        town.link(one, other)
    town.run(SEEN_S)
    return town


def said(town: Town, author: str, **changes: object) -> SignedPresence:
    """What a node says now, or somebody who has its key."""
    fields: dict[str, object] = {"sequence": int((UNIX + town.now) * 1000), "lifetime_s": 1500, "relays": True}
    own = town.identities[author]
    return SignedPresence.sign(own.peer_id, own.sign, Presence(**(fields | changes)))  # type: ignore[arg-type]


def trunk_between(town: Town, a: str, b: str) -> int:
    return next(number for number, ends in town.trunks.items() if set(ends) == {a, b})


def test_every_relay_is_seen_within_five_seconds_and_a_newcomer_too() -> None:
    town = ring()
    assert all(town.seen(name) == set("abcdef") - {name} for name in town.nodes)
    town.start("g")
    town.link("g", "c")
    town.run(SEEN_S)
    assert all("g" in town.seen(name) for name in "abcdef")
    assert town.seen("g") == set("abcdef")
    assert not town.refused


def test_a_node_that_dies_is_gone_within_fifteen_seconds() -> None:
    town = ring()
    town.kill("d")
    town.run(GONE_S)
    assert all(town.seen(name) == set("abcef") - {name} for name in town.nodes)


def test_a_node_that_goes_down_is_gone_at_once() -> None:
    town = ring()
    town.nodes["d"].leave(town.unix("d"))
    for number, message in list(town.nodes["d"].take(town.now)):
        town.send(number, "d", message)
    town.run(2.0)
    assert all("d" not in town.seen(name) for name in "abcef")


def test_beyond_a_cut_everybody_is_gone_and_back_when_it_is_mended() -> None:
    town = ring()
    for a, b in (("c", "d"), ("f", "a")):
        town.cut(trunk_between(town, a, b))  # type: ignore[arg-type]
    town.run(GONE_S)
    assert town.seen("a") == {"b", "c"}
    assert town.seen("e") == {"d", "f"}
    town.link("c", "d")
    town.run(SEEN_S)
    assert all(town.seen(name) == set("abcdef") - {name} for name in town.nodes)


def test_a_node_that_starts_anew_is_seen_though_its_neighbours_said_it_was_gone() -> None:
    town = ring()
    town.kill("d")
    town.run(GONE_S)
    town.start("d")
    town.link("d", "c")
    town.run(SEEN_S)
    assert all("d" in town.seen(name) for name in "abcef")


def test_nothing_is_said_while_nothing_changes_until_it_is_time_to_refresh() -> None:
    town = ring()
    town.run(30.0)
    before = len(town.said)
    town.run(480.0)
    assert len(town.said) == before
    town.run(200.0)
    authors = {message.author for _, _, _, message in town.said[before:]}
    assert authors == {town.peer(name) for name in town.nodes}
    assert all(town.seen(name) == set("abcdef") - {name} for name in town.nodes)


def test_a_message_passes_each_trunk_at_most_once_each_way() -> None:
    town = ring()
    passed = [(source, to, message.author, message.said.sequence) for _, source, to, message in town.said]
    assert len(passed) == len(set(passed))


def test_who_relays_for_nobody_is_known_to_neighbours_alone() -> None:
    town = ring("abc")
    town.start("x", is_leaf=True)
    town.start("y", is_leaf=True)
    town.link("x", "a")
    town.link("y", "a")
    town.link("x", "y")
    town.run(SEEN_S)
    assert town.seen("a") == {"b", "c", "x", "y"}
    assert town.seen("b") == {"a", "c"}
    assert town.seen("x") == {"a", "b", "c", "y"}
    named = {
        link.peer for *_, message in town.said if isinstance(message, SignedPresence) for link in message.said.links
    }
    assert named == {town.peer(name) for name in "abc"}
    assert not town.refused


def test_users_hear_of_a_few_relays_and_when_one_is_gone() -> None:
    town = Town()
    names = [f"r{number}" for number in range(50)]
    for name in names:
        town.start(name)
    for one, other in pairwise(names):
        town.link(one, other)
    town.start("x", is_leaf=True)
    town.link("x", "r0")
    town.run(30.0)
    known = town.seen("x")
    assert len(known) == presence.MAX_TOLD + 1  # and its neighbour
    assert {f"r{number}" for number in range(presence.NEAREST_TOLD)} <= known
    town.kill("r5")
    town.run(GONE_S)
    assert town.seen("x") == {f"r{number}" for number in range(5)}


def test_a_relay_that_relays_no_more_is_gone_but_for_its_neighbours() -> None:
    town = ring()
    town.nodes["d"].describe(Presence(0, 0), town.now, town.unix("d"))
    for number, (a, b) in town.trunks.items():
        if "d" in (a, b):
            other = a if b == "d" else b
            town.nodes[other].add_neighbour(number, town.peer("d"), town.now, town.unix(other), relays=False)
    town.run(SEEN_S)
    assert "d" in town.seen("c")
    assert not town.nodes["c"].seen(town.unix("c"))[town.peer("d")].presence.relays
    assert all("d" not in town.seen(name) for name in "abf")
    assert not town.refused


def test_what_a_node_says_of_itself_arrives() -> None:
    town = ring("abc")
    own = Presence(
        0, 0, relays=True, is_busy=True, load=200, vlans=(VlanId(b"v" * 16),), addresses=("/ip4/10.0.0.1/tcp/1",)
    )
    town.nodes["a"].load = 200
    town.nodes["a"].describe(own, town.now, town.unix("a"))
    town.run(SEEN_S)
    found = town.nodes["c"].seen(town.unix("c"))[town.peer("a")].presence
    assert replace(found, sequence=0, lifetime_s=0, links=()) == own


def test_a_load_that_changes_is_not_worth_a_word() -> None:
    town = ring("abc")
    before = len(town.said)
    for load in range(100):
        town.nodes["a"].load = load
        town.nodes["a"].describe(Presence(0, 0, relays=True), town.now, town.unix("a"))
    town.run(60.0)
    assert len(town.said) == before


def test_nothing_forged_stale_or_replayed_changes_what_is_seen() -> None:
    town = ring()
    old = next(message for *_, message in town.said if message.author == town.peer("d"))
    town.run(700.0)
    before = {name: town.nodes[name].seen(town.unix(name)) for name in town.nodes}
    genuine = said(town, "d")
    renamed = genuine.envelope.replace(town.peer("d")[2:], town.peer("e")[2:])
    forged = SignedPresence.read(Reader(renamed, "a presence under another name"))
    later = replace(genuine.said, sequence=genuine.said.sequence + 9)
    down = LinkDown(town.peer("d"), before["b"][town.peer("d")].presence.sequence)
    liar = town.identities["a"]
    for message in (
        old,
        forged,
        SignedPresence.sign(town.peer("d"), liar.sign, later),
        said(town, "d", sequence=int((UNIX + town.now + 4000) * 1000)),
        said(town, "d", sequence=int((UNIX + town.now - 4000) * 1000)),
        SignedLinkDown.sign(town.peer("c"), liar.sign, down),
        SignedLinkDown.sign(town.peer("c"), town.identities["c"].sign, LinkDown(town.peer("d"), 1)),
        SignedLinkDown.sign(liar.peer_id, liar.sign, down),
    ):
        town.send(trunk_between(town, "a", "b"), "a", message)  # type: ignore[arg-type]
    town.run(3.0)
    assert {name: town.nodes[name].seen(town.unix(name)) for name in town.nodes} == before
    assert sorted(why for at, source, why in town.refused) == ["ahead of our clock", "forged", "forged", "forged"]
    assert {(at, source) for at, source, _ in town.refused} == {("b", "a")}


def test_nobody_makes_us_say_a_later_sequence_by_a_forged_presence_of_ours() -> None:
    town = ring()
    liar, victim = town.identities["a"], town.peer("b")
    ahead = said(town, "b", sequence=int((UNIX + town.now + 3000) * 1000)).said
    town.send(trunk_between(town, "a", "b"), "a", SignedPresence.sign(victim, liar.sign, ahead))  # type: ignore[arg-type]
    town.run(SEEN_S)
    assert town.nodes["b"]._sequence < ahead.sequence
    assert ("b", "a", "forged") in town.refused


def test_one_liar_makes_nobody_vanish() -> None:
    town = ring()
    town.link("a", "d")
    town.run(SEEN_S)
    sequence = town.nodes["b"].seen(town.unix("b"))[town.peer("d")].presence.sequence
    own = town.identities["a"]
    lie = SignedLinkDown.sign(own.peer_id, own.sign, LinkDown(town.peer("d"), sequence))
    town.send(trunk_between(town, "a", "b"), "a", lie)  # type: ignore[arg-type]
    town.run(3.0)
    assert all("d" in town.seen(name) for name in "bcef")


def test_a_dead_node_cannot_be_brought_back_by_its_old_words() -> None:
    town = ring()
    last = [message for *_, message in town.said if message.author == town.peer("d")][-1]
    town.kill("d")
    town.run(GONE_S)
    town.start("b")  # has forgotten everything, and hears the old words from a liar first
    for number in [number for number, ends in town.trunks.items() if "b" in ends]:
        town.cut(number, after_s=0.0)
    town.run(1.0)
    number = town.link("a", "b")
    town.send(number, "a", last)
    town.link("b", "c")
    town.run(GONE_S)
    assert all("d" not in town.seen(name) for name in town.nodes)


def test_who_is_named_as_a_neighbour_and_is_none_says_so() -> None:
    town = ring()
    own = town.identities["d"]
    town.kill("d")
    late = SignedPresence.sign(
        own.peer_id, own.sign,
        Presence(int((UNIX + town.now) * 1000) + 50, 1500, relays=True, links=(Link(town.peer("c"), None),)),
    )  # fmt: skip
    town.later(8.0, lambda: town.send(trunk_between(town, "a", "b"), "a", late))  # type: ignore[arg-type]
    town.run(8.0 + GONE_S)
    assert all("d" not in town.seen(name) for name in town.nodes)


def test_a_node_whose_clock_was_set_back_is_heard_again() -> None:
    town = ring("abc")
    town.skew["a"] = 600.0
    town.start("a")
    for number in [number for number, ends in town.trunks.items() if "a" in ends]:
        town.cut(number, after_s=0.0)
    town.run(1.0)
    town.link("a", "b")
    town.run(SEEN_S)
    town.skew["a"] = 0.0
    town.kill("a")
    town.run(GONE_S)
    town.start("a")
    town.link("a", "b")
    town.run(2 * SEEN_S)
    assert town.seen("c") == {"a", "b"}


def test_one_neighbour_cannot_fill_the_table_with_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_KNOWN_BY_TRUNK", 50)
    town = ring("ab")
    number, before = trunk_between(town, "a", "b"), len(town.nodes["b"]._known)
    for count in range(80):
        own = identity(f"stranger {count}")
        stranger = SignedPresence.sign(own.peer_id, own.sign, said(town, "a").said)
        why = town.nodes["b"].received_untrusted(number, stranger, town.now, town.unix("b"))  # type: ignore[arg-type]
        assert why == (None if count < 50 - before else "too many")
    assert len(town.nodes["b"]._known) == 50


def test_a_flood_of_strangers_costs_bounded_checks_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    town = ring("ab")
    number = trunk_between(town, "a", "b")
    checks = []
    right = SignedPresence.is_signed
    monkeypatch.setattr(SignedPresence, "is_signed", lambda self: bool(checks.append(1)) or right(self))
    for count in range(3000):
        forged = SignedPresence.sign(identity(f"stranger {count}").peer_id, lambda _: bytes(64), said(town, "a").said)
        why = town.nodes["b"].received_untrusted(number, forged, town.now, town.unix("b"))  # type: ignore[arg-type]
        assert why in {"forged", "too often"}
    assert len(checks) <= presence.MAX_CHECKS + 1
    assert len(town.nodes["b"]._known) <= presence.MAX_KNOWN


def test_an_author_that_says_something_new_without_end_is_passed_on_a_few_times_only() -> None:
    town = ring("abc")
    before = len([1 for _, source, to, _ in town.said if (source, to) == ("b", "c")])
    for count in range(200):
        town.send(
            trunk_between(town, "a", "b"), "a",  # type: ignore[arg-type]
            said(town, "a", sequence=int((UNIX + town.now) * 1000) + 1000 + count, load=count),
        )  # fmt: skip
    town.run(3.0)
    after = len([1 for _, source, to, _ in town.said if (source, to) == ("b", "c")])
    assert after - before <= presence.MAX_SAYINGS + 2
    assert ("b", "a", "its author says too much") in town.refused


def test_who_says_nothing_for_a_lifetime_is_not_seen_though_its_trunk_stays() -> None:
    town = ring("abc")
    del town.nodes["c"]
    for _ in range(26):
        town.run(60.0)
        for name in "ab":
            town.nodes[name].expire(town.unix(name))
    town.run(1.0)
    assert (town.seen("a"), town.seen("b")) == ({"b"}, {"a"})


def test_what_is_long_over_is_forgotten() -> None:
    town = ring("abc")
    town.kill("c")
    town.run(2400.0)
    for name in "ab":
        town.nodes[name].expire(town.unix(name))
        assert town.peer("c") not in town.nodes[name]._known
        assert town.seen(name) == set("ab") - {name}
