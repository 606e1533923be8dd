"""Whole nodes beside a neighbour, relay or member that means harm: it loses its trunk at most, the others go on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from peertap.mesh import tree
from peertap.mesh.policy import Mode
from peertap.node import compile as compile_tables
from peertap.node import labels
from peertap.node.compile import Compiler
from peertap.node.events import IntroReceived, MessageReceived, TimePassed, TrunkClosed
from peertap.node.node import TABLES_AT_ONCE, TABLES_PACE_S
from peertap.node.trunk import MAX_POLICIES
from peertap.types import Token, TrunkId, VlanIndex
from peertap.vlan import introductions
from peertap.wire.control import (
    Bind,
    Bound,
    Close,
    Endpoints,
    Grant,
    Indexes,
    Join,
    Joined,
    Leave,
    Message,
    Ping,
    Policy,
    Pong,
    Rekey,
    RekeyStep,
    Routes,
    RoutesAck,
    SequenceRequest,
    Unbind,
)
from peertap.wire.routes import KIND_TREE, KIND_UNICAST, Origin, SignedRoute
from tests.support.hostile import FAR_EXPIRY, Neighbour, Signer, assert_works, hostile, line, tokens, vlan
from tests.support.mesh import NOW_UNIX, SimMesh, SimNode

LAST_START = 2**48 - 1
SMALL = Origin(0, 1, bytes(9))


# Adverts


def test_an_unsigned_advert_with_the_last_possible_start_ends_no_node_and_uses_up_no_outbid() -> None:
    mesh = line()
    a = mesh.nodes["a"]
    x = hostile(mesh, "a")
    mine = next(one for one in x.routes() if one.kind == KIND_UNICAST and one.token == vlan(a).newest.token)
    before = vlan(a).newest.origin
    for start_ms in (LAST_START, mine.origin.start_ms + 1):
        origin = Origin(0, start_ms, bytes(9))
        x.announce([SignedRoute(mine.public, KIND_UNICAST, mine.token, origin, 1, FAR_EXPIRY, bytes(64))])
    mesh.run(2)
    assert vlan(a).newest.origin == before
    assert not vlan(a).newest.outbid
    assert a.node.routes.owns((vlan(a).newest.vtag, vlan(a).newest.token))
    assert_works(mesh, "a", "b")
    member = Signer(node=mesh.nodes["b"])
    later = Origin(128, int((NOW_UNIX + mesh.now) * 1000) + 1000, bytes(9))
    x.announce([member.route(vlan(a).newest.token, later)])
    mesh.run(2)
    assert vlan(a).newest.outbid, "what a member signs is outbid, once"
    assert vlan(a).newest.origin.start_ms == later.start_ms + 1
    assert_works(mesh, "a", "b")


def test_a_member_that_signs_the_last_possible_start_for_anothers_token_ends_nothing() -> None:
    mesh = line()
    a, member = mesh.nodes["a"], Signer(node=mesh.nodes["b"])
    x = hostile(mesh, "a")
    x.announce([member.route(vlan(a).newest.token, Origin(0, LAST_START, b"z" * 9))])
    mesh.run(2)
    assert not vlan(a).newest.outbid
    assert_works(mesh, "a", "b")


def test_a_token_is_outbid_once_however_often_it_is_claimed() -> None:
    mesh = line()
    a, member = mesh.nodes["a"], Signer(node=mesh.nodes["b"])
    x, starts = hostile(mesh, "a"), set()
    for _ in range(20):
        x.announce([member.route(vlan(a).newest.token, Origin(128, vlan(a).newest.origin.start_ms + 1, b"z" * 9))])
        mesh.run(0.2)
        starts.add(vlan(a).newest.origin.start_ms)
    assert len(starts) == 1


@pytest.mark.parametrize("victim", ["a", "b"])
def test_a_member_that_announces_a_tree_under_another_token_is_not_root_of_a_member(victim: str) -> None:
    mesh = line()
    node, member = mesh.nodes[victim], Signer(node=mesh.nodes["b"])
    before = node.node.trees.root_of(vlan(node).newest.vtag)
    x = hostile(mesh, victim)
    x.announce([member.route(bytes([1]) * 16, SMALL, kind=KIND_TREE)])
    x.announce(
        [
            member.route(vlan(node).newest.token, SMALL, kind=KIND_TREE),
            member.route(vlan(node).newest.tree_token, SMALL),
        ]
    )
    for kind in (0, 2, 4, 255):
        x.announce([member.route(bytes([kind]) * 16, SMALL, kind=kind)])
    mesh.run(3)
    assert node.node.trees.root_of(vlan(node).newest.vtag) == before
    assert_works(mesh, "a", "b")


def test_a_member_that_announces_a_tree_under_another_token_takes_no_relay_off_the_tree() -> None:
    mesh = line()
    member = Signer(node=mesh.nodes["b"])
    x = hostile(mesh, "r")
    x.announce([member.route(bytes([1]) * 16, SMALL, kind=KIND_TREE)])
    mesh.run(5)
    assert_works(mesh, "a", "b")


# Requests


def own_sequence(node: SimNode) -> int:
    selected = node.node.routes.selected((vlan(node).newest.vtag, vlan(node).newest.token))
    assert selected is not None
    return int(selected.advert.route.sequence)


def test_500_sequence_requests_step_the_sequence_at_most_once_in_half_a_second() -> None:
    mesh = line()
    a = mesh.nodes["a"]
    x = hostile(mesh, "a")
    mesh.run(3)
    before, names = own_sequence(a), vlan(a).newest
    for number in range(500):
        x.say(SequenceRequest(names.vtag, names.token, names.origin, (before + 1 + number) % 2**32, 32))
    mesh.run(0.4)
    assert own_sequence(a) == before + 1
    for jump in (2, 3, 1000, 2**31 - 1, 2**31):
        mesh.run(1)
        x.say(SequenceRequest(names.vtag, names.token, names.origin, (before + 1 + jump) % 2**32, 32))
    mesh.run(1)
    assert own_sequence(a) == before + 1
    assert_works(mesh, "a", "b")


@pytest.mark.parametrize("lost", [0, 1, 4])
def test_a_sequence_request_that_is_suppressed_is_repeated_until_the_route_returns(lost: int) -> None:
    """a — r ═ b directly, and a longer way r — s — t — b that is not feasible when the direct one goes."""
    mesh = SimMesh()
    mesh.add("a", "lab")
    mesh.add("b", "lab")
    for name in "rst":
        mesh.add(name, mode=Mode.OPEN)
    mesh.link("a", "r")
    direct = mesh.link("r", "b", 0.001)
    way = [mesh.link("r", "s", 0.05), mesh.link("s", "t", 0.05), mesh.link("t", "b", 0.05)]
    mesh.run(15)
    asked: list[float] = []

    def drop(source: SimNode, message: Message) -> bool:
        if not isinstance(message, SequenceRequest) or message.token != vlan(mesh.nodes["b"]).newest.token:
            return False
        asked.append(mesh.now)
        return len(asked) <= lost

    for link in way:
        link.drops = drop
    direct.close("cut")
    mesh.run(1 if not lost else 10)
    assert len(asked) > lost, "the case needs a request"
    assert_works(mesh, "a", "b")


# Hellos


def intros(node: SimNode, evil: introductions.Introductions, message: Any) -> None:
    """An introduction of an evil member reaches the node's data plane."""
    for intro in evil._to_group(message):
        node.post(IntroReceived(VlanIndex(1), vlan(node).newest.group_token, intro.nonce, intro.sealed))


