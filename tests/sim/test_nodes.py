"""Whole nodes on a simulated network: members meet, frames arrive once, nothing crosses, all heals."""

import os

import pytest

from peertap.mesh.policy import Mode
from peertap.node import node as node_module
from peertap.node.actions import Action, Apply, Send
from peertap.node.events import PathFound, PathLost, PingAsked, StopAsked
from peertap.types import VlanIndex
from peertap.wire import control
from peertap.wire.control import Routes
from peertap.wire.routes import Origin
from tests.support.mesh import SimLink, SimMesh, SimNode

SEEDS = range(20 if os.environ.get("PEERTAP_FULL") else 4)


def line() -> SimMesh:
    mesh = SimMesh()
    mesh.add("a", "lab")
    mesh.add("r", mode=Mode.OPEN)
    mesh.add("b", "lab")
    mesh.link("a", "r")
    mesh.link("r", "b")
    return mesh


def assert_complete(mesh: SimMesh, label: str) -> None:
    """Every member knows every other, and a broadcast of each reaches every other exactly once."""
    members = list(mesh.members(label))
    for node in members:
        others = {one.identity.peer_id for one in members if one is not node}
        assert node.knows(label) == others, f"{node.name} knows {len(node.knows(label))} of {len(others)}"
    assert_heard(mesh, label)


def assert_heard(mesh: SimMesh, label: str) -> None:
    """A broadcast of each member reaches every other exactly once, and nobody else."""
    members = list(mesh.members(label))
    for node in mesh.nodes.values():
        node.delivered.clear()
    for node in members:
        node.broadcast(label, ("from", node.name))
    mesh.run(1)
    for node in members:
        expected = sorted(("from", one.name) for one in members if one is not node)
        assert sorted(content for got, content in node.delivered if got == label) == expected, node.name  # type: ignore[type-var]
    for node in mesh.nodes.values():
        if node not in members:
            assert not node.delivered, f"{node.name} is no member of {label}"


def test_members_behind_a_relay_know_each_other_within_ten_round_trips() -> None:
    mesh = line()
    mesh.run(0.2)  # a round trip from a to b is 20 ms
    assert_complete(mesh, "lab")


def test_unicast_reaches_its_member_only_and_echo_comes_back() -> None:
    mesh = line()
    mesh.run(1)
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    mac = b.vlan("lab").mac  # type: ignore[attr-defined]
    assert a.unicast("lab", mac, "hello")
    a.post(PingAsked(1, (VlanIndex(1), mac)))
    mesh.run(1)
    assert b.delivered == [("lab", "hello")]
    assert a.pings == [pytest.approx(0.02, abs=0.005)]


def test_a_relay_that_is_no_member_holds_no_key_and_its_tables_name_no_vlan() -> None:
    mesh = line()
    mesh.run(1)
    tables = mesh.nodes["r"].tables
    assert not tables.vlans
    assert tables.labels
    assert all(entry.deliver is None for entry in tables.labels)


@pytest.mark.parametrize("seed", SEEDS)
def test_lost_introductions_are_repeated_until_all_know_each_other(seed: int) -> None:
    mesh = SimMesh(seed)
    mesh.packet_loss = 0.3
    for name in "abcd":
        mesh.add(name, "lab")
    mesh.add("r", mode=Mode.OPEN)
    for name in "abcd":
        mesh.link(name, "r")
    mesh.run(20)
    mesh.packet_loss = 0.0
    mesh.run(5)
    assert_complete(mesh, "lab")


@pytest.mark.parametrize("seed", SEEDS)
def test_two_vlans_on_a_random_mesh_are_each_complete_and_nothing_crosses(seed: int) -> None:
    mesh = SimMesh(seed)
    for number in range(9):
        labels = [("red",), ("blue",), ("red", "blue")][number % 3]
        mesh.add(f"m{number}", *labels)
    for number in range(3):
        mesh.add(f"r{number}", mode=Mode.OPEN)
    mesh.link("r0", "r1")
    mesh.link("r1", "r2")
    mesh.link("r0", "r2", 0.02)
    for number in range(9):
        for relay in mesh.random.sample(range(3), 2):
            mesh.link(f"m{number}", f"r{relay}", 0.003 + number / 1000)
    mesh.run(5)
    assert_complete(mesh, "red")
    assert_complete(mesh, "blue")


@pytest.mark.parametrize("seed", SEEDS)
def test_after_the_root_is_gone_broadcasts_reach_everybody_within_two_seconds(seed: int) -> None:
    """No standby is kept (docs/decisions/0029): who knows no better one stands at once."""
    mesh = SimMesh(seed)
    names = [f"m{number}" for number in range(10)]
    for name in names:
        mesh.add(name, "lab")
    for number in range(3):
        mesh.add(f"r{number}", mode=Mode.OPEN)
    for near, far in (("r0", "r1"), ("r1", "r2"), ("r2", "r0")):
        mesh.link(near, far)
    for name in names:
        for relay in mesh.random.sample(range(3), 2):
            mesh.link(name, f"r{relay}")
    mesh.run(20)
    (root,) = {root_of(mesh.nodes[name]) for name in names}
    victim = next(name for name in names if stands_as(mesh.nodes[name], root))
    for link in set(mesh.nodes[victim].trunks.values()):
        link.close("gone")
    del mesh.nodes[victim]
    mesh.run(2)
    assert_heard(mesh, "lab")


