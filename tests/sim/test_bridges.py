"""Whole nodes whose interfaces are ports of bridges: hosts are found by all, one of several on a LAN forwards."""

import pytest

from peertap.mesh.policy import Mode
from peertap.node.actions import SendGroupControl
from peertap.node.events import LoopProbeHeard
from peertap.wire.macs import Add, Host, Placed
from tests.support.lan import SimLans, bridging, host
from tests.support.mesh import SimMesh, SimNode

X = host(1)


def town(*names: str) -> tuple[SimMesh, SimLans]:
    """Members that all bridge, each on a LAN of its own, around a relay; they know each other and forward."""
    mesh = SimMesh()
    mesh.add("r", mode=Mode.OPEN)
    for name in names:
        mesh.add(name, "lab")
    bridging(mesh, *names)
    for name in names:
        mesh.link(name, "r")
    lans = SimLans(mesh, "lab")
    for lan, name in enumerate(names, 1):
        lans.attach(name, lan)
    lans.run(6)
    assert all(lans.forwarding(lan) == [name] for lan, name in enumerate(names, 1))
    return mesh, lans


@pytest.fixture
def abc() -> tuple[SimMesh, SimLans]:
    return town("a", "b", "c")


def by_handle(lans: SimLans, *names: str) -> list[str]:
    """The one that is to forward first."""
    return sorted(names, key=lambda name: lans.passage(name).probing.handle)  # type: ignore[union-attr]


def said(node: SimNode, event: str) -> list[dict[str, object]]:
    return [one.fields for one in node.log if one.event == event]


def test_a_host_is_found_by_all_and_forgotten_when_it_is_silent_for_long(abc: tuple[SimMesh, SimLans]) -> None:
    mesh, lans = abc
    lans.speak(1, X)
    mesh.run(0.1)
    assert lans.found(X) == {"a": "port", "b": "a", "c": "a"}
    lans.age("a", X)
    mesh.run(0.1)
    assert lans.found(X) == {"a": None, "b": None, "c": None}


def test_a_host_that_moves_is_followed_at_once_and_back_again(abc: tuple[SimMesh, SimLans]) -> None:
    mesh, lans = abc
    lans.speak(1, X)
    mesh.run(0.1)
    lans.speak(2, X)
    mesh.run(0.1)
    assert lans.found(X) == {"a": "b", "b": "port", "c": "b"}
    lans.speak(1, X)
    mesh.run(0.1)
    assert lans.found(X) == {"a": "port", "b": "a", "c": "a"}


@pytest.mark.parametrize("seed", range(10))
def test_a_move_is_known_to_all_within_a_second_though_every_third_packet_is_lost(seed: int) -> None:
    mesh, lans = town("a", "b", "c")
    lans.speak(1, X)
    mesh.run(1)
    mesh.random.seed(seed)
    lost = mesh.packet_loss
    mesh.packet_loss = 0.33
    lans.speak(2, X)
    mesh.run(0.25)  # the news itself, if it is not lost
    mesh.packet_loss = lost
    mesh.run(0.75)
    assert lans.found(X) == {"a": "b", "b": "port", "c": "b"}


def test_a_host_that_flaps_is_frozen_and_everybody_says_by_whom(abc: tuple[SimMesh, SimLans]) -> None:
    mesh, lans = abc
    lans.speak(1, X)
    for _ in range(5):
        for lan in (2, 1):
            mesh.run(0.2)
            lans.speak(lan, X)
    mesh.run(1)
    assert lans.found(X) == {"a": "port", "b": "a", "c": "a"}
    assert lans.speak(2, X) == [], "refused where it is not"
    for name in "abc":
        (fields,) = said(mesh.nodes[name], "host frozen: it moved too often")
        assert (fields["stays_at"], fields["claimed_by"]) == (
            mesh.nodes["a"].identity.peer_id, mesh.nodes["b"].identity.peer_id,
        )  # fmt: skip
    lans.run(181)
    lans.speak(2, X)
    mesh.run(0.2)
    assert lans.found(X) == {"a": "b", "b": "port", "c": "b"}, "then it may move again"


def test_what_is_behind_a_member_goes_with_it_and_a_newcomer_learns_what_there_is(abc: tuple[SimMesh, SimLans]) -> None:
    mesh, lans = abc
    lans.speak(1, X)
    lans.speak(2, host(2))
    mesh.run(0.1)
    mesh.add("d", "lab")
    bridging(mesh, "d")
    mesh.link("d", "r")
    mesh.run(3)
    assert (lans.found(X)["d"], lans.found(host(2))["d"]) == ("a", "b")
    mesh.restart("a")
    mesh.link("a", "r")
    mesh.run(5)
    assert lans.found(X)["b"] is lans.found(X)["d"] is None, "another run of a: nothing is behind it yet"


