"""Multicast on whole nodes: frames take the edges that lead to listeners, and come once."""

import os
from ipaddress import IPv4Address, IPv6Address

import pytest

from peertap.mesh.policy import Mode
from peertap.node import multicast
from peertap.node.commands import Kick
from peertap.node.events import MulticastHeard
from peertap.types import Mac
from peertap.vlan.names import KIND_GROUP
from peertap.wire import igmp, mld
from peertap.wire.control import Join, Subscribe, Unsubscribe
from peertap.wire.multicast import Change, Query, Record, Report, group_mac, payload_untrusted
from tests.support.club import Club
from tests.support.identities import identity
from tests.support.mesh import NOW_UNIX, SimLink, SimMesh, SimNode

SEEDS = range(20 if os.environ.get("PEERTAP_FULL") else 4)
GROUP = IPv4Address("239.1.2.3")
GROUP6 = IPv6Address("ff05::9:3")
ROUTER = Mac(b"\x02\0\0\0\0\x63")


def joins(*groups: IPv4Address | IPv6Address) -> Report:
    version = 3 if groups[0].version == 4 else 2
    return Report(version, tuple(Record(Change.TO_EXCLUDE, group) for group in groups))


def leaves(*groups: IPv4Address | IPv6Address) -> Report:
    version = 3 if groups[0].version == 4 else 2
    return Report(version, tuple(Record(Change.TO_INCLUDE, group) for group in groups))


def query(node: SimNode) -> None:
    """A router behind this node's port asks who listens, and its query goes to all."""
    frame = igmp.emit_query(Query(3, IPv4Address("10.0.0.99"), None, 1.0), ROUTER)
    node.post(MulticastHeard(node.vlan("lab").index, True, frame))  # type: ignore[attr-defined]
    for other in node.mesh.members("lab"):
        if other is not node:
            other.post(MulticastHeard(other.vlan("lab").index, False, frame))  # type: ignore[attr-defined]


def star(members: int, relays: int = 1) -> SimMesh:
    """Relays in a line, members behind them in turn."""
    mesh = SimMesh()
    for number in range(relays):
        mesh.add(f"r{number}", mode=Mode.OPEN)
        if number:
            mesh.link(f"r{number - 1}", f"r{number}")
    for number in range(members):
        mesh.add(f"m{number}", "lab")
        mesh.link(f"m{number}", f"r{number % relays}")
    mesh.run(3)
    return mesh


def carried(mesh: SimMesh, monkeypatch: pytest.MonkeyPatch) -> dict[frozenset[str], int]:
    """Frames by link, from now on."""
    counts: dict[frozenset[str], int] = {}
    carry = SimLink.carry

    def count(link: SimLink, source: SimNode, label: int, packet: object, limit: int) -> None:
        if packet.intro is None:  # type: ignore[attr-defined]
            name = frozenset(end.name for end in link.ends)
            counts[name] = counts.get(name, 0) + 1
        carry(link, source, label, packet, limit)  # type: ignore[arg-type]

    monkeypatch.setattr(SimLink, "carry", count)
    return counts


