"""Backups in the tables of whole nodes: which there are, and what a doubt about a trunk does."""

import pytest

from peertap.mesh.policy import Mode
from peertap.node import compile as compile_tables
from peertap.node.events import PathFound, PathLost
from peertap.node.tables import MemberTable, TableSet
from peertap.types import TrunkId
from tests.support.mesh import SimMesh, SimNode

ADDRESS = ("192.0.2.7", 4511)


def square() -> SimMesh:
    """Members a and b, each with a trunk to each of two relays."""
    mesh = SimMesh()
    mesh.udp_allowed = True
    for name in "ab":
        mesh.add(name, "lab")
    for name in ("r1", "r2"):
        mesh.add(name, mode=Mode.OPEN)
        for member in "ab":
            mesh.link(member, name)
    return mesh


def member(node: SimNode) -> MemberTable:
    ((found,),) = [vlan.members for vlan in node.tables.vlans]
    return found


def in_doubt(tables: TableSet) -> set[TrunkId]:
    return {trunk.id for trunk in tables.trunks if trunk.in_doubt}


def test_a_member_with_two_relays_has_a_backup_by_the_other_one() -> None:
    mesh = square()
    mesh.run(2)
    for name in "ab":
        table = member(mesh.nodes[name])
        assert table.hop is not None and table.backup is not None
        assert {table.hop[0], table.backup[0]} == set(mesh.nodes[name].node.trunks)


def test_labels_for_backups_do_not_change_while_nothing_does() -> None:
    mesh = square()
    mesh.run(2)
    before = mesh.nodes["a"].tables
    mesh.run(60)
    assert mesh.nodes["a"].tables == before


def test_a_member_with_one_relay_has_no_backup() -> None:
    mesh = SimMesh()
    for name in "ab":
        mesh.add(name, "lab")
    mesh.add("r", mode=Mode.OPEN)
    for name in "ab":
        mesh.link(name, "r")
    mesh.run(2)
    assert member(mesh.nodes["a"]).backup is None


def test_frames_go_by_the_backup_as_soon_as_the_relay_in_use_is_gone() -> None:
    mesh = square()
    mesh.run(2)
    a = mesh.nodes["a"]
    hop, backup = member(a).hop, member(a).backup
    assert hop is not None
    a.trunks[hop[0]].close("cut")
    mesh.run(0.01)  # it is told after 5 ms; a label would take a round trip more
    assert member(a).hop == backup


def test_labels_of_routes_in_use_are_wanted_before_those_of_backups() -> None:
    mesh = SimMesh()
    for name in ("r1", "r2"):
        mesh.add(name, mode=Mode.OPEN)
    for name, to_first_s, to_second_s in (
        ("a", 0.001, 0.001),
        ("b", 0.03, 0.001),
        ("c", 0.001, 0.03),
        ("d", 0.03, 0.001),
    ):
        mesh.add(name, "lab")
        mesh.link(name, "r1", to_first_s)
        mesh.link(name, "r2", to_second_s)
    mesh.run(60)  # round trips are measured: a reaches c by r1, b and d by r2
    a = mesh.nodes["a"]
    hops = {one.token: one.hop[0] for one in a.tables.vlans[0].members if one.hop is not None}
    mixed = 0
    for trunk, wanted in a.node._compiler.wanted_labels().items():
        in_use = [hops[token] == trunk for _, token, root in wanted if root is None and token in hops]
        assert in_use == sorted(in_use, reverse=True)
        mixed += len(set(in_use)) == 2
    assert mixed


def test_a_trunk_whose_path_went_is_in_doubt_until_the_neighbour_speaks() -> None:
    mesh = square()
    mesh.run(2)
    a = mesh.nodes["a"]
    hop = member(a).hop
    assert hop is not None
    a.post(PathFound(hop[0], ADDRESS, 0.01))
    mesh.run(0.5)
    a.post(PathLost(hop[0]))
    mesh.run(0.001)
    assert in_doubt(a.tables) == {hop[0]}
    mesh.run(0.1)  # it answers the Ping by the stream
    assert not in_doubt(a.tables)


def test_a_trunk_in_doubt_whose_path_is_found_again_is_none() -> None:
    mesh = square()
    mesh.run(2)
    a = mesh.nodes["a"]
    hop = member(a).hop
    assert hop is not None
    for event in (PathFound(hop[0], ADDRESS, 0.01), PathLost(hop[0]), PathFound(hop[0], ADDRESS, 0.01)):
        a.post(event)
    mesh.run(0.001)
    assert not in_doubt(a.tables)


def test_a_relay_that_is_met_later_becomes_the_backup_though_no_route_changes() -> None:
    mesh = square()
    mesh.run(2)
    a = mesh.nodes["a"]
    hop = member(a).hop
    assert hop is not None
    other = next(number for number in a.trunks if number != hop[0])
    a.trunks[other].close("cut")
    mesh.run(1)
    assert (member(a).hop, member(a).backup) == (hop, None)
    mesh.link("a", "r1" if mesh.nodes["r2"].identity.peer_id == a.node.trunks[hop[0]].peer else "r2")
    mesh.run(1)
    assert member(a).hop == hop
    assert member(a).backup is not None


def test_a_relay_keeps_backups_for_a_bounded_number_of_tokens_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, backups in ((4096, 2), (1, 1), (0, 0)):
        monkeypatch.setattr(compile_tables, "MAX_BACKUPS", most)
        mesh = SimMesh()
        for name in "ab":
            mesh.add(name, "lab")
        for name in ("near", "r1", "r2"):
            mesh.add(name, mode=Mode.OPEN)
        mesh.link("a", "near")
        for name in ("r1", "r2"):  # near reaches b by either, and so do those two reach a by near alone
            mesh.link("near", name)
            mesh.link(name, "b")
        mesh.run(2)
        near = mesh.nodes["near"]
        assert sum(label.backup is not None for label in near.tables.labels) <= backups
        assert bool(near.tables.labels and any(label.backup for label in near.tables.labels)) == bool(backups)