def test_of_two_on_one_lan_one_forwards_and_the_other_takes_over_when_it_dies(abc: tuple[SimMesh, SimLans]) -> None:
    mesh, lans = abc
    first, second = by_handle(lans, "a", "b")
    lans.attach("a", 9)
    lans.attach("b", 9)
    assert lans.run(6) <= 0.1
    assert lans.forwarding(9) == [first]
    assert lans.speak(9, X) == [first]
    mesh.run(0.2)
    rival = mesh.nodes[second].node.bridges.port(mesh.nodes[second].vlan("lab"))  # type: ignore[arg-type]
    assert rival[0] == "blocked"
    assert rival[2] == mesh.nodes[first].identity.peer_id, "by name"
    lans.detach(first)
    for link in list(mesh.nodes[first].trunks.values()):
        link.close("killed")
    lans.run(2.7)
    assert lans.forwarding(9) == [second]
    lans.speak(9, X)
    mesh.run(0.2)
    assert lans.found(X)["c"] == second


def test_two_lans_that_are_joined_have_two_forwarders_for_a_second_at_most(abc: tuple[SimMesh, SimLans]) -> None:
    _, lans = abc
    lans.lan_of |= {"a": 9, "b": 9, "c": 9}
    assert lans.run(5) <= 1.15
    assert lans.forwarding(9) == by_handle(lans, "a", "b", "c")[:1]


def test_a_lan_whose_members_lost_each_other_in_the_overlay_still_has_one_forwarder(
    abc: tuple[SimMesh, SimLans],
) -> None:
    mesh, lans = abc
    lans.attach("a", 9)
    lans.attach("b", 9)
    lans.run(6)
    for link in list(mesh.nodes["b"].trunks.values()):
        link.close("cut")
    assert lans.run(10) == 0
    assert len(lans.forwarding(9)) == 1


def test_hosts_are_withdrawn_by_a_port_that_stops_forwarding(abc: tuple[SimMesh, SimLans]) -> None:
    mesh, lans = abc
    lans.speak(1, X)
    mesh.run(0.1)
    probing = lans.passage("a").probing
    assert probing is not None
    index = mesh.nodes["a"].vlan("lab").index  # type: ignore[attr-defined]
    mesh.nodes["a"].post(LoopProbeHeard(index, probing.handle, probing.run, 3, True, True))
    lans.run(1)
    assert lans.forwarding(1) == []
    assert lans.found(X) == {"a": None, "b": None, "c": None}
    (fields,) = [one for one in said(mesh.nodes["a"], "bridge port") if one["port"] == "off"]
    assert "came back" in str(fields["cause"])


def test_a_member_that_claims_hosts_and_virtual_macs_of_others_is_frozen_out_and_named(
    abc: tuple[SimMesh, SimLans],
) -> None:
    mesh, lans = abc
    rogue, victim = mesh.nodes["c"], mesh.nodes["a"]
    lans.speak(1, X)
    mesh.run(0.1)
    rogue_vlan = rogue.vlan("lab")
    virtual = Host(mesh.nodes["b"].vlan("lab").mac)  # type: ignore[attr-defined]
    for number in range(1, 12):
        add = Add(number, (Placed(X, 2 * number - 1), Placed(virtual, number)))
        rogue.carry_out([SendGroupControl(rogue_vlan.index, add.emit())])  # type: ignore[attr-defined]
        mesh.run(0.1)
        lans.speak(1, X)
        mesh.run(0.1)
    assert lans.found(X)["b"] == "a"
    assert victim.vlan("lab") is not None and lans.found(virtual)["a"] is None
    fields = said(mesh.nodes["b"], "host frozen: it moved too often")[0]
    assert (fields["stays_at"], fields["claimed_by"]) == (victim.identity.peer_id, rogue.identity.peer_id)


def test_hosts_of_a_member_that_may_not_bridge_are_nobodys(abc: tuple[SimMesh, SimLans]) -> None:
    mesh, lans = abc
    mesh.add("d", "lab")
    mesh.link("d", "r")
    mesh.run(3)
    d = mesh.nodes["d"]
    add = Add(1, (Placed(X, 0),))
    d.carry_out([SendGroupControl(d.vlan("lab").index, add.emit())])  # type: ignore[attr-defined]
    mesh.run(1)
    # In a static VLAN what holds here holds for all; d itself believes that nobody bridges.
    assert lans.found(X)["d"] is None
    lans.speak(1, host(5))
    mesh.run(0.2)
    assert lans.found(host(5))["b"] == "a"
    assert lans.found(host(5))["d"] is None
    assert said(d, "member breaks a rule")[0]["what"] == "bridges without leave"