def root_of(member: SimNode) -> Origin:
    names = member.vlan("lab").newest  # type: ignore[attr-defined]
    sending = member.node.trees.sending_group(names.vtag, names.group_token)
    assert sending is not None
    return sending[0]


def stands_as(member: SimNode, root: Origin) -> bool:
    owned = (entry.own for entry in member.node.routes._entries.values())
    return any(own is not None and own.route.origin == root for own in owned)


@pytest.mark.parametrize("victim", ["a", "r", "b"])
def test_after_a_restart_of_any_node_all_know_each_other_again(victim: str) -> None:
    mesh = line()
    mesh.run(1)
    for _ in range(3):
        for neighbour in mesh.restart(victim):
            mesh.link(neighbour, victim)
        mesh.run(3)
        assert_complete(mesh, "lab")


def test_a_restarted_member_gets_a_new_sid_and_its_former_keys_are_gone() -> None:
    mesh = line()
    mesh.run(1)
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    before = a.vlan("lab").introductions.peers[b.identity.peer_id]  # type: ignore[attr-defined]
    old_keys = {key.kid for key in before.group_receive.values()}
    for neighbour in mesh.restart("b"):
        mesh.link(neighbour, "b")
    mesh.run(3)
    after = a.vlan("lab").introductions.peers[b.identity.peer_id]  # type: ignore[attr-defined]
    assert after.sid != before.sid
    assert not old_keys & {key.kid for key in after.group_receive.values()}
    assert len(a.tables.vlans[0].members) == 1


def test_a_black_hole_is_noticed_within_five_seconds_and_another_relay_takes_over() -> None:
    mesh = SimMesh()
    mesh.add("a", "lab")
    mesh.add("b", "lab")
    for relay in ("r", "s"):
        mesh.add(relay, mode=Mode.OPEN)
        mesh.link("b", relay)
    first = mesh.link("a", "r", 0.001)
    mesh.link("a", "s", 0.010)
    mesh.run(2)
    first.deaf = True
    mesh.run(5)
    assert first.numbers["a"] not in mesh.nodes["a"].node.trunks
    mesh.run(1)
    assert_complete(mesh, "lab")


def ring_on_udp(size: int) -> tuple[SimMesh, list[SimLink]]:
    """Members in a ring, all of whose trunks have a udp path."""
    mesh = SimMesh()
    mesh.udp_allowed = True
    for number in range(size):
        mesh.add(f"m{number}", "lab")
    links = [mesh.link(f"m{number}", f"m{(number + 1) % size}") for number in range(size)]
    for link in links:
        for end in link.ends:
            end.post(PathFound(link.numbers[end.name], ("10.0.0.1", 4511), 0.01))
    mesh.run(3)
    assert_complete(mesh, "lab")
    return mesh, links


def go_deaf(link: SimLink) -> None:
    """Nothing passes any more, and the data planes have noticed it."""
    link.deaf = True
    for end in link.ends:
        end.post(PathLost(link.numbers[end.name]))


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_a_neighbour_that_seems_gone_is_gone_around_long_before_it_is_given_up(size: int) -> None:
    mesh, links = ring_on_udp(size)
    go_deaf(links[0])
    mesh.run(1.2)
    assert links[0].numbers["m0"] in mesh.nodes["m0"].node.trunks
    assert_complete(mesh, "lab")
    assert mesh.nodes["m0"].unicast("lab", mesh.nodes["m1"].vlan("lab").mac, "hello")  # type: ignore[attr-defined]
    mesh.run(0.5)
    assert ("lab", "hello") in mesh.nodes["m1"].delivered


def test_a_neighbour_that_is_heard_again_is_a_neighbour_again() -> None:
    mesh, links = ring_on_udp(5)
    go_deaf(links[0])
    mesh.run(2)
    links[0].deaf = False
    mesh.run(5)
    for end in links[0].ends:
        assert not end.node.trunks[links[0].numbers[end.name]].is_silent
    assert_complete(mesh, "lab")


def test_a_trunk_whose_udp_path_alone_is_lost_goes_on_by_its_stream_without_a_pause() -> None:
    mesh, links = ring_on_udp(3)
    before = len(mesh.nodes["m0"].node.trunks)
    for end in links[0].ends:
        end.post(PathLost(links[0].numbers[end.name]))
    for _ in range(20):
        assert mesh.nodes["m0"].unicast("lab", mesh.nodes["m1"].vlan("lab").mac, "hello")  # type: ignore[attr-defined]
        mesh.run(0.1)
    assert mesh.nodes["m1"].delivered.count(("lab", "hello")) == 20
    assert not any(trunk.is_silent for trunk in mesh.nodes["m0"].node.trunks.values())
    assert len(mesh.nodes["m0"].node.trunks) == before