@pytest.mark.parametrize("field", [{"generation": 2**32 - 1}, {"floor": 2**63}, {"floor": 2**64 - 1}], ids=str)
def test_a_hello_with_impossible_numbers_is_counted_and_ends_nothing(field: dict[str, int]) -> None:
    from dataclasses import replace

    mesh = line()
    a, evil = mesh.nodes["a"], vlan(mesh.add("evil", "lab")).introductions
    hello = replace(evil._hello(mesh.now), **field)  # type: ignore[arg-type]
    hello = replace(hello, signature=evil._identity.sign(hello.PREFIX + hello.unsigned()))
    before = vlan(a).introductions.rejected
    intros(a, evil, hello)
    assert vlan(a).introductions.rejected == before + 1
    mesh.add("c", "lab")
    mesh.link("c", "r")
    mesh.run(3)
    assert_works(mesh, "a", "b", "c")


# Trees


def test_joins_of_an_outsider_under_1000_roots_and_groups_stay_below_the_bounds_and_end() -> None:
    mesh = line()
    relay, x, outsider = mesh.nodes["r"], hostile(mesh, "r"), Signer(b"o" * 32)
    settled = len(list(relay.node.trees.groups()))
    x.say(*(Join(outsider.join(Origin(0, number, bytes(9)), number.to_bytes(16, "big"))) for number in range(1000)))
    mesh.run(0.1)
    assert settled < len(list(relay.node.trees.groups())) <= settled + tree.MAX_WAITING_TREES
    mesh.run(tree.LINGER_S + 0.5)
    assert len(list(relay.node.trees.groups())) == settled
    x.announce([outsider.route(b"t" * 16, SMALL, kind=KIND_TREE)])
    mesh.run(0.2)
    x.say(*(Join(outsider.join(SMALL, number.to_bytes(16, "big"))) for number in range(1100)))
    mesh.run(0.1)
    assert len(list(relay.node.trees.groups())) <= settled + tree.MAX_GROUPS
    assert_works(mesh, "a", "b")


