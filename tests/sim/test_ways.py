"""Several ways to a member in whole nodes: spread, doubled, and relays that swallow frames though they are alive."""

from peertap.mesh.policy import Mode
from peertap.mesh.roles import Wish
from peertap.node.events import ControlReceived, Event, TrafficSeen
from peertap.node.tables import MemberTable
from peertap.node.ways import WaySettings
from peertap.types import TrunkId
from peertap.wire.echo import Echo
from tests.support.mesh import Packet, SimMesh, SimNode

NOTICED_S = 5.0
MENDED_S = 12.0
ANSWER = 33  # SPEC 5.4


def square(ways: WaySettings | None = None, relays: int = 2, delay_s: float = 0.005) -> SimMesh:
    """Members a and b, each with a trunk to each relay."""
    mesh = SimMesh()
    for name in "ab":
        mesh.add(name, "lab").ways = ways or WaySettings()
        mesh.nodes[name].boot()
    for number in range(1, relays + 1):
        mesh.add(f"r{number}", mode=Mode.OPEN)
        for member in "ab":
            mesh.link(member, f"r{number}", delay_s)
    mesh.run(2)
    return mesh


def member(node: SimNode) -> MemberTable:
    ((found,),) = [vlan.members for vlan in node.tables.vlans]
    return found


def relay_by(mesh: SimMesh, node: SimNode, trunk: TrunkId) -> str:
    return node.trunks[trunk].other(node).name


def relays_used(mesh: SimMesh, name: str) -> list[str]:
    """By which relays a member's frames go."""
    node, table = mesh.nodes[name], member(mesh.nodes[name])
    assert table.hop is not None
    return [relay_by(mesh, node, hop[0]) for hop in (table.hop, *table.spread)]


def swallow(mesh: SimMesh, relay: str, to: str, *, ends: bool = False) -> None:
    """The relay passes no packet on to a member, or does so again; control messages come through."""
    link = next(link for link in mesh.nodes[relay].trunks.values() if link.other(mesh.nodes[relay]).name == to)
    link.swallowed_of = set() if ends else {relay}


def talk(mesh: SimMesh, seconds: float, *, both: bool = False) -> None:
    """Frames from a to b, eight flows, ten a second each; b answers where `both`."""
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    end, step = mesh.now + seconds, 0
    while mesh.now < end:
        step += 1
        for flow in range(8):
            a.unicast("lab", b.vlan("lab").mac, f"flow {flow}")  # type: ignore[attr-defined]
        if both:
            b.unicast("lab", a.vlan("lab").mac, "answer")  # type: ignore[attr-defined]
        mesh.run(0.1)
        if step % 5 == 0:
            for node in (a, b):
                node.report_traffic()


def arrive(mesh: SimMesh) -> int:
    """How many of eight flows reach b now."""
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    b.delivered.clear()
    for flow in range(8):
        a.unicast("lab", b.vlan("lab").mac, f"flow {flow}")  # type: ignore[attr-defined]
    mesh.run(0.1)
    return len(b.delivered)


def said(node: SimNode, word: str) -> int:
    return sum(word in log.event for log in node.log)


def test_a_vlan_that_is_not_named_uses_one_way() -> None:
    table = member(square().nodes["a"])
    assert (table.spread, table.duplicate) == ((), False)


def test_spreading_uses_all_relays_of_about_the_same_length_up_to_four() -> None:
    for relays, used in ((1, 1), (2, 2), (3, 3), (6, 4)):
        mesh = square(WaySettings(spread=frozenset({"lab"})), relays)
        assert len(set(relays_used(mesh, "a"))) == used


def test_a_much_longer_way_takes_no_flows() -> None:
    mesh = square(WaySettings(spread=frozenset({"lab"})))
    mesh.add("far", mode=Mode.OPEN)
    for name in "ab":
        mesh.link(name, "far", 0.3)
    mesh.run(30)
    assert "far" not in relays_used(mesh, "a")


def test_each_frame_of_a_doubled_vlan_arrives_once_and_loss_on_one_way_costs_none() -> None:
    mesh = square(WaySettings(duplicate=frozenset({"lab"})))
    b = mesh.nodes["b"]
    assert arrive(mesh) == 8
    assert b.repeated == 8
    for relay in ("r1", "r2"):
        swallow(mesh, relay, "b")
        assert arrive(mesh) == 8
        swallow(mesh, relay, "b", ends=True)