def test_a_neighbour_that_falls_silent_before_it_said_anything_keeps_no_node_awake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = SimLink.send

    def without_policy(link: SimLink, source: SimNode, data: bytes) -> None:
        if not isinstance(control.parse_untrusted(data), control.Policy):
            send(link, source, data)

    monkeypatch.setattr(SimLink, "send", without_policy)
    mesh = SimMesh()
    mesh.udp_allowed = True
    for name in ("a", "b"):
        mesh.add(name, "lab")
    link = mesh.link("a", "b")
    mesh.run(0.5)
    for end in link.ends:
        end.post(PathFound(link.numbers[end.name], ("10.0.0.1", 4511), 0.01))
    go_deaf(link)
    mesh.run(1)
    node = mesh.nodes["a"].node
    (trunk,) = node.trunks.values()
    assert not node.fabric.has_neighbour(trunk.id)
    assert trunk.is_silent
    assert node.next_deadline() > mesh.now


def test_a_ring_of_members_without_a_relay_is_complete_and_delivers_once() -> None:
    mesh = SimMesh()
    names = [f"m{number}" for number in range(6)]
    for name in names:
        mesh.add(name, "lab")
    for number, name in enumerate(names):
        mesh.link(name, names[(number + 1) % 6])
    mesh.run(5)
    assert_complete(mesh, "lab")


def test_two_trunks_to_one_peer_leave_one_and_lose_nothing() -> None:
    mesh = line()
    mesh.run(3)  # its tables follow without waiting again
    mesh.link("a", "r")
    mesh.link("r", "a")
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    sent: dict[str, list[str]] = {"a": [], "b": []}
    for at in range(1000):
        for source, to in ((a, b), (b, a)):
            if source.unicast("lab", to.vlan("lab").mac, f"{at}"):  # type: ignore[attr-defined]
                sent[to.name].append(f"{at}")
        mesh.run(0.003)
    mesh.run(1)
    assert len(a.trunks) == 1
    assert [content for _, content in a.delivered] == sent["a"]
    assert [content for _, content in b.delivered] == sent["b"]
    assert min(len(one) for one in sent.values()) > 980, "for a round trip there may be no label"
    assert_complete(mesh, "lab")


def test_a_member_without_a_grant_passes_no_restricted_relay_and_with_one_does() -> None:
    mesh = SimMesh()
    mesh.add("a", "lab")
    mesh.add("b", "lab")
    relay = mesh.add("r", mode=Mode.ALLOW)
    mesh.link("a", "r")
    mesh.link("b", "r")
    mesh.run(3)
    assert not mesh.nodes["a"].knows("lab")
    relay.node.policy.configure(Mode.ALLOW, (mesh.membership("lab").vlan_id.hex()[:6] + "*",))
    mesh.restart("a")
    mesh.restart("b")
    mesh.link("a", "r")
    mesh.link("b", "r")
    mesh.run(3)
    assert_complete(mesh, "lab")


def test_a_stopping_node_withdraws_so_that_others_forget_its_routes_at_once() -> None:
    mesh = line()
    mesh.run(1)
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    token = b.vlan("lab").newest.token  # type: ignore[attr-defined]
    b.post(StopAsked())
    mesh.run(0.2)
    assert a.node.routes.selected((a.vlan("lab").newest.vtag, token)) is None  # type: ignore[attr-defined]
    assert not b.trunks


def test_an_answer_for_which_no_label_is_confirmed_yet_goes_when_it_is() -> None:
    """Two that dial each other at once: one trunk and its labels go, and an answer to a Hello was lost."""
    late = []
    for number in range(60):
        delay_s = (0.0005, 0.003)[number % 3 == 0]
        mesh = SimMesh(number)
        for name in ("a", "b"):
            mesh.add(name, "lab")
        ends = ("a", "b") if number % 2 else ("b", "a")
        mesh.link(*ends, delay_s=delay_s)
        mesh.run(0.0005 * (number % 10))
        mesh.link(*ends, delay_s=delay_s)
        mesh.run(1.0)
        known = [len(mesh.nodes[name].vlan("lab").introductions.peers) for name in ("a", "b")]  # type: ignore[attr-defined]
        late += [number] if known != [1, 1] else []
    assert not late


def test_tables_go_before_what_is_announced_however_many_changes_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """At their pace they came 0.1 s after it: a neighbour that went by what was announced met the way before."""
    monkeypatch.setattr(node_module, "TABLES_AT_ONCE", 1)
    monkeypatch.setattr(node_module, "TABLES_PACE_S", 60.0)
    mesh = line()
    mesh.add("c", "lab")
    mesh.link("b", "c")
    mesh.run(10)
    relay = mesh.nodes["r"]
    carry_out, late = relay.carry_out, list[bool]()

    def watched(actions: list[Action]) -> None:
        for number, one in enumerate(actions):
            if isinstance(one, Send) and isinstance(one.message, Routes):
                late.append(relay.node._is_behind or any(isinstance(after, Apply) for after in actions[number:]))
        carry_out(actions)

    monkeypatch.setattr(relay, "carry_out", watched)
    mesh.nodes["c"].post(StopAsked())
    mesh.run(1)
    assert late
    assert not any(late)