def flapping_mesh() -> tuple[SimMesh, str, list[str]]:
    """Members round two relays; the name of the root, and of its relays."""
    mesh = SimMesh(5)
    names = [f"m{number}" for number in range(4)]
    for name in names:
        mesh.add(name, "lab")
    for name in ("r0", "r1"):
        mesh.add(name, mode=Mode.OPEN)
    mesh.link("r0", "r1", 0.02)
    for number, name in enumerate(names):
        mesh.link(name, f"r{number % 2}", 0.003 + number / 50)
    mesh.run(5)
    vtag = vlan(mesh.nodes["m0"]).newest.vtag
    (root,) = [name for name in names if mesh.nodes[name].node.trees.root_of(vtag)[1] is None]  # type: ignore[index]
    return mesh, root, names


@pytest.mark.parametrize("away_s", [0.1, 0.5, 1.0, 1.5, 1.8, 1.9, 1.95, 2.0, 2.1])
def test_a_root_that_goes_and_returns_within_two_seconds_leaves_every_member_with_broadcasts(away_s: float) -> None:
    mesh, root, names = flapping_mesh()
    for _ in range(2):
        relay, link = next((one.other(mesh.nodes[root]).name, one) for one in mesh.nodes[root].trunks.values())
        link.close("flap")
        mesh.run(away_s)
        mesh.link(root, relay)
        mesh.run(6)
        assert_works(mesh, *names)


@pytest.mark.parametrize("away_s", [0.5, 1.9, 1.99, 2.01, 2.2])
def test_a_smaller_root_that_comes_and_goes_within_two_seconds_leaves_every_member_with_broadcasts(
    away_s: float,
) -> None:
    mesh, _, names = flapping_mesh()
    member, x = Signer(node=mesh.nodes["m0"]), hostile(mesh, "r0")
    token = vlan(mesh.nodes["m0"]).newest.tree_token
    for sequence in range(1, 4):
        route = member.route(token, SMALL, sequence, kind=KIND_TREE)
        x.announce([route])
        mesh.run(away_s)
        x.announce([route], metric=0xFFFF)
        mesh.run(6)
        assert_works(mesh, *names)


# Labels and hops


def announce_many(mesh: SimMesh, neighbour: Neighbour, signer: Signer, count: int, metric: int = 5) -> None:
    for first in range(0, count, 200):
        routes = [signer.route(token, SMALL) for token in tokens(count)[first : first + 200]]
        neighbour.announce(routes, metric)
    mesh.run(0.5)