@pytest.mark.parametrize("group", [GROUP, GROUP6])
def test_a_stream_takes_only_the_links_between_its_sender_and_listeners(
    group: IPv4Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = star(6, relays=3)
    mesh.nodes["m4"].hears("lab", joins(group))
    mesh.run(1)
    counts = carried(mesh, monkeypatch)
    for number in range(10):
        assert mesh.nodes["m1"].multicast("lab", group, number) == 1
        mesh.run(0.05)
    assert counts == {frozenset(link): 10 for link in (("m1", "r1"), ("r1", "m4"))}
    assert [content for _, content in mesh.nodes["m4"].delivered] == list(range(10))
    assert not any(node.delivered for node in mesh.nodes.values() if node.name != "m4")


def test_with_no_listener_nothing_leaves_whoever_is_root() -> None:
    mesh = star(5, relays=2)
    for node in mesh.members("lab"):
        assert node.multicast("lab", GROUP, "x") == 0
    mesh.nodes["m2"].hears("lab", joins(GROUP))
    mesh.run(1)
    assert {node.name: node.multicast("lab", GROUP, "x") for node in mesh.members("lab")} == {
        "m0": 1, "m1": 1, "m2": 0, "m3": 1, "m4": 1,
    }  # fmt: skip


def test_after_the_leave_the_stream_stops_at_its_sender_within_a_round_trip() -> None:
    mesh = star(4, relays=2)
    mesh.nodes["m3"].hears("lab", joins(GROUP))
    mesh.run(1)
    assert mesh.nodes["m0"].multicast("lab", GROUP, "x") == 1
    mesh.nodes["m3"].hears("lab", leaves(GROUP))
    mesh.run(0.1)
    assert mesh.nodes["m0"].multicast("lab", GROUP, "x") == 0


def test_the_first_packet_comes_within_a_second_of_the_join() -> None:
    mesh = star(4, relays=3)
    mesh.nodes["m3"].hears("lab", joins(GROUP))
    for number in range(100):
        mesh.run(0.01)
        mesh.nodes["m1"].multicast("lab", GROUP, number)
    mesh.run(0.1)
    first = mesh.nodes["m3"].delivered[0][1]
    assert isinstance(first, int)
    assert first < 20
    assert [content for _, content in mesh.nodes["m3"].delivered] == list(range(first, 100))


@pytest.mark.parametrize("seed", SEEDS)
def test_on_a_random_mesh_with_joins_and_leaves_every_listener_hears_each_frame_once(seed: int) -> None:
    mesh = SimMesh(seed)
    for number in range(3):
        mesh.add(f"r{number}", mode=Mode.OPEN)
    names = [f"m{number}" for number in range(8)]
    for name in names:
        mesh.add(name, "lab")
    mesh.link("r0", "r1")
    mesh.link("r1", "r2")
    mesh.link("r0", "r2", 0.02)
    for number, name in enumerate(names):
        for relay in mesh.random.sample(range(3), 2):
            mesh.link(name, f"r{relay}", 0.003 + number / 1000)
    for one, other in mesh.random.sample([(a, b) for a in names for b in names if a < b], 4):
        mesh.link(one, other)
    mesh.run(5)
    groups = [GROUP, GROUP6, IPv4Address("239.9.9.9")]
    listening: dict[str, set[object]] = {name: set() for name in names}
    steady: dict[str, set[object]] = {}
    for turn in range(12):
        for name in mesh.random.sample(names, 3):
            group = mesh.random.choice(groups)
            if mesh.random.random() < 0.1:
                query(mesh.nodes[name])  # a router comes, and takes everything for four minutes
                listening[name] |= {"router", *groups}
            elif group in listening[name] and "router" not in listening[name]:
                mesh.nodes[name].hears("lab", leaves(group))
                listening[name].discard(group)
            else:
                mesh.nodes[name].hears("lab", joins(group))
                listening[name].add(group)
        steady = {name: set(what) for name, what in listening.items()}
        for node in mesh.nodes.values():
            node.delivered.clear()
        early = [(name, group, ("early", turn, number)) for number, name in enumerate(names) for group in groups]
        for name, group, content in early:  # while it changes: never twice
            mesh.nodes[name].multicast("lab", group, (*content, str(group)))
            mesh.run(0.002)
        mesh.run(2)
        for node in mesh.members("lab"):
            got = [content for _, content in node.delivered if content[0] != "report"]  # type: ignore[index]
            assert len(got) == len(set(got)), f"{node.name} heard twice"
            node.delivered.clear()
        for name in names:
            for group in groups:
                mesh.nodes[name].multicast("lab", group, (name, str(group)))
        mesh.run(1)
        for node in mesh.members("lab"):
            got = sorted(content for _, content in node.delivered if content[0] != "report")  # type: ignore[index]
            wanted = [(name, str(g)) for name in names for g in groups if name != node.name and g in steady[node.name]]
            assert got == sorted(wanted), (turn, node.name)
    assert not any(mesh.nodes[f"r{number}"].delivered for number in range(3))


def test_a_change_of_root_takes_subscriptions_along() -> None:
    mesh = star(5, relays=2)
    for name in ("m1", "m4"):
        mesh.nodes[name].hears("lab", joins(GROUP))
    mesh.run(1)
    roots = [node for node in mesh.members("lab") if node.node.trees.root_of(node.vlan("lab").newest.vtag)[1] is None]  # type: ignore[attr-defined, index]
    for neighbour in mesh.restart(roots[0].name):
        mesh.link(neighbour, roots[0].name)
    mesh.run(5)
    for node in mesh.nodes.values():
        node.delivered.clear()
    listeners = {"m1", "m4"} - {roots[0].name}  # whose process began anew has to hear of its hosts first
    sender = next(name for name in ("m0", "m2", "m3") if name != roots[0].name)
    mesh.nodes[sender].multicast("lab", GROUP, "x")
    mesh.run(1)
    assert {node.name for node in mesh.nodes.values() if node.delivered} == listeners


def test_a_member_that_begins_anew_asks_its_hosts_at_once() -> None:
    mesh = star(2)
    mesh.restart("m1")
    mesh.run(2)
    said = [igmp.parse_untrusted(payload_untrusted(frame)[1]) for frame in mesh.nodes["m1"].written if frame[12] == 8]
    assert Query(3, IPv4Address(0), None, 1.0, 2, 125.0) in said
    assert [mld.parse_untrusted(payload_untrusted(frame)[1]) for frame in mesh.nodes["m1"].written if frame[12] != 8]


def test_a_member_with_a_router_gets_everything_and_reports_and_no_other_member_does() -> None:
    mesh = star(4, relays=2)
    mesh.nodes["m2"].hears("lab", joins(GROUP))
    mesh.run(1)
    query(mesh.nodes["m3"])
    mesh.run(1.5)
    mesh.nodes["m0"].multicast("lab", IPv4Address("239.7.7.7"), "unknown")
    mesh.nodes["m0"].multicast("lab", GROUP, "known")
    mesh.run(0.5)
    got = [content for _, content in mesh.nodes["m3"].delivered]
    reports = [igmp.parse_untrusted(payload_untrusted(one[1])[1]) for one in got if one[0] == "report"]  # type: ignore[index]
    assert Report(3, (Record(Change.IS_EXCLUDE, GROUP),)) in reports
    assert [one for one in got if one[0] != "report"] == ["unknown", "known"]  # type: ignore[index]
    assert [content for _, content in mesh.nodes["m2"].delivered] == ["known"]
    assert not mesh.nodes["m0"].delivered
    assert not mesh.nodes["m1"].delivered
    mesh.run(300)  # the router is heard no more
    assert mesh.nodes["m0"].multicast("lab", IPv4Address("239.7.7.7"), "unknown") == 0


def test_a_router_with_an_old_version_is_answered_in_it_and_is_told_of_leaves() -> None:
    mesh = star(3)
    old = igmp.emit_query(Query(3, IPv4Address("10.0.0.99"), None, 1.0), ROUTER)
    body = bytes((0x11, 10, 0, 0)) + bytes(4)
    body = body[:2] + (0xFFFF - (0x11 << 8 | 10)).to_bytes(2, "big") + body[4:]
    frame = old[:16] + (32).to_bytes(2, "big") + old[18:38] + body  # RFC 2236: 8 bytes
    for node, is_local in ((mesh.nodes["m0"], True), (mesh.nodes["m1"], False), (mesh.nodes["m2"], False)):
        node.post(MulticastHeard(node.vlan("lab").index, is_local, frame))  # type: ignore[attr-defined]
    mesh.nodes["m1"].hears("lab", joins(GROUP))
    mesh.run(2)
    mesh.nodes["m1"].hears("lab", leaves(GROUP))
    mesh.run(2)
    reports = [igmp.parse_untrusted(payload_untrusted(one[1])[1]) for _, one in mesh.nodes["m0"].delivered]  # type: ignore[index]
    assert Report(2, (Record(Change.IS_EXCLUDE, GROUP),)) in reports
    assert reports[-1] == Report(2, (Record(Change.TO_INCLUDE, GROUP),))


def test_a_member_with_more_than_64_groups_gets_all_and_others_stay_pruned() -> None:
    mesh = star(3)
    many = [IPv4Address(0xEF000100 + number) for number in range(65)]
    mesh.nodes["m1"].hears("lab", joins(*many[:64]))
    mesh.run(1)
    assert mesh.nodes["m0"].multicast("lab", GROUP, "other") == 0
    mesh.nodes["m1"].hears("lab", joins(many[64]))
    mesh.run(1)
    for group in (*many, GROUP):
        assert mesh.nodes["m0"].multicast("lab", group, str(group)) == 1
    mesh.run(1)
    assert len(mesh.nodes["m1"].delivered) == 66
    assert not mesh.nodes["m2"].delivered
    mesh.nodes["m1"].hears("lab", leaves(many[64]))
    mesh.run(1)
    assert mesh.nodes["m0"].multicast("lab", GROUP, "other") == 0


def test_crowded_trees_turn_to_all_groups_and_nobody_swings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multicast, "CROWDED", 30)
    mesh = star(8)
    for number in range(8):
        mesh.nodes[f"m{number}"].hears(
            "lab", joins(*(IPv4Address(0xEF000000 + 256 * number + one) for one in range(6)))
        )
    mesh.run(3)
    said: list[int] = []
    send = SimLink.send

    def note(link: SimLink, source: SimNode, data: bytes) -> None:
        said.append(data[0])
        send(link, source, data)

    monkeypatch.setattr(SimLink, "send", note)
    mesh.run(200)
    assert not [code for code in said if code in (Subscribe.CODE, Unsubscribe.CODE)]
    mesh.nodes["m0"].multicast("lab", IPv4Address(0xEF000000 + 256 * 7 + 1), "x")
    mesh.run(1)
    assert mesh.nodes["m7"].delivered == [("lab", "x")]


