"""The way to a member, asked node by node: who says its name, how often one may ask, and what a liar can do."""

from itertools import pairwise

import pytest

from peertap.mesh.allowance import Allowance
from peertap.mesh.policy import Mode
from peertap.node.actions import PathStep, Send
from peertap.node.events import MessageReceived, PathAsked, PathFound
from peertap.node.paths import MAX_ASKED
from peertap.node.trunk import MAX_ASKS
from peertap.types import Mac, PeerId, Token, VlanIndex, VTag
from peertap.wire import control
from peertap.wire.path import MAX_PATH_HOPS, Means, PathAnswer, PathAsk
from tests.support.mesh import SimLink, SimMesh, SimNode

LAB = VlanIndex(1)


def chain(relays: int, *, named: bool = True) -> SimMesh:
    """a ─ r1 ─ r2 ─ … ─ b"""
    mesh = SimMesh()
    names = ["a", *(f"r{number}" for number in range(1, relays + 1)), "b"]
    for name in names:
        node = mesh.add(name, *(("lab",) if name in "ab" else ()), mode=Mode.NONE if name in "ab" else Mode.OPEN)
        node.node.policy.names_itself = named and name not in "ab"
    for one, other in pairwise(names):
        mesh.link(one, other)
    mesh.run(3)
    return mesh


def mac_of(node: SimNode) -> Mac:
    return node.vlan("lab").mac  # type: ignore[attr-defined, no-any-return]


def way(mesh: SimMesh, *, seconds: float = 1.0) -> list[PathStep]:
    a = mesh.nodes["a"]
    a.path.clear()
    a.post(PathAsked(1, LAB, mac_of(mesh.nodes["b"])))
    mesh.run(seconds)
    return a.path


def peer(mesh: SimMesh, name: str) -> PeerId:
    return mesh.nodes[name].identity.peer_id


def test_every_relay_of_the_way_answers_with_its_name_and_the_member_ends_it() -> None:
    mesh = chain(3)
    found = way(mesh)
    assert [step.hop for step in found] == [0, 1, 2, 3, 4]
    assert [step.node for step in found] == [*(peer(mesh, name) for name in ("a", "r1", "r2", "r3")), None]
    assert [step.end for step in found] == [PathAnswer.PASSES] * 4 + [PathAnswer.OWNS]
    assert [step.rtt_s for step in found[1:]] == [pytest.approx(0.01 * hop, abs=0.003) for hop in (1, 2, 3, 4)]
    assert [step.transport for step in found] == ["tcp"] * 4 + [None]
    assert all(step.carrier == "stream" for step in found[:4])


def test_a_relay_whose_operator_says_no_is_counted_and_not_named() -> None:
    mesh = chain(3)
    mesh.nodes["r2"].node.policy.names_itself = False
    found = way(mesh)
    assert [step.node for step in found] == [peer(mesh, "a"), peer(mesh, "r1"), None, peer(mesh, "r3"), None]
    assert found[2] == PathStep(2, None, PathAnswer.PASSES, rtt_s=found[2].rtt_s)


def test_a_neighbour_that_says_no_name_is_known_all_the_same() -> None:
    mesh = chain(1, named=False)
    assert [step.node for step in way(mesh)] == [peer(mesh, "a"), peer(mesh, "r1"), None]


def test_a_member_never_tells_its_name_to_whoever_asks() -> None:
    mesh = chain(2)
    seen: list[PathAnswer] = []
    for link in mesh.nodes["b"].trunks.values():
        link.drops = lambda source, message: bool(  # type: ignore[misc]
            isinstance(message, PathAnswer) and source is mesh.nodes["b"] and seen.append(message)
        )
    way(mesh)
    assert [answer.name for answer in seen] == [b""]


def test_a_node_that_lost_the_way_says_so() -> None:
    mesh = chain(2)
    mesh.nodes["r2"].node._paths._way = lambda _key: None  # type: ignore[assignment]  # routes follow within a message
    assert [step.end for step in way(mesh)] == [PathAnswer.PASSES, PathAnswer.PASSES, PathAnswer.LOST]


def test_the_way_up_to_a_node_that_is_deaf_is_shown() -> None:
    mesh = chain(3)
    r2, r3 = mesh.nodes["r2"], mesh.nodes["r3"]
    next(link for link in r2.trunks.values() if link.other(r2) is r3).deaf = True
    assert [step.hop for step in way(mesh, seconds=0.2)] == [0, 1, 2]


def test_why_it_is_this_way_is_told() -> None:
    mesh = chain(1)
    (first, *_) = way(mesh)
    assert first.why == "no trunk to the member itself; udp is switched off"


