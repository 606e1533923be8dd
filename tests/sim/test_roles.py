"""Leaves: they hang on relays, nothing passes through them, and what they are told does not grow with the mesh."""

from __future__ import annotations

import itertools

import pytest

from peertap.mesh.policy import Mode
from peertap.mesh.roles import LEAF_AFTER_S, Wish
from peertap.wire.control import Bind, Bound, Join, Joined
from tests.support.hostile import Neighbour
from tests.support.mesh import SimMesh, SimNode

RELAYS = ("r0", "r1", "r2")


def mesh_of_leaves(members: int = 4, seed: int = 1, others: int = 0) -> SimMesh:
    """Three relays that know each other, and members of `lab` with a trunk to each of them; others are of `away`."""
    mesh = SimMesh(seed)
    for name in RELAYS:
        mesh.add(name, mode=Mode.OPEN)
    for a, b in itertools.combinations(RELAYS, 2):
        mesh.link(a, b)
    names = [(f"m{number}", "lab") for number in range(members)] + [(f"o{number}", "away") for number in range(others)]
    for name, label in names:
        mesh.add(name, label, role=Wish.LEAF)
        for relay in RELAYS:
            mesh.link(name, relay, 0.002 + 0.003 * mesh.random.random())
    mesh.run(10)
    return mesh


def members(mesh: SimMesh) -> list[SimNode]:
    return [node for node in mesh.nodes.values() if node.name.startswith("m")]


def all_know_each_other(mesh: SimMesh) -> bool:
    everybody = {one.identity.peer_id for one in members(mesh)}
    return all(one.knows("lab") == everybody - {one.identity.peer_id} for one in members(mesh))


def nothing_passes_through(mesh: SimMesh) -> bool:
    return all(not (entry.deliver is None or entry.out) for one in members(mesh) for entry in one.tables.labels)


def broadcasts_come_once(mesh: SimMesh) -> None:
    for source in members(mesh):
        for one in members(mesh):
            one.delivered.clear()
        source.broadcast("lab", source.name)
        mesh.run(1)
        for one in members(mesh):
            assert one.delivered == ([] if one is source else [("lab", source.name)]), f"{source.name} to {one.name}"


@pytest.mark.parametrize("seed", range(5))
def test_leaves_know_each_other_get_each_broadcast_once_and_pass_nothing_on(seed: int) -> None:
    mesh = mesh_of_leaves(seed=seed)
    assert all_know_each_other(mesh)
    assert nothing_passes_through(mesh)
    broadcasts_come_once(mesh)


@pytest.mark.parametrize("victim", RELAYS)
def test_a_relay_of_leaves_that_dies_is_gone_around_and_the_tree_forms_again(victim: str) -> None:
    mesh = mesh_of_leaves()
    for link in list(mesh.nodes[victim].trunks.values()):
        link.close("killed")
    mesh.nodes[victim].is_dead = True
    mesh.run(3)
    assert nothing_passes_through(mesh)
    broadcasts_come_once(mesh)
    a, b = members(mesh)[:2]
    assert a.unicast("lab", b.vlan("lab").mac, "still there")  # type: ignore[attr-defined]
    mesh.run(1)
    assert b.delivered[-1] == ("lab", "still there")


def test_a_leaf_is_told_of_its_own_vlan_alone() -> None:
    small, large = mesh_of_leaves(others=0), mesh_of_leaves(others=12)
    known = [len(list(mesh.nodes["m0"].node.routes.in_use())) for mesh in (small, large)]
    assert known == [5, 5]  # four members and the tree
    assert len(list(large.nodes["r0"].node.routes.in_use())) == 4 + 12 + 2


def test_a_transit_member_is_root_rather_than_a_leaf_that_was_there_before() -> None:
    mesh = mesh_of_leaves()
    mesh.add("t", "lab", role=Wish.TRANSIT)
    mesh.link("t", "r0")
    mesh.run(5)
    names = mesh.nodes["t"].vlan("lab").newest  # type: ignore[attr-defined]
    root, parent = mesh.nodes["t"].node.trees.root_of(names.vtag)
    assert (root, parent) == (names.tree_origin, None)


def test_a_node_becomes_a_leaf_when_three_relays_are_there_for_a_while_and_transit_again_when_they_are_gone() -> None:
    mesh = SimMesh(3)
    for name in RELAYS:
        mesh.add(name, mode=Mode.OPEN)
    for a, b in itertools.combinations(RELAYS, 2):
        mesh.link(a, b)
    for name in ("m0", "m1", "m2"):
        mesh.add(name, "lab")
        for relay in RELAYS:
            mesh.link(name, relay)
    mesh.run(LEAF_AFTER_S - 5)
    assert not any(one.node.is_leaf for one in members(mesh))
    mesh.run(15)
    assert all(one.node.is_leaf for one in members(mesh))
    assert all_know_each_other(mesh)
    broadcasts_come_once(mesh)
    mesh.link("m0", "m1")
    for name in RELAYS[1:]:
        for link in list(mesh.nodes[name].trunks.values()):
            link.close("killed")
    mesh.run(10)
    assert not any(one.node.is_leaf for one in members(mesh))
    broadcasts_come_once(mesh)


def test_a_leaf_that_is_root_where_nobody_else_is_stands_where_others_are() -> None:
    mesh = SimMesh(1)
    for name in ("r0", "r1"):  # two relays that do not know each other
        mesh.add(name, mode=Mode.OPEN)
    mesh.add("m0", "lab", role=Wish.LEAF)
    mesh.link("m0", "r0", 0.001)
    mesh.link("m0", "r1", 0.02)
    mesh.run(1)
    mesh.add("m1", "lab", role=Wish.LEAF)
    mesh.link("m1", "r1")
    mesh.run(6)
    assert all_know_each_other(mesh)
    broadcasts_come_once(mesh)


@pytest.mark.parametrize("victim", ["m0", "m1"], ids=["root", "no root"])
def test_a_relay_that_joins_at_a_leaf_gets_nothing_passed_on(victim: str) -> None:
    mesh = mesh_of_leaves()
    leaf = mesh.nodes[victim]
    names = leaf.vlan("lab").newest  # type: ignore[attr-defined]
    root, _ = leaf.node.trees.root_of(names.vtag)
    relay = Neighbour(mesh, "x", victim)
    relay.greet()
    relay.say(Join(names.join(root, mesh.now + 1_800_000_000)))
    mesh.run(0.1)
    relay.say(*(Bound(bind.label) for bind in relay.got(Bind)), Bind(1, names.vtag, names.group_token, root))
    mesh.run(0.1)
    broadcasts_come_once(mesh)
    assert nothing_passes_through(mesh)
    assert (relay.got(Joined), relay.packets) == ([], 0)