def test_a_stranger_cannot_subscribe_and_a_neighbour_outside_the_tree_cannot_either() -> None:
    mesh = star(3)
    m0, relay = mesh.nodes["m0"], mesh.nodes["r0"]
    names = m0.vlan("lab").newest  # type: ignore[attr-defined]
    ((root, _),) = [m0.node.trees.root_of(names.vtag)]  # type: ignore[misc]
    good = names.subscription(root, names.group_token, 1_900_000_000.0)
    forged = type(good)(good.public, good.root, good.token, good.expiry + 1, good.signature)
    stranger = mesh.add("stranger")
    link = mesh.link("stranger", "r0")
    mesh.run(1)
    for source in (stranger, m0):
        for trunk in [one for one, other in relay.trunks.items() if other is link or m0 in other.ends]:
            joined = relay.trunks[trunk]
            if source in joined.ends:
                joined.send(source, bytes((Subscribe.CODE,)) + forged.emit())
    link.send(stranger, bytes((Subscribe.CODE,)) + good.emit())
    mesh.run(1)
    assert not [token for _, token, trunks in relay.node.subscriptions.wanted() if trunks]


def test_a_subscription_that_a_neighbour_repeats_as_a_join_makes_no_edge_and_hides_no_listener() -> None:
    mesh = star(4)
    mesh.nodes["m3"].hears("lab", joins(GROUP))
    mesh.run(1)
    m0, relay = mesh.nodes["m0"], mesh.nodes["r0"]
    names = mesh.nodes["m3"].vlan("lab").newest  # type: ignore[attr-defined]
    root, _ = m0.node.trees.root_of(names.vtag)  # type: ignore[misc]
    token = names.keys.token(KIND_GROUP, group_mac(GROUP))
    seen = names.subscription(root, token, NOW_UNIX + 101)
    (link,) = m0.trunks.values()
    for code in (Subscribe.CODE, Join.CODE):
        link.send(m0, bytes((code,)) + seen.emit())
    mesh.run(0.5)
    assert relay.node.trees.group(names.vtag, root, token) is None
    assert mesh.nodes["m1"].multicast("lab", GROUP, "x") == 1
    mesh.run(0.5)
    assert mesh.nodes["m3"].delivered == [("lab", "x")]


