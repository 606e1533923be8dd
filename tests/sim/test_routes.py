"""Routing on random meshes: no loop at any instant, and everything reachable is reached."""

import os
import random

import pytest

from peertap.types import Token
from peertap.wire.routes import KIND_TREE, Origin
from tests.support.routing import NOW_UNIX, VTAG, RouteMesh

SEEDS = range(200 if os.environ.get("PEERTAP_FULL") else 25)
TOKEN = b"t" * 16
KEY = (VTAG, Token(TOKEN))
ORIGIN = Origin(128, 1000, b"o" * 9)


def random_mesh(seed: int, nodes: int = 12) -> RouteMesh:
    mesh, chance = RouteMesh(nodes, seed), random.Random(seed)
    for node in range(1, nodes):
        mesh.connect(node, chance.randrange(node), chance.randrange(16, 60))
    for _ in range(nodes):
        a, b = chance.sample(range(nodes), 2)
        if (a, b) not in mesh.links:
            mesh.connect(a, b, chance.randrange(16, 60))
    return mesh


@pytest.mark.parametrize("seed", SEEDS)
def test_links_come_and_go_and_no_instant_has_a_loop(seed: int) -> None:
    mesh, chance = random_mesh(seed), random.Random(seed + 1)
    mesh.announce(0, TOKEN, ORIGIN)
    for _ in range(15):
        for _ in range(chance.randrange(40)):
            mesh.step()
            assert not mesh.loops(KEY)
        if chance.random() < 0.6 and mesh.links:
            mesh.cut(*chance.choice(sorted(mesh.links)))
        else:
            a, b = chance.sample(range(len(mesh.tables)), 2)
            if (a, b) not in mesh.links:
                mesh.connect(a, b, chance.randrange(16, 60))
        assert not mesh.loops(KEY)
    steps = 0
    while mesh.step():
        steps += 1
        assert not mesh.loops(KEY)
        assert steps < 100_000, "routing does not come to rest"
    there = mesh.reachable(0)
    for node in range(len(mesh.tables)):
        assert (mesh.tables[node].selected(KEY) is not None) == (node in there), f"node {node}"


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_that_take_backups_at_any_instant_run_into_no_loop(seed: int) -> None:
    mesh, chance = random_mesh(seed), random.Random(seed + 2)
    mesh.announce(0, TOKEN, ORIGIN)
    backups = 0
    for round_number in range(12):
        for _ in range(chance.randrange(60)):
            mesh.step()
            assert not mesh.loops_with_backups(KEY)
            backups += sum(bool(table.alternatives(KEY)) for table in mesh.tables)
        if round_number % 4 == 3:
            mesh.announce(0, TOKEN, ORIGIN)  # a later sequence number opens what was infeasible
        elif chance.random() < 0.4 and mesh.links:
            mesh.cut(*chance.choice(sorted(mesh.links)))
        elif chance.random() < 0.6 and mesh.links:
            mesh.set_cost(*chance.choice(sorted(mesh.links)), chance.randrange(16, 90))
        else:
            a, b = chance.sample(range(len(mesh.tables)), 2)
            if (a, b) not in mesh.links:
                mesh.connect(a, b, chance.randrange(16, 60))
        assert not mesh.loops_with_backups(KEY)
    assert backups, "no node ever had a backup"


@pytest.mark.parametrize("seed", SEEDS)
def test_of_several_roots_the_smallest_origin_wins_everywhere(seed: int) -> None:
    mesh = random_mesh(seed)
    origins = [Origin(128, 1000 + 7 * node % 5, bytes((node,)) * 9) for node in (1, 4, 7)]
    for node, origin in zip((1, 4, 7), origins, strict=True):
        mesh.announce(node, TOKEN, origin, KIND_TREE)
    while mesh.step():
        assert not mesh.loops(KEY)
    chosen = {table.selected(KEY).advert.route.origin for table in mesh.tables}  # type: ignore[union-attr]
    assert chosen == {min(origins)}


def test_of_two_owners_of_a_unicast_token_the_later_start_wins() -> None:
    mesh = random_mesh(3)
    early, late = Origin(0, 1000, b"z" * 9), Origin(255, 2000, b"a" * 9)
    mesh.announce(2, TOKEN, early)
    mesh.announce(9, TOKEN, late)
    while mesh.step():
        pass
    for node, table in enumerate(mesh.tables):
        if node not in (2, 9):
            selected = table.selected(KEY)
            assert selected is not None
            assert selected.advert.route.origin == late


def test_an_advert_with_a_wrong_signature_or_past_its_expiry_is_refused() -> None:
    from dataclasses import replace

    from peertap.mesh.routes import RouteTable
    from peertap.types import TrunkId
    from peertap.wire.control import Advert
    from tests.support.routing import signed

    table, trunk = RouteTable(), TrunkId(1)
    table.add_neighbour(trunk, cost=16, mtu=1400)
    good = signed(TOKEN, ORIGIN, 1)
    for bad in (replace(good, sequence=2), replace(good, signature=bytes(64)), replace(good, public=bytes(32))):
        table.received_untrusted(trunk, [Advert(bad, 16, 1400)], 0.0, NOW_UNIX)
    table.received_untrusted(trunk, [Advert(good, 16, 1400)], 0.0, NOW_UNIX + 2000)
    assert table.selected(KEY) is None
    assert table.refused == 4
    table.received_untrusted(trunk, [Advert(good, 16, 1400)], 0.0, NOW_UNIX)
    assert table.selected(KEY) is not None


def test_a_backup_stays_one_though_the_round_trip_behind_it_grew() -> None:
    from peertap.mesh.routes import RouteTable
    from peertap.types import TrunkId
    from peertap.wire.control import Advert
    from tests.support.routing import signed

    table, near, far = RouteTable(), TrunkId(1), TrunkId(2)
    for trunk in (near, far):
        table.add_neighbour(trunk, cost=16, mtu=1400)
    for trunk, metric in ((near, 10), (far, 12)):
        table.received_untrusted(trunk, [Advert(signed(TOKEN, ORIGIN, 1), metric, 1400)], 0.0, NOW_UNIX)
    for metric in (60, 90, 70):  # all above the 26 that this node announced
        table.received_untrusted(far, [Advert(signed(TOKEN, ORIGIN, 1), metric, 1400)], 0.0, NOW_UNIX)
        assert [one.trunk for one in table.alternatives(KEY)] == [far]
    table.received_untrusted(far, [Advert(signed(TOKEN, ORIGIN, 1), 0xFFFF, 1400)], 0.0, NOW_UNIX)
    table.received_untrusted(far, [Advert(signed(TOKEN, ORIGIN, 1), 60, 1400)], 0.0, NOW_UNIX)
    assert table.alternatives(KEY) == [], "who withdrew begins anew"