def confirm_all(mesh: SimMesh, neighbour: Neighbour) -> int:
    """Says Bound to whatever is bound until nothing comes; returns how many that were."""
    done = 0
    while len(neighbour.got(Bind)) > done:
        for message in neighbour.got(Bind)[done:]:
            neighbour.say(Bound(message.label))
            done += 1
        mesh.run(TABLES_PACE_S)
    return done


def test_tokens_that_fail_over_to_another_trunk_are_bound_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_UNCONFIRMED", 20)
    monkeypatch.setattr(compile_tables, "MAX_BACKUPS", 0)  # with them nothing would be left to bind
    mesh, signer = SimMesh(), Signer(b"o" * 32)
    relay = mesh.add("r", mode=Mode.OPEN)
    one, two = hostile(mesh, "r", "x1"), hostile(mesh, "r", "x2")
    announce_many(mesh, one, signer, 100, 5)
    announce_many(mesh, two, signer, 100, 5)
    confirm_all(mesh, one)
    first, second = (one, two) if len(one.got(Bind)) >= 100 else (two, one)
    confirm_all(mesh, second)
    before = len(second.got(Bind))
    first.link.close("gone")
    mesh.run(1)
    assert 0 < len(second.got(Bind)) - before <= 20
    confirm_all(mesh, second)
    bound = {message.token for message in second.got(Bind)}
    assert bound >= set(tokens(100))
    assert len(relay.node.trunks) == 1


def test_tables_follow_a_storm_of_labels_at_their_pace_and_a_lost_trunk_at_once() -> None:
    """32 nodes on two cores healed in 11 s: each of 250 changes of a way in it made tables of its own."""
    mesh = SimMesh()
    member = vlan(mesh.add("a", "lab")).newest
    relay = mesh.add("r", mode=Mode.OPEN)
    link = mesh.link("a", "r")
    x = hostile(mesh, "r")
    mesh.run(10)
    before = relay.node._barrier.version
    for number in range(1, 201):  # two seconds
        x.say(Bind(number, member.vtag, member.token, None))
        mesh.run(0.01)
    assert relay.node._barrier.version - before <= TABLES_AT_ONCE + 2.0 / TABLES_PACE_S + 1
    mesh.run(TABLES_PACE_S)
    assert len(x.got(Bound)) == 200
    link.close("gone")
    mesh.run(0.01)
    assert len(relay.tables.trunks) == 1, "at once"


def test_a_neighbour_that_confirms_no_label_keeps_no_member_behind_another_relay_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """a — r — s — b, and beside r an outsider with many tokens of its own who never says Bound."""
    monkeypatch.setattr(labels, "MAX_UNCONFIRMED", 20)
    mesh = SimMesh()
    mesh.add("a", "lab")
    mesh.add("b", "lab")
    for name in "rs":
        mesh.add(name, mode=Mode.OPEN)
    mesh.link("r", "s")
    x = hostile(mesh, "r")
    mesh.run(2)  # round trips are measured: what is announced now keeps its metric
    announce_many(mesh, x, Signer(b"o" * 32), 100)
    mesh.run(1)
    assert len(list(mesh.nodes["s"].node.routes.in_use())) == 100
    mesh.link("a", "r")
    mesh.link("b", "s")
    mesh.run(40)
    assert_works(mesh, "a", "b")


def test_frames_never_use_a_former_hop_that_is_not_feasible_any_more() -> None:
    mesh, signer, token = SimMesh(), Signer(b"o" * 32), Token(b"t" * 16)
    relay = mesh.add("r", mode=Mode.OPEN)
    old, new, user = (hostile(mesh, "r", name) for name in ("old", "new", "user"))
    old.announce([signer.route(token, SMALL)], 16)
    mesh.run(0.2)
    confirm_all(mesh, old)
    user.say(Bind(7, signer.vtag, token, None))
    mesh.run(0.2)
    assert user.got(Bound) == [Bound(7)]
    assert [hop for one in relay.tables.labels for hop in one.out] == [(old.number, old.got(Bind)[0].label)]
    new.acknowledges = old.acknowledges = False  # nothing newer reaches the old hop: it may route by us
    mesh.run(20)
    new.announce([signer.route(token, SMALL, 2)], 1)
    mesh.run(0.2)
    selected = relay.node.routes.selected((signer.vtag, token))
    assert selected is not None
    assert selected.trunk == new.number
    assert not [hop for one in relay.tables.labels for hop in one.out if hop[0] == old.number]
    confirm_all(mesh, new)
    assert {hop[0] for one in relay.tables.labels for hop in one.out} == {new.number}


