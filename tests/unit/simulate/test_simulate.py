"""The simulator as its user meets it: small meshes hold under every weather, and bad input is told where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.simulate import check, cli, topology
from tools.simulate.topology import TopologyError
from tools.simulate.world import World


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    status = cli.main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "weather", [[], ["--churn", "0.2"], ["--partition", "8"], ["--dead", "0.1"], ["--loss", "0.05", "--churn", "0.1"]]
)
def test_a_small_mesh_holds(weather: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, found = figures(capsys, "--nodes", "60", *weather)
    assert status == 0
    assert (found["loops"], found["broadcasts_doubled"], found["broadcasts_circled"]) == (0, 0, 0)
    assert found["pairs"] == found["pairs_reached"] != 0
    assert found["broadcasts_due"] == found["broadcasts_heard"] != 0
    assert found["routes_followed"] != 0


def test_lies_are_refused_where_nobody_signed_them_and_make_no_loop_among_honest_nodes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, found = figures(capsys, "--nodes", "60", "--liars", "0.2", "--churn", "0.1")
    assert status == 0
    assert found["loops"] == 0
    assert isinstance(found["refused"], int)
    assert isinstance(found["presences_refused"], int)
    assert found["refused"] > 0
    assert found["presences_refused"] > 0


def test_relays_that_are_cut_off_or_dead_are_missed_where_somebody_still_sees_them() -> None:
    plan = topology.generate(20, 10, 1, 3)
    world = World(plan, 3)
    for number in range(20):
        world.boot(number)
    world.clock.run_until(5.0)
    assert check.count_unseen(world) == 0
    world.kill(plan.transits[0], silently=True)
    assert check.count_unseen(world) > 0
    world.clock.run_until(20.0)
    assert check.count_unseen(world) == 0


def test_one_seed_is_one_mesh(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [figures(capsys, "--nodes", "40", "--churn", "0.2", "--seed", seed)[1] for seed in ("7", "7", "8")]
    for one in runs:
        del one["wall_s"], one["memory_bytes"]
    assert runs[0] == runs[1] != runs[2]


def test_what_a_leaf_holds_does_not_grow_with_the_mesh(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = []
    for nodes, vlans in (("50", "2"), ("200", "10")):  # twenty leaves in each VLAN, or fewer
        _, found = figures(capsys, "--nodes", nodes, "--vlans", vlans, "--transits", "10")
        assert isinstance(found["leaf"], dict)
        tokens.append(found["leaf"]["tokens"])
    assert tokens[1] <= tokens[0] + 1


def test_a_topology_comes_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, picture = tmp_path / "mesh.json", tmp_path / "mesh.svg"
    nodes = [{"name": "r"}, *({"name": name, "role": "leaf", "vlans": ["lab"]} for name in "abc")]
    file.write_text(json.dumps({"nodes": nodes, "links": [["a", "r", 5], ["b", "r", 10], ["c", "r", 1]]}))
    status, found = figures(capsys, "--topology", str(file), "--picture", str(picture))
    assert (status, found["pairs_reached"], found["broadcasts_heard"]) == (0, 6, 6)
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "Expecting"),
        ("[]", "no list 'nodes'"),
        ('{"nodes": [], "links": []}', "0 nodes"),
        ('{"nodes": [{}], "links": []}', "no 'name'"),
        ('{"nodes": [{"name": "a"}, {"name": "a"}], "links": []}', "two nodes have one name"),
        ('{"nodes": [{"name": "a", "role": "king"}], "links": []}', "write leaf or transit"),
        ('{"nodes": [{"name": "a"}], "links": [["a", "b", 1]]}', "is no link"),
        ('{"nodes": [{"name": "a"}], "links": [["a", "a", 1]]}', "two nodes of 0 to 10,000 ms"),
    ],
)
def test_a_file_that_describes_no_mesh_is_told_with_its_place(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mesh.json"
    file.write_text(content)
    with pytest.raises(TopologyError, match=r"mesh\.json: .*") as raised:
        topology.load(file)
    assert said in str(raised.value)
    assert cli.main(["--topology", str(file)]) == 2
