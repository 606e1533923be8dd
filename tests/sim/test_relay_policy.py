"""A relay whose rules change while frames flow: by its operator, by updates of a controller, and by nobody else."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from peertap.errors import ConfigError, DeviceError
from peertap.mesh.policy import GRACE_S, Mode
from peertap.node import relaying
from peertap.node.events import PolicyChanged
from peertap.node.relay_control import ChangeRules, Steer, TakeCarriage
from peertap.node.relay_state import RelayState
from peertap.types import VlanId, VTag
from peertap.vlan.grants import checked_grant
from peertap.wire.control import Grant
from peertap.wire.relay import Change, Outcome, RelayResult, RelayUpdate, Verdict
from tests.support.hostile import Neighbour
from tests.support.identities import identity
from tests.support.mesh import NOW_UNIX, SimMesh, SimNode

ALLOW, DENY, FORGET = Verdict.ALLOW, Verdict.DENY, Verdict.FORGET


def vlan_id(mesh: SimMesh, label: str) -> str:
    return mesh.membership(label).vlan_id.hex()


def relayed(mode: Mode, *allowed: str, controllers: tuple[str, ...] = ()) -> tuple[SimMesh, SimNode]:
    """a and b, members of red and blue, with a relay between; it settles."""
    mesh = SimMesh()
    relay = mesh.add("r", mode=mode)
    relay.patterns = tuple(vlan_id(mesh, label) for label in allowed)
    relay.controllers = frozenset(identity(name).peer_id for name in controllers)
    relay.boot()
    for name in ("a", "b"):
        mesh.add(name, "red", "blue")
        mesh.link(name, "r")
    mesh.run(3)
    return mesh, relay


def passes(mesh: SimMesh, label: str) -> bool:
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    b.delivered.clear()
    a.broadcast(label, "all")
    a.unicast(label, b.vlan(label).mac, "one")  # type: ignore[attr-defined]
    mesh.run(0.1)
    return (label, "all") in b.delivered and (label, "one") in b.delivered


def leaks(mesh: SimMesh, label: str) -> bool:
    """Whether anything at all comes through, either way, whatever a sender's tables still say."""
    a, b = mesh.nodes["a"], mesh.nodes["b"]
    a.delivered.clear()
    b.delivered.clear()
    for source, to in ((a, b), (b, a)):
        source.broadcast(label, "all")
        source.unicast(label, to.vlan(label).mac, "one")  # type: ignore[attr-defined]
    mesh.run(0.1)
    return any(name == label for name, _ in (*a.delivered, *b.delivered))


def signed(controller: str, relay: SimNode, sequence: int, *changes: Change) -> RelayUpdate:
    me = identity(controller)
    unsigned = RelayUpdate(relay.identity.peer_id, me.peer_id, sequence, changes, b"")
    return dataclasses.replace(unsigned, signature=me.sign(unsigned.signed_part()))


def test_a_relay_carries_what_it_allows_and_nothing_else() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red")
    assert passes(mesh, "red")
    assert not leaks(mesh, "blue")
    assert len(relay.node.carried.numbers) == 1


def test_what_is_denied_ends_within_a_second_and_the_rest_notices_nothing() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red", "blue")
    assert passes(mesh, "red") and passes(mesh, "blue")
    trunks = set(relay.node.trunks)
    relay.command(ChangeRules((Change(DENY, vlan_id(mesh, "blue")),)))
    for _ in range(10):
        assert passes(mesh, "red")
    assert not leaks(mesh, "blue")
    assert set(relay.node.trunks) == trunks, "no trunk ends for it"
    assert relay.node.fabric.vtags() == {mesh.nodes["a"].vlan("red").newest.vtag}  # type: ignore[attr-defined]
    relay.command(ChangeRules((Change(FORGET, vlan_id(mesh, "blue")),)))
    mesh.run(2)
    assert passes(mesh, "blue") and passes(mesh, "red")


def test_what_is_allowed_begins_within_a_second() -> None:
    mesh, relay = relayed(Mode.RESTRICTED, "red")
    relay.command(ChangeRules((Change(ALLOW, vlan_id(mesh, "blue")[:6] + "*"),)))
    mesh.run(1)
    a = mesh.nodes["a"].vlan("blue").newest.vtag  # type: ignore[attr-defined]
    assert relay.node.relaying.carries(a) and a in relay.node.fabric.vtags()
    mesh.run(2)
    assert passes(mesh, "blue") and passes(mesh, "red")