# Grants


def test_a_grant_of_a_stranger_for_anothers_tag_changes_nothing_and_ends_its_trunk() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from peertap.vlan.grants import grant_message, owner_message, vtag_message
    from peertap.vlan.names import vlan_id

    mesh = SimMesh()
    mesh.add("a", "lab")
    mesh.add("b", "lab")
    relay = mesh.add("r", mode=Mode.ALLOW)
    relay.node.policy.configure(Mode.ALLOW, (mesh.membership("lab").vlan_id.hex(),))
    mesh.link("a", "r")
    mesh.link("b", "r")
    mesh.run(2)
    assert_works(mesh, "a", "b")
    key = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    public, route_public = key.public_key().public_bytes_raw(), vlan(mesh.nodes["a"]).source.keys.route_public
    own = vlan_id((public,), 1, bytes(32))
    grant = Grant(
        (public,), 1, bytes(32), public, FAR_EXPIRY, key.sign(grant_message(own, public, FAR_EXPIRY)), route_public,
        key.sign(vtag_message(vlan(mesh.nodes["a"]).newest.vtag)), key.sign(owner_message(own)),
    )  # fmt: skip
    x = hostile(mesh, "r")
    x.say(grant)
    mesh.run(1)
    assert not x.is_up
    for name in "ab":  # both come anew, and are still carried
        for neighbour in mesh.restart(name):
            mesh.link(neighbour, name)
    mesh.run(3)
    assert_works(mesh, "a", "b")


# Time, tables


def test_endpoints_without_indexes_make_no_deadline_in_the_past() -> None:
    mesh = SimMesh()
    mesh.udp_allowed = True
    a = mesh.add("a", "lab")
    x = hostile(mesh, "a")
    a.post(MessageReceived(x.number, Endpoints(((bytes(10) + b"\xff\xff\x0a\x00\x00\x01", 5), (bytes(16), 4511)), ())))
    for _ in range(50):
        a.post(MessageReceived(x.number, Ping(1)))
        assert a.node.next_deadline() > mesh.now
        mesh.now = a.node.next_deadline()
        a.post(TimePassed())
    assert x.number in a.node.trunks