def test_why_udp_is_not_used_names_the_address_and_how_long() -> None:
    mesh = SimMesh()
    mesh.udp_allowed = True
    for name in "ab":
        mesh.add(name, "lab")
    link = mesh.link("a", "b")
    a = mesh.nodes["a"]
    a.post(
        MessageReceived(link.numbers["a"], control.Endpoints(((bytes(10) + b"\xff\xff\xc0\x00\x02\x07", 4511),), ()))
    )
    mesh.run(3)
    (first, *_) = way(mesh)
    assert first.why == "udp failed: no reply from 192.0.2.7:4511 in 3 s"
    assert a.node.trunks[link.numbers["a"]].choice.why(mesh.now, to_stranger=True) == "udp failed: no reply in 4 s"
    a.post(PathFound(link.numbers["a"], ("192.0.2.7", 4511), 0.01))
    assert way(mesh)[0].why == ""


def test_a_neighbour_that_asks_too_often_is_not_answered() -> None:
    mesh, link, asker = asked_by_neighbour()
    sent = answers(mesh, link, asker, [PathAsk(number, *token(mesh), 1) for number in range(100)])
    assert len(sent) == MAX_ASKS
    mesh.run(1)
    assert len(answers(mesh, link, asker, [PathAsk(1000 + number, *token(mesh), 1) for number in range(100)])) == 4


def test_a_question_about_a_vlan_that_a_relay_does_not_carry_is_not_answered() -> None:
    mesh, link, asker = asked_by_neighbour()
    mesh.nodes["r1"].node.policy.mode = Mode.RESTRICTED
    assert not answers(mesh, link, asker, [PathAsk(1, *token(mesh), 1)])


def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, link, asker = asked_by_neighbour()
    paths = mesh.nodes["r1"].node._paths
    monkeypatch.setattr(Allowance, "take", lambda *_: True)
    for number in range(3 * MAX_ASKED):
        answers(mesh, link, asker, [PathAsk(number, *token(mesh), 1)])
    assert len(paths._passed) == MAX_ASKED


def test_a_question_ends_at_the_last_hop_number() -> None:
    mesh, link, _ = asked_by_neighbour()
    sent = mesh.nodes["r1"].node.handle(
        MessageReceived(link.numbers["r1"], PathAsk(1, *token(mesh), MAX_PATH_HOPS)), mesh.now
    )
    assert not [one for one in sent if isinstance(one, Send) and isinstance(one.message, PathAsk)]


def test_an_answer_that_nobody_asked_for_or_a_second_one_goes_nowhere() -> None:
    mesh = chain(2)
    r1, r2 = mesh.nodes["r1"], mesh.nodes["r2"]
    onward = next(link for link in r1.trunks.values() if link.other(r1) is r2)
    lies = [PathAnswer(7, 2, PathAnswer.OWNS), PathAnswer(7, 2, PathAnswer.PASSES, Means.TCP)]
    for lie in lies:
        assert not passed_on(mesh, onward, lie)
    back = next(link for link in r1.trunks.values() if link is not onward)
    r1.node.handle(MessageReceived(back.numbers["r1"], PathAsk(7, *token(mesh), 1)), mesh.now)
    assert not passed_on(mesh, onward, PathAnswer(7, 1, PathAnswer.OWNS)), "it speaks for a node before it"
    assert [len(passed_on(mesh, onward, lie)) for lie in lies] == [1, 0]


def passed_on(mesh: SimMesh, link: SimLink, answer: PathAnswer) -> list[Send]:
    actions = mesh.nodes["r1"].node.handle(MessageReceived(link.numbers["r1"], answer), mesh.now)
    return [one for one in actions if isinstance(one, Send) and isinstance(one.message, PathAnswer)]


def asked_by_neighbour() -> tuple[SimMesh, SimLink, SimNode]:
    mesh = chain(2)
    a = mesh.nodes["a"]
    (link,) = a.trunks.values()
    return mesh, link, a


def token(mesh: SimMesh) -> tuple[VTag, Token]:
    """Of member b."""
    names = mesh.nodes["b"].vlan("lab").newest  # type: ignore[attr-defined]
    return names.vtag, names.token


def answers(mesh: SimMesh, link: SimLink, asker: SimNode, asks: list[PathAsk]) -> list[PathAnswer]:
    """What the relay says at once."""
    relay = link.other(asker)
    actions = [
        action for ask in asks for action in relay.node.handle(MessageReceived(link.numbers[relay.name], ask), mesh.now)
    ]
    said = [action.message for action in actions if isinstance(action, Send)]
    return [message for message in said if isinstance(message, PathAnswer)]