def test_an_open_relay_that_denies_one_vlan_goes_on_with_the_others_without_a_gap() -> None:
    mesh, relay = relayed(Mode.OPEN)
    relay.command(ChangeRules((Change(DENY, vlan_id(mesh, "blue")),)))
    for _ in range(15):
        assert passes(mesh, "red")
    assert not leaks(mesh, "blue")
    relay.command(ChangeRules((Change(FORGET, vlan_id(mesh, "blue")),)))
    mesh.run(2)
    assert passes(mesh, "blue") and passes(mesh, "red")
    assert relay.node.policy.relays and not relay.node.policy.wants_grants


def test_an_open_relay_that_denies_something_carries_no_stranger_without_a_proof_after_the_grace() -> None:
    mesh, relay = relayed(Mode.OPEN)
    for node in (mesh.nodes["a"], mesh.nodes["b"]):
        for vlan in node.node.vlans.values():
            vlan.source.grant = lambda _now: None  # type: ignore[method-assign, assignment, return-value]
    relay.command(ChangeRules((Change(DENY, "00*"),)))
    mesh.run(GRACE_S / 2)
    assert passes(mesh, "red")
    mesh.run(GRACE_S)
    assert not leaks(mesh, "red") and relay.node.fabric.vtags() == set()


def test_a_relay_for_nobody_carries_what_a_rule_allows() -> None:
    mesh, relay = relayed(Mode.NONE)
    assert not leaks(mesh, "red")
    relay.command(ChangeRules((Change(ALLOW, vlan_id(mesh, "red")),)))
    mesh.run(3)
    assert passes(mesh, "red") and not leaks(mesh, "blue")


def test_a_reload_of_mode_and_patterns_ends_no_trunk() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red")
    trunks = set(relay.node.trunks)
    relay.post(PolicyChanged(Mode.ALLOW, (vlan_id(mesh, "blue"),)))
    mesh.run(3)
    assert passes(mesh, "blue") and not leaks(mesh, "red")
    assert set(relay.node.trunks) == trunks


def test_a_controllers_update_takes_effect_and_is_answered_once_the_data_plane_acts_on_it() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red", controllers=("a",))
    a = mesh.nodes["a"]
    sequence = a.command(Steer(relay.identity.peer_id, (Change(ALLOW, vlan_id(mesh, "blue")),)))["sequence"]
    mesh.run(1)
    assert a.node.relay_control.results[sequence].outcome is Outcome.DONE
    mesh.run(2)
    assert passes(mesh, "blue")
    second = a.command(Steer(relay.identity.peer_id, (Change(DENY, vlan_id(mesh, "blue")),)))["sequence"]
    assert second > sequence
    mesh.run(0.1)
    assert a.node.relay_control.results[second].outcome is Outcome.DONE
    assert not leaks(mesh, "blue") and passes(mesh, "red")


def test_nobody_else_changes_a_rule_whatever_it_sends() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red", controllers=("a",))
    stranger = Neighbour(mesh, "stranger", "r")
    stranger.greet()
    blue = Change(ALLOW, vlan_id(mesh, "blue"))
    good = signed("a", relay, 7, Change(ALLOW, "00*"))
    stranger.say(good)  # signed by the controller: whoever brings it
    mesh.run(0.1)
    assert stranger.got(RelayResult) == [RelayResult(7, Outcome.DONE, 7)]
    other = signed("a", mesh.nodes["b"], 10, blue)
    for update in (
        good,  # again
        signed("a", relay, 6, blue),  # older
        dataclasses.replace(signed("a", relay, 8, Change(ALLOW, "00*")), changes=(blue,)),
        dataclasses.replace(signed("a", relay, 8, blue), sequence=9),
        dataclasses.replace(signed("stranger", relay, 9, blue), controller=identity("a").peer_id),
        signed("stranger", relay, 9, blue),
        other,
        dataclasses.replace(other, relay=relay.identity.peer_id),
    ):
        stranger.say(update)
        mesh.run(0.3)
    assert not leaks(mesh, "blue")
    assert list(relay.node.policy.rules) == ["00*"]
    wanted = {"old": 2, "forged": 4, "no controller": 1, "another relay": 1}
    assert dict(relay.node.relay_control.refused) == wanted
    outcomes = [one.outcome for one in stranger.got(RelayResult)[1:]]
    assert outcomes == [Outcome.OLD, Outcome.OLD] + 6 * [Outcome.REFUSED]