def test_a_neighbour_that_says_nothing_at_all_makes_no_deadline_in_the_past() -> None:
    mesh = SimMesh()
    mesh.udp_allowed = True
    a = mesh.add("a", "lab")
    Neighbour(mesh, "x", "a")
    for _ in range(50):
        assert a.node.next_deadline() >= mesh.now
        before = mesh.now
        mesh.run(max(a.node.next_deadline() - mesh.now, 0) + 1e-6)
        assert mesh.now > before


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts how often tables are built."""
    counter = itertools.count()
    calls = [0]
    original = Compiler.tables

    def tables(self: Compiler) -> Any:
        calls[0] = next(counter) + 1
        return original(self)

    monkeypatch.setattr(Compiler, "tables", tables)
    return lambda: calls[0]


def test_pings_and_other_messages_that_change_nothing_rebuild_no_table(compiled: Callable[[], int]) -> None:
    mesh = line()
    x = hostile(mesh, "a")
    mesh.run(1)
    a = mesh.nodes["a"].node
    before = compiled()
    nothing = [
        Ping(1),
        Pong(99),
        RoutesAck(77),
        Policy(True, False),
        Bound(77),
        Endpoints((), ()),
        SequenceRequest(vlan(mesh.nodes["a"]).newest.vtag, Token(bytes(16)), SMALL, 1, 1),
        Joined(Signer().vtag, SMALL, Token(bytes(16))),
        Leave(Signer().vtag, SMALL, Token(bytes(16))),
    ]
    for message in nothing * 20:
        a.handle(MessageReceived(x.number, message), mesh.now)
    for _ in range(20):
        a.handle(IntroReceived(VlanIndex(1), bytes(16), bytes(12), bytes(200)), mesh.now)
        a.handle(MessageReceived(TrunkId(9999), Ping(1)), mesh.now)
    assert compiled() == before


@pytest.mark.parametrize("message", [Unbind(77), Indexes(0, 1, 2), Indexes(9, 1, 2)], ids=str)
def test_unbinds_and_indexes_that_change_nothing_rebuild_no_table(
    compiled: Callable[[], int], message: Message
) -> None:
    mesh = line()
    x = hostile(mesh, "a")
    x.say(Indexes(0, 1, 2))
    mesh.run(1)
    before = compiled()
    for _ in range(20):
        mesh.nodes["a"].node.handle(MessageReceived(x.number, message), mesh.now)
    assert compiled() == before


def test_a_neighbour_that_says_its_policy_without_end_is_proven_little_and_what_it_said_last_counts() -> None:
    mesh = line()
    x = hostile(mesh, "a")
    mesh.run(1)
    a = mesh.nodes["a"].node
    for number in range(500):
        x.say(Policy(relays=True, wants_grants=True, is_leaf=number % 2 == 0))
    x.say(Policy(relays=False, wants_grants=True))
    mesh.run(0.1)
    assert 0 < len(x.got(Grant)) <= MAX_POLICIES
    mesh.run(1)
    assert len(x.got(Grant)) <= MAX_POLICIES + 3
    trunk = a.trunks[x.number]
    assert (trunk.relays, trunk.wants_grants, trunk.is_leaf) == (False, True, False)
    before = len(x.got(Grant))
    mesh.run(10)
    assert len(x.got(Grant)) == before, "nothing waits any more"
    assert_works(mesh, "a", "b")


def test_a_neighbour_that_goes_while_its_policy_waits_leaves_nothing_behind() -> None:
    mesh = line()
    x = hostile(mesh, "a")
    for _ in range(50):
        x.say(Policy(relays=True, wants_grants=True))
    mesh.run(0.1)
    x.link.close("gone")
    mesh.run(5)
    assert not mesh.nodes["a"].node._neighbours._waiting
    assert_works(mesh, "a", "b")


# Anything else


@pytest.mark.parametrize(
    "messages",
    [
        [Close(0, "bye")],
        [Rekey(RekeyStep.OFFER, b"", b"")],
        [Routes(1, ())],
        [Bind(5, Signer().vtag, Token(bytes(16)), None), Bind(5, Signer().vtag, Token(bytes(16)), None)],
        [Bind(0, Signer().vtag, Token(bytes(16)), None)],
        [RoutesAck(2**32 - 1), Bound(2**32 - 1), Unbind(2**32 - 1), Pong(2**64 - 1)],
        [Policy(False, True), Policy(True, False), Policy(False, False)],
        [Join(Signer().join(SMALL, bytes(16), 0)), Join(Signer().join(SMALL, bytes(16)))],
        [Indexes(2**32 - 1, 0, 0), Indexes(0, 2**32 - 1, 2**32 - 1)],
        [Endpoints(((b"\xff" * 16, 65_535), (bytes(16), 0)) * 16, ("nonsense",) * 16)],
    ],
    ids=lambda messages: "+".join(type(one).__name__ for one in messages),
)
@pytest.mark.parametrize("greeted", [False, True], ids=["before the policy", "after it"])
@pytest.mark.parametrize("victim", ["a", "r"])
def test_whatever_a_neighbour_says_the_others_go_on(victim: str, greeted: bool, messages: list[Message]) -> None:
    mesh = line()
    x = Neighbour(mesh, "x", victim)
    if greeted:
        x.greet()
    x.say(*messages)
    mesh.run(3)
    assert_works(mesh, "a", "b")
    mesh.nodes[victim].post(TrunkClosed(x.number, "twice"))
    mesh.nodes[victim].post(MessageReceived(x.number, Ping(1)))