def test_a_relay_that_swallows_frames_is_left_within_five_seconds_and_named() -> None:
    for both in (False, True):
        mesh = square()
        a = mesh.nodes["a"]
        talk(mesh, 3, both=both)
        (used,) = relays_used(mesh, "a")
        swallow(mesh, used, "b")
        talk(mesh, NOTICED_S, both=both)
        assert relays_used(mesh, "a") != [used]
        assert arrive(mesh) == 8
        ((relay, again_in_s),) = a.node.end_to_end.swallows(
            a.vlan("lab").index, mesh.nodes["b"].identity.peer_id, mesh.now  # type: ignore[attr-defined]
        )  # fmt: skip
        assert relay == mesh.nodes[used].identity.peer_id and again_in_s <= 10
        assert said(a, "swallows") == 1
        (log,) = [log for log in a.log if "swallows" in log.event]
        assert log.fields["peer"] == relay != log.fields["going_by"]


def test_a_relay_that_swallows_is_left_also_where_no_other_way_is_feasible() -> None:
    mesh = SimMesh()
    for name in "ab":  # a leaf is told of every way; a transit is not, where it announces a nearer one (SPEC 6.1)
        mesh.add(name, "lab", role=Wish.LEAF)
    for name in ("near", "far1", "far2"):
        mesh.add(name, mode=Mode.OPEN)
    for one, other, delay_s in (("a", "near", 0.005), ("near", "b", 0.005), ("a", "far1", 0.05)):
        mesh.link(one, other, delay_s)
    for one, other in (("far1", "far2"), ("far2", "b")):
        mesh.link(one, other, 0.012)
    mesh.run(3)
    a = mesh.nodes["a"]
    assert (relays_used(mesh, "a"), member(a).backup) == (["near"], None)
    talk(mesh, 3)
    swallow(mesh, "near", "b")
    talk(mesh, NOTICED_S)
    assert relays_used(mesh, "a") == ["far1"]
    assert arrive(mesh) == 8
    swallow(mesh, "near", "b", ends=True)
    talk(mesh, MENDED_S)
    assert relays_used(mesh, "a") == ["near"]


def test_a_relay_that_swallows_both_ways_is_left_by_both_members() -> None:
    mesh = square()
    talk(mesh, 3, both=True)
    mesh.run(1)
    for name, to in (("r1", "a"), ("r1", "b")):
        swallow(mesh, name, to)
    talk(mesh, NOTICED_S, both=True)
    assert relays_used(mesh, "a") == relays_used(mesh, "b") == ["r2"]


def test_of_two_ways_that_share_flows_the_one_that_swallows_is_left_though_answers_come() -> None:
    mesh = square(WaySettings(spread=frozenset({"lab"})))
    talk(mesh, 3, both=True)
    swallow(mesh, "r2", "b")
    talk(mesh, NOTICED_S, both=True)
    assert relays_used(mesh, "a") == ["r1"]
    assert arrive(mesh) == 8


def test_a_relay_that_is_mended_is_used_again_and_nothing_flaps() -> None:
    mesh = square(WaySettings(spread=frozenset({"lab"})))
    a = mesh.nodes["a"]
    swallow(mesh, "r2", "b")
    talk(mesh, NOTICED_S)
    assert relays_used(mesh, "a") == ["r1"]
    swallow(mesh, "r2", "b", ends=True)
    talk(mesh, MENDED_S)
    assert set(relays_used(mesh, "a")) == {"r1", "r2"}
    talk(mesh, 30)
    assert said(a, "swallows") == said(a, "again") == 1
    assert not a.node.routes.demoted


def test_a_member_that_answers_by_no_way_demotes_nobody() -> None:
    mesh = square()
    talk(mesh, 3)
    for relay in ("r1", "r2"):
        swallow(mesh, relay, "b")
    talk(mesh, 60)
    assert not mesh.nodes["a"].node.routes.demoted
    assert not said(mesh.nodes["a"], "swallows")


