"""Whole nodes see each other, choose relays and leave them (SPEC 11)."""

from peertap.mesh.policy import Mode
from peertap.mesh.roles import Wish
from peertap.node.actions import Action, Choose
from peertap.node.events import LoadMeasured, StopAsked
from peertap.wire.control import Policy
from peertap.wire.presence import Presence, SignedPresence
from tests.support.hostile import Neighbour
from tests.support.identities import identity
from tests.support.mesh import SimMesh, SimNode


def chain(relays: int = 4) -> SimMesh:
    """a member at each end of a chain of relays."""
    mesh = SimMesh()
    names = [f"r{number}" for number in range(relays)]
    for name in names:
        mesh.add(name, mode=Mode.OPEN)
    mesh.add("a", "lab")
    mesh.add("b", "lab")
    for one, other in zip(["a", *names], [*names, "b"], strict=True):
        mesh.link(one, other)
    mesh.run(5)
    return mesh


def seen(node: SimNode) -> set[str]:
    names = {one.identity.peer_id: name for name, one in node.mesh.nodes.items()}
    return {names[peer] for peer in node.node.presence.seen()}


def test_relays_see_all_relays_and_members_see_relays_and_neighbours() -> None:
    mesh = chain()
    assert seen(mesh.nodes["r0"]) == {"a", "r1", "r2", "r3"}
    assert seen(mesh.nodes["r2"]) == {"r0", "r1", "r3"}
    assert seen(mesh.nodes["a"]) == {"r0", "r1", "r2", "r3"}
    hops = {one.hops for one in mesh.nodes["r0"].node.presence.seen().values()}
    assert hops == {1, 2, 3}


def test_a_node_that_stops_is_gone_at_once_for_all() -> None:
    mesh = chain()
    mesh.nodes["r1"].post(StopAsked())
    mesh.run(2)
    assert seen(mesh.nodes["r3"]) == {"r2", "b"}


def test_a_member_stays_connected_to_relays_and_tells_the_dialler_where_they_are() -> None:
    mesh = SimMesh()
    mesh.add("r", mode=Mode.OPEN)
    a = mesh.add("a", "lab")
    asked: list[Choose] = []
    carry_out = a.carry_out

    def watch(actions: list[Action]) -> None:
        asked.extend(one for one in actions if isinstance(one, Choose))
        carry_out(actions)

    a.carry_out = watch  # type: ignore[method-assign]
    mesh.link("a", "r")
    mesh.run(10)
    peer = mesh.nodes["r"].identity.peer_id
    assert asked == [Choose({peer: ()})]
    assert a.node.relays.chosen == {peer}


def test_a_busy_relay_says_so_and_again_when_it_is_not() -> None:
    mesh = chain()
    r1, peer = mesh.nodes["r1"], mesh.nodes["r1"].identity.peer_id
    for load, is_busy in ((1.0, True), (0.7, True), (0.1, False)):
        for _ in range(12):
            r1.post(LoadMeasured(load, {}))
            mesh.run(5)
        found = mesh.nodes["r3"].node.presence.seen()[peer].presence
        assert found.is_busy == is_busy
    assert [log.fields["is_busy"] for log in r1.log if log.event == "load"] == [True, False]


def test_a_neighbour_that_forges_presences_is_named_in_the_log_and_counted() -> None:
    mesh = chain()
    r1 = mesh.nodes["r1"]
    liar = Neighbour(mesh, "liar", "r1")
    liar.say(Policy(True, False))
    now_ms = int(r1.node.now_unix * 1000)
    for count in range(5):
        gone = Presence(now_ms + 100 + count, 0, relays=True)
        liar.say(SignedPresence.sign(mesh.nodes["r3"].identity.peer_id, identity("liar").sign, gone))
    mesh.run(1)
    named = [log.fields for log in r1.log if log.event == "presence refused"]
    assert [(one["peer"], one["reason"], one["count"]) for one in named] == [
        (identity("liar").peer_id, "forged", count) for count in (1, 2, 4)
    ]
    assert r1.node.presence.refused == {"forged": 5}
    assert "r3" in seen(mesh.nodes["r0"])


def test_loss_makes_a_link_dearer_and_nothing_flaps_for_a_percent() -> None:
    mesh = chain()
    a = mesh.nodes["a"]
    trunk = next(iter(a.node.trunks.values()))
    before = trunk.cost
    a.post(LoadMeasured(0.0, {trunk.id: 0.01}))
    assert trunk.cost == before
    for _ in range(20):
        a.post(LoadMeasured(0.0, {trunk.id: 0.2}))
    assert trunk.cost >= before + 32


def test_a_stranger_beyond_the_limit_is_turned_away_and_full_nodes_say_so() -> None:
    mesh = chain()
    r1 = mesh.nodes["r1"]
    r1.node.relays._keeping.limit = 2
    assert r1.node.is_full
    mesh.add("x", role=Wish.LEAF)
    mesh.link("x", "r1")
    mesh.run(10)
    assert {trunk.peer for trunk in r1.node.trunks.values()} == {
        mesh.nodes[name].identity.peer_id for name in ("r0", "r2")
    }
    assert mesh.nodes["r3"].node.presence.seen()[r1.identity.peer_id].presence.is_full