def test_an_old_update_is_refused_after_a_restart_too_and_rules_are_kept() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red", controllers=("a",))
    stranger = Neighbour(mesh, "stranger", "r")
    first = signed("a", relay, 7, Change(ALLOW, vlan_id(mesh, "blue")))
    stranger.say(first, signed("a", relay, 8, Change(DENY, vlan_id(mesh, "blue"))))
    mesh.run(0.1)
    mesh.restart("r")
    for name in ("a", "b"):
        mesh.link(name, "r")
    again = Neighbour(mesh, "again", "r")
    again.say(first)
    mesh.run(3)
    assert again.got(RelayResult) == [RelayResult(7, Outcome.OLD, 8)]
    assert not leaks(mesh, "blue") and passes(mesh, "red")


def test_a_controller_whose_clock_went_back_is_told_the_last_sequence() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red", controllers=("a",))
    ahead = int((NOW_UNIX + 86_400) * 1000)
    stranger = Neighbour(mesh, "stranger", "r")
    stranger.say(signed("a", relay, ahead, Change(ALLOW, "00*")))
    mesh.run(0.1)
    a = mesh.nodes["a"]
    first = a.command(Steer(relay.identity.peer_id, (Change(ALLOW, "11*"),)))["sequence"]
    mesh.run(0.1)
    answer = a.node.relay_control.results[first]
    assert (answer.outcome, answer.last) == (Outcome.OLD, ahead)
    second = a.command(Steer(relay.identity.peer_id, (Change(ALLOW, "11*"),), above=answer.last))["sequence"]
    mesh.run(0.1)
    assert a.node.relay_control.results[second].outcome is Outcome.DONE


def test_a_neighbour_that_sends_updates_without_end_costs_few_signatures() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red", controllers=("a",))
    stranger = Neighbour(mesh, "stranger", "r")
    forged = dataclasses.replace(signed("stranger", relay, 9, Change(ALLOW, "*")), controller=identity("a").peer_id)
    for _ in range(500):
        stranger.say(forged)
    mesh.run(0.1)
    assert relay.node.relay_control.refused["forged"] <= 16
    assert relay.node.relay_control.refused["too often"] >= 484
    a = mesh.nodes["a"]
    sequence = a.command(Steer(relay.identity.peer_id, (Change(ALLOW, "11*"),)))["sequence"]
    mesh.run(0.1)
    assert a.node.relay_control.results[sequence].outcome is Outcome.DONE, "others have an allowance of their own"


def test_a_neighbour_that_proves_a_vlan_without_end_costs_few_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, relay = relayed(Mode.ALLOW, "red")
    grant = mesh.membership("red").grant(relay.node.now_unix)
    stranger, checks = Neighbour(mesh, "stranger", "r"), itertools.count()

    def counted(grant: Grant, now_unix: float) -> tuple[VTag, VlanId] | None:
        next(checks)
        return checked_grant(grant, now_unix)

    monkeypatch.setattr(relaying, "checked_grant", counted)
    for _ in range(3000):
        stranger.say(grant)
    mesh.run(0.1)
    assert next(checks) <= 1100
    assert passes(mesh, "red")


def test_a_rule_for_a_time_ends_with_it() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red")
    until = int(relay.node.now_unix) + 30
    relay.command(ChangeRules((Change(ALLOW, vlan_id(mesh, "blue"), until),)))
    mesh.run(5)
    assert passes(mesh, "blue")
    mesh.run(until - NOW_UNIX - mesh.now - 0.5)
    assert passes(mesh, "blue"), "not a moment before"
    mesh.run(until - NOW_UNIX - mesh.now + 0.1)
    assert not leaks(mesh, "blue") and passes(mesh, "red")
    assert RelayState.parse(relay.relay_state).rules == ()