def test_a_host_that_joins_and_leaves_all_the_time_does_not_keep_the_mesh_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = star(4)
    said: list[int] = []
    send = SimLink.send

    def note(link: SimLink, source: SimNode, data: bytes) -> None:
        said.append(data[0])
        send(link, source, data)

    monkeypatch.setattr(SimLink, "send", note)
    groups = [IPv4Address(0xEF000000 + number) for number in range(60)]
    for _ in range(100):
        mesh.nodes["m1"].hears("lab", joins(*groups))
        mesh.run(0.05)
        mesh.nodes["m1"].hears("lab", leaves(*groups))
        mesh.run(0.05)
    changes = 4 * 64 + 10 * 16  # at once, and in 10 s
    assert sum(code in (Subscribe.CODE, Unsubscribe.CODE) for code in said) <= 4 * changes
    mesh.nodes["m1"].hears("lab", joins(GROUP))
    mesh.run(10)
    assert mesh.nodes["m0"].multicast("lab", GROUP, "x") == 1
    assert mesh.nodes["m0"].multicast("lab", groups[0], "x") == 0


def test_subscriptions_outlive_epochs_and_a_new_routing_secret_and_no_frame_is_lost_or_doubled() -> None:
    club = Club("ada", "bob", "cyd", "dan")
    for name in ("bob", "cyd", "dan"):
        club.join(name, "ada")
    club.run(3)
    club.nodes["cyd"].hears("club", joins(GROUP))
    club.run(1)
    before = club.nodes["ada"].vlan("club").newest.vtag  # type: ignore[attr-defined]
    club.nodes["ada"].command(Kick("club", identity("dan").public_key))
    club.run(3)
    for node in club.nodes.values():
        node.delivered.clear()
    for number in range(400):
        assert club.nodes["ada"].multicast("club", GROUP, number) == 1
        club.run(0.5)
    assert club.nodes["ada"].vlan("club").newest.vtag != before  # type: ignore[attr-defined]
    assert [content for _, content in club.nodes["cyd"].delivered] == list(range(400))
    assert not club.nodes["bob"].delivered
