"""Members of which one forgot the other: both have unicast again, whoever speaks first."""

import pytest

from peertap.node.events import TimePassed
from peertap.vlan import introductions
from peertap.wire.control import Routes
from tests.support.hostile import assert_works, line, vlan
from tests.support.mesh import SimMesh


def unicast_works(mesh: SimMesh, source: str, to: str) -> bool:
    """Whether a frame arrives; where its key is not known there, the question for it follows."""
    node = mesh.nodes[to]
    node.delivered.clear()
    mesh.nodes[source].unicast("lab", vlan(node).mac, "frame")
    mesh.run(0.5)
    return ("lab", "frame") in node.delivered


@pytest.mark.parametrize("evicted", [False, True], ids=["kept", "evicted"])
@pytest.mark.parametrize("forgetful", ["a", "b", "ab"])
def test_members_of_which_one_forgot_the_other_have_unicast_again_without_a_restart(
    monkeypatch: pytest.MonkeyPatch, forgetful: str, evicted: bool
) -> None:
    if evicted:
        monkeypatch.setattr(introductions, "MAX_DEPARTED", 0)
    mesh = line()
    mesh.run(30)
    for name in forgetful:
        other = mesh.nodes["b" if name == "a" else "a"]
        vlan(mesh.nodes[name]).introductions.forget(other.identity.peer_id)
        mesh.nodes[name].post(TimePassed())
    assert not mesh.nodes[forgetful[0]].knows("lab")
    for name in "ab":
        mesh.nodes[name].broadcast("lab", "who has")
    mesh.run(3)
    for _ in range(4):
        unicast_works(mesh, "a", "b")
        unicast_works(mesh, "b", "a")
    assert_works(mesh, "a", "b")


def partitioned() -> SimMesh:
    """b heard of no route for seven minutes and forgot a; a heard of b's all the time."""
    mesh = line()
    mesh.run(30)
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    for link in list(b.trunks.values()):
        link.close("flap")
    late = mesh.link("r", "b")
    late.drops = lambda source, message: source.name == "r" and isinstance(message, Routes)
    mesh.run(420)
    assert b.node.routes.selected((vlan(b).newest.vtag, vlan(a).newest.token)) is None
    assert not b.knows("lab")
    assert a.knows("lab") == {b.identity.peer_id}
    late.close("flap")
    mesh.link("r", "b")
    mesh.run(3)
    return mesh


def test_a_member_that_forgot_another_for_minutes_has_unicast_again_after_its_first_broadcast() -> None:
    mesh = partitioned()
    mesh.nodes["a"].broadcast("lab", "who has")
    mesh.run(3)
    for _ in range(3):
        unicast_works(mesh, "a", "b")
    assert_works(mesh, "a", "b")


def test_a_member_that_forgot_another_for_minutes_has_unicast_again_when_the_other_answers_an_arp_request() -> None:
    mesh = partitioned()
    mesh.nodes["b"].broadcast("lab", "who has")
    for _ in range(20):
        if unicast_works(mesh, "a", "b"):
            break
    assert_works(mesh, "a", "b")


def test_a_member_that_forgot_another_for_minutes_has_unicast_again_within_the_longest_repeat() -> None:
    mesh = partitioned()
    mesh.run(310)
    for _ in range(3):
        unicast_works(mesh, "a", "b")
    assert_works(mesh, "a", "b")