def test_what_was_denied_for_a_time_passes_again_after_it() -> None:
    mesh, relay = relayed(Mode.OPEN)
    relay.command(ChangeRules((Change(DENY, vlan_id(mesh, "blue"), int(relay.node.now_unix) + 10),)))
    mesh.run(5)
    assert not leaks(mesh, "blue") and relay.node.policy.wants_grants
    mesh.run(8)
    assert passes(mesh, "blue") and passes(mesh, "red")
    assert not any(trunk.wants_grants for trunk in mesh.nodes["a"].node.trunks.values())


def test_a_relay_for_nobody_that_carried_one_vlan_for_a_time_is_taken_for_a_relay_no_longer() -> None:
    mesh, relay = relayed(Mode.NONE)
    relay.command(ChangeRules((Change(ALLOW, vlan_id(mesh, "red"), int(relay.node.now_unix) + 10),)))
    mesh.run(3)
    assert passes(mesh, "red") and all(trunk.relays for trunk in mesh.nodes["a"].node.trunks.values())
    mesh.run(8)
    assert not leaks(mesh, "red")
    assert not any(trunk.relays for trunk in mesh.nodes["a"].node.trunks.values())


def test_a_rule_whose_time_ended_while_the_relay_was_down_is_gone_when_it_is_back() -> None:
    mesh, relay = relayed(Mode.ALLOW, "red")
    relay.command(ChangeRules((Change(ALLOW, vlan_id(mesh, "blue"), int(relay.node.now_unix) + 2),)))
    mesh.run(0.5)
    mesh.nodes["r"].is_dead = True
    for link in list(relay.trunks.values()):
        link.close("killed")
    mesh.run(5)
    mesh.restart("r")
    for name in ("a", "b"):
        mesh.link(name, "r")
    mesh.run(3)
    assert not leaks(mesh, "blue") and passes(mesh, "red")
    assert mesh.nodes["r"].node.policy.rules == {}


def test_a_carriage_grant_is_for_one_relay_and_no_other() -> None:
    mesh, relay = relayed(Mode.RESTRICTED, "red")
    source, now_unix = mesh.membership("blue"), relay.node.now_unix
    line = source.carriage(relay.identity.peer_id, int(now_unix) + 86_400, now_unix)
    assert line is not None
    for bad in (
        dataclasses.replace(line, relay=identity("other").peer_id),
        source.carriage(identity("other").peer_id, int(now_unix) + 86_400, now_unix),
        dataclasses.replace(line, until=line.until + 1),
        dataclasses.replace(line, grant=mesh.membership("red").carriage(line.relay, line.until, now_unix).grant),  # type: ignore[union-attr]
        source.carriage(relay.identity.peer_id, int(now_unix) - 1, now_unix),
    ):
        assert bad is not None
        with pytest.raises(ConfigError):
            relay.command(TakeCarriage(bad))
    assert not leaks(mesh, "blue")
    relay.command(TakeCarriage(line))
    mesh.run(3)
    assert passes(mesh, "blue") and passes(mesh, "red")
    rule = next(iter(relay.node.policy.rules.values()))
    assert (rule.pattern, rule.until) == (vlan_id(mesh, "blue"), line.until)


def test_a_relay_that_was_told_in_advance_needs_no_member_among_its_neighbours() -> None:
    """a - r - s - t - b: the relay in the middle hears no grant, and carries what it was asked to."""
    mesh = SimMesh()
    for name in ("r", "s", "t"):
        mesh.add(name, mode=Mode.RESTRICTED).patterns = (vlan_id(mesh, "red"),)
        mesh.nodes[name].boot()
    mesh.add("a", "red")
    mesh.add("b", "red")
    for one, other in (("a", "r"), ("r", "s"), ("s", "t"), ("t", "b")):
        mesh.link(one, other)
    mesh.run(3)
    assert not leaks(mesh, "red")
    middle, now_unix = mesh.nodes["s"], mesh.nodes["s"].node.now_unix
    line = mesh.membership("red").carriage(middle.identity.peer_id, int(now_unix) + 86_400, now_unix)
    assert line is not None
    middle.command(TakeCarriage(line))
    mesh.run(5)
    assert passes(mesh, "red")


def test_an_update_for_a_relay_that_is_no_neighbour_says_so() -> None:
    mesh, _ = relayed(Mode.ALLOW, "red")
    with pytest.raises(DeviceError, match="no trunk"):
        mesh.nodes["a"].command(Steer(identity("nobody").peer_id, (Change(ALLOW, "*"),)))