def test_a_member_that_answers_some_ways_and_not_others_moves_frames_to_itself_alone() -> None:
    mesh = square()
    mesh.add("c", "lab")
    for relay in ("r1", "r2"):
        mesh.link("c", relay)
    mesh.run(3)
    a, b, c = (mesh.nodes[name] for name in "abc")
    macs = [node.vlan("lab").mac for node in (b, c)]  # type: ignore[attr-defined]

    def relay_to(mac: object) -> str:
        (table,) = [one for vlan in a.tables.vlans for one in vlan.members if one.mac == mac]
        assert table.hop is not None
        return relay_by(mesh, a, table.hop[0])

    framed, other = relay_to(macs[0]), relay_to(macs[1])
    arrived = b.arrived

    def deaf_on_one_ear(trunk: TrunkId, label: int, packet: Packet, limit: int) -> None:
        if relay_by(mesh, b, trunk) != framed:
            arrived(trunk, label, packet, limit)

    b.arrived = deaf_on_one_ear  # type: ignore[method-assign]
    for step in range(60):
        for mac in macs:
            a.unicast("lab", mac, step)
        mesh.run(0.1)
        if step % 5 == 0:
            a.report_traffic()
    assert relay_to(macs[0]) != framed
    assert relay_to(macs[1]) == other
    ((_, token),) = a.node.routes.demoted
    assert token == b.vlan("lab").newest.token  # type: ignore[attr-defined]


def test_a_relay_that_comes_back_by_another_trunk_is_still_known() -> None:
    mesh = square()
    talk(mesh, 3)
    (used,) = relays_used(mesh, "a")
    swallow(mesh, used, "b")
    talk(mesh, NOTICED_S)
    a = mesh.nodes["a"]
    link = next(link for link in a.trunks.values() if link.other(a).name == used)
    link.close("shaken off")
    mesh.run(0.5)
    mesh.link("a", used)
    talk(mesh, 2)
    assert relays_used(mesh, "a") != [used]
    ((demoted,),) = a.node.routes.demoted.values()
    assert relay_by(mesh, a, demoted) == used


def test_what_was_demoted_is_forgotten_with_the_frames() -> None:
    mesh = square()
    (used,) = relays_used(mesh, "a")
    swallow(mesh, used, "b")
    talk(mesh, NOTICED_S + 1)
    a = mesh.nodes["a"]
    assert a.node.routes.demoted
    mesh.run(1000)
    a.post(TrafficSeen(()))
    assert not a.node.routes.demoted


def test_the_only_way_is_taken_though_it_is_demoted() -> None:
    mesh = square()
    (used,) = relays_used(mesh, "a")
    swallow(mesh, used, "b")
    talk(mesh, NOTICED_S)
    a = mesh.nodes["a"]
    other = next(link for link in a.trunks.values() if link.other(a).name != used)
    other.close("cut")
    swallow(mesh, used, "b", ends=True)
    mesh.run(1)
    assert relays_used(mesh, "a") == [used]
    assert arrive(mesh) == 8


def test_a_member_that_probes_without_end_is_answered_at_a_bounded_rate() -> None:
    mesh = square()
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    talk(mesh, 1)
    index, number = b.vlan("lab").index, member(b).id  # type: ignore[attr-defined]
    answers, handle = 0, a.post

    def watched(event: Event) -> None:
        nonlocal answers
        answers += isinstance(event, ControlReceived) and event.message[0] == ANSWER
        handle(event)

    a.post = watched  # type: ignore[method-assign]
    for probe in range(1000):
        b.post(ControlReceived(index, number, Echo(False, probe, of_way=True).emit()))
    mesh.run(1)
    assert 2 <= answers <= 2 * 40  # by each of two ways


def test_routes_have_no_loop_when_next_hops_are_demoted_anywhere() -> None:
    mesh = SimMesh(seed=5)
    for name in "ab":
        mesh.add(name, "lab")
    relays = [f"r{number}" for number in range(4)]
    for name in relays:
        mesh.add(name, mode=Mode.OPEN)
    for one in relays:
        for end in ("a", "b", *(other for other in relays if other > one)):
            mesh.link(one, end)
    mesh.run(3)
    token = member(mesh.nodes["a"]).token
    for _ in range(60):
        node = mesh.nodes[mesh.random.choice(["a", *relays])]
        keys = [key for key, selected in node.node.routes.in_use() if key[1] == token and selected.trunk is not None]
        for key in keys:
            shunned = frozenset(trunk for trunk in node.trunks if mesh.random.random() < 0.4)
            node.node.fabric.demote(key, shunned, mesh.now)
            node.post(TrafficSeen(()))
        mesh.run(0.2)
        hops = {}
        for name in ("a", *relays):
            routes = mesh.nodes[name].node.routes
            for key, selected in routes.in_use():
                if key[1] == token and selected.trunk in mesh.nodes[name].trunks:
                    hops[name] = relay_by(mesh, mesh.nodes[name], selected.trunk)  # type: ignore[arg-type]
        for start in hops:
            seen, at = set(), start
            while at in hops:
                assert at not in seen, f"a loop by {seen}"
                seen.add(at)
                at = hops[at]
            assert at == "b"
