"""VLANs in which two of three admins have to agree: nothing that one of them does alone is taken, by any way."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from peertap.errors import ConfigError
from peertap.vlan.agreement import Agreed, between, unproven
from peertap.vlan.commits import Step
from peertap.vlan.group_actions import AskAdmins, GiveInfo, Move, Show, ToAll
from peertap.vlan.motions import describe
from peertap.wire.charter import Charter
from peertap.wire.motion import Admission, Removal, Roles, with_signatures
from tests.support.identities import identity
from tests.support.town import Town, key_of, member

ADMINS = "mayor", "a", "b"
ADMIN_KEYS = tuple(map(key_of, ADMINS))


def council(*others: str) -> Town:
    """The mayor, a and b are admins, and two of them have to agree."""
    return Town(*others, founders=("a", "b"), threshold=2)


def test_founders_come_in_by_one_of_them_and_all_others_by_two() -> None:
    town = council()
    town.agree(*ADMINS)
    town.invite("c")
    town.agree(*ADMINS)
    assert [describe(one.motion, town["a"].charter) for one in town["a"].motions.values()] == [[("admit", key_of("c"))]]
    town.agree_on("a")
    town.agree(*ADMINS, "c")
    assert not any(town[name].motions for name in ADMINS)


def test_a_removal_takes_two_and_whoever_asked_for_it_carries_it_out() -> None:
    town = council("c", "d")
    town.do("b", town["b"].kick(key_of("c"), town.unix))
    town.agree(*ADMINS, "c", "d")
    town.agree_on("a")
    town.pass_time(20)
    town.citizens.pop("c")
    town.agree(*ADMINS, "d")
    (removal,) = town["d"].charter.removals
    assert {who for who, _ in removal.signatures} == {key_of("a"), key_of("b")}


def test_two_admins_who_ask_for_the_same_have_agreed() -> None:
    town = council("c", "d")
    town.do("b", town["b"].kick(key_of("c"), town.unix))
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    assert town["c"].is_gone


def test_roles_take_two_and_are_void_once_others_were_agreed_on() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].promote(key_of("c"), town.unix))
    town.do("a", town["a"].allow_bridging(key_of("d"), town.unix, is_allowed=True))
    assert town["c"].charter.admins == tuple(map(key_of, ADMINS))
    (promotion,) = [
        name for name, one in town["b"].motions.items() if describe(one.motion, town["b"].charter)[0][0] == "promote"
    ]
    town.do("b", town["b"].agree(promotion, *town.times))
    assert town["d"].charter.admins == tuple(map(key_of, (*ADMINS, "c")))
    assert not town["b"].motions  # the other one was about the roles before
    town.do("a", town["a"].allow_bridging(key_of("d"), town.unix, is_allowed=True))
    town.agree_on("c")
    assert town["mayor"].charter.bridges == {key_of("d")}
    town.agree(*ADMINS, "c", "d")


def test_another_admin_stands_in_when_the_one_who_asked_is_away() -> None:
    town = council("c", "d")
    town.do("b", town["b"].kick(key_of("c"), town.unix))
    town.citizens["b"].is_away = True
    town.agree_on("a")
    assert not town["c"].is_gone
    town.pass_time(30)
    assert town["c"].is_gone
    town.come_back("b")
    town.agree(*ADMINS, "d")


def test_an_admin_that_was_away_is_asked_again() -> None:
    town = council("c", "d")
    town.citizens["a"].is_away = True
    town.do("b", town["b"].kick(key_of("c"), town.unix))
    town.citizens["a"].is_away = False
    town.pass_time(70)
    town.agree_on("a")
    assert town["c"].is_gone


def test_what_an_admin_refused_is_done_without_it() -> None:
    town = council("c", "d")
    town.do("b", town["b"].kick(key_of("c"), town.unix))
    (name,) = town["a"].motions
    town["a"].refuse(name)
    town.pass_time(130)
    assert not town["c"].is_gone
    town.agree_on("mayor")
    assert town["c"].is_gone


def test_an_admin_goes_by_itself_while_enough_are_left() -> None:
    town = council("c")
    town.do("b", town["b"].leave(town.unix))
    town.pass_time(12)
    assert town["b"].is_gone
    town.agree("mayor", "a", "c")
    with pytest.raises(ConfigError, match="fewer would be left"):
        town["a"].leave(town.unix)
    with pytest.raises(ConfigError, match="fewer would be left"):
        town["mayor"].kick(key_of("a"), town.unix)
    with pytest.raises(ConfigError, match="fewer would be left"):
        town["mayor"].demote(key_of("a"), town.unix)


def test_who_is_no_admin_agrees_to_nothing() -> None:
    town = council("c", "d")
    removal = town["c"]._signed(Removal(key_of("d"), town["c"]._leaf_of(key_of("d")).key))
    for name in ADMINS:
        assert town[name].moved_untrusted(removal, key_of("c"), *town.times) == []
        assert town[name].moved_untrusted(removal, key_of("mayor"), *town.times) == []
        assert not town[name].motions
    with pytest.raises(ConfigError, match="only admins"):
        town["c"].agree("00000000", *town.times)
    with pytest.raises(ConfigError, match="nothing like that"):
        town["a"].agree("00000000", *town.times)


def test_one_admin_cannot_fill_the_others_lists() -> None:
    town = council("c")
    for number in range(100):
        bridges = frozenset({key_of("c")} if number % 2 else ())
        motion = town["b"]._signed(Roles(town["b"].charter.changes + 1 + number // 8, ADMIN_KEYS, bridges))
        town["a"].moved_untrusted(motion, key_of("b"), *town.times)
    assert len(town["a"].motions) == 16
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    assert len(town["a"].motions) == 17


def alone(town: Town, name: str, before: Charter, after: Charter, **changes: object) -> bytes:
    """A commit that an admin makes without asking anybody, by changing its own rules."""
    group = town[name]
    message, _ = group.mls.commit(town.unix, context=after.emit() if after != before else None, **changes)
    group.mls.drop_step()
    return message


@pytest.mark.parametrize("what", ["kick", "admit", "promote", "forged", "old roles", "readmit"])
def test_what_one_admin_does_alone_is_refused_by_all(what: str) -> None:
    town = council("c", "d")
    before = town["b"].charter
    eve = member("eve", town.vlan_id)
    leaf = town["b"]._leaf_of(key_of("c"))
    one = town["b"]._signed(Removal(key_of("c"), leaf.key))
    package = eve.key_package(town.unix)
    match what:
        case "kick":
            message = alone(town, "b", before, before.with_removals([one]), removes=[leaf.index])
        case "forged":
            signature = identity("b").sign(one.signed(town.vlan_id))
            two = with_signatures(one, ((key_of("a"), signature),))
            message = alone(town, "b", before, before.with_removals([two]), removes=[leaf.index])
        case "admit":
            admission = town["b"]._admission(key_of("eve"), package)
            message = alone(town, "b", before, before.with_admission(admission), adds=[package])
        case "promote":
            message = alone(town, "b", before, before.with_admin(key_of("c")))
        case "old roles":
            town.do("mayor", town["mayor"].promote(key_of("c"), town.unix))
            town.agree_on("a")
            old = town["b"].charter.roles
            assert old is not None
            town.do("mayor", town["mayor"].demote(key_of("c"), town.unix))
            town.agree_on("a")
            before = town["b"].charter
            message = alone(town, "b", before, before.with_roles(old))
        case _:
            (admission,) = [one for one in before.admissions if one.identity == key_of("c")]
            town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
            town.agree_on("a")
            town.invite("c", by="b")
            before = town["b"].charter
            after = replace(
                before.with_newcomers({key_of("c")}, None, town.unix), admissions=(*before.admissions, admission)
            )
            message = alone(town, "b", before, after, adds=[town.packages[key_of("c")]])
    for name in ("mayor", "a", "d"):
        position, refusals = town[name].position, town[name].refusals
        town.do(name, town[name].received_untrusted(message, key_of("b"), *town.times))
        assert town[name].position == position
        assert town[name].refusals == refusals + 1
        assert any(why in town[name].refused[-1] for why in ("enough admins", "no admin signed", "something else"))


def test_one_admin_cannot_lead_members_into_a_group_of_its_own_making() -> None:
    """It shows a branch on which it removed somebody, or let somebody in, and gives GroupInfos of it."""
    town = council("c", "d")
    removal = town["b"]._signed(Removal(key_of("d"), town["b"]._leaf_of(key_of("d")).key))
    eve = member("eve", town.vlan_id)
    package = eve.key_package(town.unix)
    admission = town["b"]._admission(key_of("eve"), package)
    town.citizens["b"].restart(town.now)  # in a process that plays by no rules
    rogue = town["b"]
    for charter, changes in (
        (rogue.charter.with_removals([removal]), {"removes": [rogue._leaf_of(key_of("d")).index]}),
        (rogue.charter.with_admission(admission), {"adds": [package]}),
        (rogue.charter.with_admin(key_of("c")), {}),
    ):
        shared = rogue.log.steps()
        before = rogue.charter
        rogue.mls.commit(town.unix, context=charter.emit(), **changes)
        step = Step(rogue.mls.epoch, rogue.mls.transcript_hash, 2, between(before, charter))
        steps = (*shared, step, replace(step, epoch=step.epoch + 1), replace(step, epoch=step.epoch + 2))
        for victim in ("c", "a"):
            shown = Show(key_of(victim), steps)
            shown = replace(shown, signature=identity("b").sign(shown.signed(town.vlan_id)))
            asked = town[victim].shown_untrusted(shown, key_of("b"), town.now)
            assert not step.motions or not asked  # a branch that says nothing of what it did may be a new key only
            (asked,) = asked or town[victim]._lose(town.now)  # else it was lost for another reason
            assert isinstance(asked, AskAdmins)
            info = GiveInfo(key_of(victim), rogue.mls.group_info(), (*shared, step))
            info = replace(info, signature=identity("b").sign(info.signed(town.vlan_id, asked.nonce)))
            position = town[victim].position
            town.do(victim, town[victim].rejoin_untrusted(info, key_of("b"), *town.times))
            assert town[victim].position == position
            assert "does not follow" in town[victim].refused[-1]
            town[victim]._lost.end()
        rogue.mls.drop_step()


def test_a_branch_with_more_that_was_agreed_on_stays() -> None:
    town = council("c", "d", "e")
    town.split("mayor", "c")
    town.do("a", town["a"].kick(key_of("e"), town.unix))
    town.agree_on("b")
    town.do("a", town["a"].promote(key_of("d"), town.unix))
    town.agree_on("b")
    for _ in range(3):
        town.do("mayor", town["mayor"].rotate(town.unix))
    town.heal(30)
    town.citizens.pop("e")
    town.agree(*ADMINS, "c", "d")
    assert key_of("d") in town["c"].charter.admins


def test_what_both_sides_agreed_on_ends_in_one_branch() -> None:
    town = Town("x", "y", founders=("a", "b", "c"), threshold=2)  # two of four: both sides can
    town.split("mayor", "a", "x")
    town.do("mayor", town["mayor"].promote(key_of("x"), town.unix))
    town.agree_on("a")
    town.do("b", town["b"].allow_bridging(key_of("y"), town.unix, is_allowed=True))
    town.agree_on("c")
    town.invite("new", by="b")
    town.agree_on("c")
    assert key_of("new") in town["y"].members
    town.citizens["a"].restart(town.now)
    town.citizens["y"].restart(town.now)
    town.heal(40)
    town.agree("mayor", "a", "b", "c", "x", "y", "new")
    assert town["x"].charter.bridges == {key_of("y")}


def test_who_was_away_believes_what_was_agreed_on_meanwhile() -> None:
    town = council("c", "d")
    town.citizens["d"].is_away = True
    town.do("a", town["a"].kick(key_of("c"), town.unix))
    town.agree_on("b")
    town.do("a", town["a"].promote(key_of("d"), town.unix))
    town.agree_on("b")
    for _ in range(70):
        town.do("mayor", town["mayor"].rotate(town.unix))  # longer than the log
    town.citizens.pop("c")
    town.come_back("d")
    town.pass_time(30)
    town.agree(*ADMINS, "d")


def test_a_state_that_is_restored_knows_what_was_agreed_on_before() -> None:
    town = council("c", "d")
    town.do("a", town["a"].kick(key_of("c"), town.unix))
    town.agree_on("b")
    before = [one.before for one in town["d"].log.all()]
    assert sum(one is not None for one in before) == 1  # all others came before it
    town.citizens["d"].restart(town.now)
    assert [one.before for one in town["d"].log.all()] == before


@pytest.mark.parametrize("seed", range(12))
def test_after_any_partition_of_a_council_all_agree(seed: int) -> None:
    chance = random.Random(seed)
    town = council("c", "d", "e", "f")
    out: set[str] = set()
    for _ in range(4):
        plain = ["c", "d", "e", "f"]
        town.split(*chance.sample(ADMINS, 1), *chance.sample(plain, chance.randrange(4)))
        for _ in range(chance.randrange(1, 6)):
            admin = chance.choice(ADMINS)
            left = [name for name in plain if name not in out and key_of(name) in town[admin].members]
            what = chance.random()
            if left and what < 0.2:
                town.do(admin, town[admin].kick(key_of(chance.choice(left)), town.unix))
            elif left and what < 0.4:
                who = key_of(chance.choice(left))
                is_bridge = who in town[admin].charter.bridges
                town.do(admin, town[admin].allow_bridging(who, town.unix, is_allowed=not is_bridge))
            else:
                town.do(admin, town[admin].rotate(town.unix))
            if chance.random() < 0.5:
                town.agree_on(chance.choice(ADMINS))
            out |= {name for name in plain if any(key_of(name) in town[one].charter.removed for one in ADMINS)}
        town.heal(60)
        out |= {name for name in plain if name in town.citizens and town[name].is_gone}
        for name in out:
            town.citizens.pop(name, None)
        town.agree(*ADMINS, *(name for name in plain if name not in out))


def test_where_one_is_enough_nothing_has_to_be_proven() -> None:
    town = Town("b")
    nothing = Agreed(town["b"].charter, {})
    assert unproven(nothing, Agreed(replace(town["b"].charter, admins=()), {b"x": b"y"}), town.vlan_id) is None
    assert not any(isinstance(one, Move) for one in town["mayor"].kick(key_of("b"), town.unix))


def test_an_admission_says_nothing_about_another_key() -> None:
    town = council()
    town.invite("c")
    (waiting,) = town["a"].motions.values()
    assert isinstance(waiting.motion, Admission)
    other = member("c", town.vlan_id)
    assert town["mayor"]._admission(key_of("c"), other.key_package(town.unix)).key != waiting.motion.key
    actions = town["mayor"].admit([(key_of("c"), other.key_package(town.unix))], town.unix)
    assert not any(isinstance(one, ToAll) for one in actions)
