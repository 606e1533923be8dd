"""What a hostile review tried in a VLAN where two of three admins have to agree, with b against all others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from peertap._core import mls_key_package_owner
from peertap.errors import ConfigError, PeerError
from peertap.vlan.commits import Step
from peertap.vlan.group import Group
from peertap.vlan.group_actions import Action, AskAdmins, GiveInfo, Show, ToAll
from peertap.vlan.saved import SavedGroup
from peertap.wire.charter import Charter, SpentInvite
from peertap.wire.motion import Admission, Motion, Removal, with_signatures
from tests.support.identities import identity
from tests.support.town import Town, Us, key_of, member

ADMINS = "mayor", "a", "b"


def council(*others: str) -> Town:
    return Town(*others, founders=("a", "b"), threshold=2)


def rogue_of(town: Town) -> Group:
    """Another process of b's, from its disk, that plays by no rules."""
    return Group.restore(SavedGroup.parse(town.citizens["b"].state), Us("b"), town.now)


def alone(group: Group, charter: Charter, unix: int, **changes: object) -> bytes:
    """A commit that it makes without asking anybody."""
    message, _ = group.mls.commit(unix, context=charter.emit() if charter != group.charter else None, **changes)  # type: ignore[arg-type]
    group.mls.drop_step()
    return message


def send(town: Town, message: bytes, *to: str) -> None:
    for name in to:
        town.do(name, town[name].received_untrusted(message, key_of("b"), *town.times))


def show(town: Town, steps: Sequence[Step], victim: str) -> list[Action]:
    shown = Show(key_of(victim), tuple(steps))
    shown = replace(shown, signature=identity("b").sign(shown.signed(town.vlan_id)))
    return town[victim].shown_untrusted(shown, key_of("b"), town.now)


def give_info(town: Town, rogue: Group, steps: Sequence[Step], victim: str) -> list[Action]:
    info = GiveInfo(key_of(victim), rogue.mls.group_info(), tuple(steps))
    info = replace(info, signature=identity("b").sign(info.signed(town.vlan_id, town[victim]._lost.nonce)))
    return town[victim].rejoin_untrusted(info, key_of("b"), *town.times)


def throwaway(town: Town, number: int) -> tuple[Removal, ...]:
    """Removals that invented identities signed for themselves."""
    out = []
    for index in range(number):
        who = identity(f"throwaway {index}")
        removal = Removal(who.public_key, os.urandom(32))
        out.append(with_signatures(removal, ((who.public_key, who.sign(removal.signed(town.vlan_id))),)))
    return tuple(out)


def agreed_kick(town: Town, who: str) -> None:
    town.do("mayor", town["mayor"].kick(key_of(who), town.unix))
    town.agree_on("a")
    assert who not in town.citizens or town[who].is_gone
    town.citizens.pop(who, None)


def agreed_changes(town: Town, number: int) -> None:
    """So many changes that have to do with d alone; what waits meanwhile waits on."""
    for at in range(number):
        town.do("mayor", town["mayor"].allow_bridging(key_of("d"), town.unix, is_allowed=at % 2 == 0))
        (waiting,) = [one for one in town["a"].motions.values() if not isinstance(one.motion, Removal)]
        town.do("a", town["a"].agree(waiting.name, *town.times))


def agreed_invite(town: Town, who: str) -> None:
    town.invite(who)
    town.agree_on("a")
    assert key_of(who) in town["mayor"].members


@pytest.mark.parametrize("victim", ["c", "mayor"])
def test_nobody_believes_that_it_was_removed_by_the_commit_of_one(victim: str) -> None:
    town = council("c", "d")
    rogue = rogue_of(town)
    send(town, alone(rogue, rogue.charter, town.unix, removes=[rogue._leaf_of(key_of(victim)).index]), victim, "d")
    town.pass_time(60)
    town.agree(*ADMINS, "c", "d")


def test_an_old_key_package_replaces_no_leaf() -> None:
    town = council("c", "d")
    rogue = rogue_of(town)
    changes = {"removes": [rogue._leaf_of(key_of("c")).index], "adds": [town.packages[key_of("c")]]}
    send(town, alone(rogue, rogue.charter, town.unix, **changes), "c", "d", "mayor")
    town.pass_time(60)
    town.agree(*ADMINS, "c", "d")
    assert "old key package" in town["d"].refused[-1]


@pytest.mark.parametrize("what", ["admit", "promote"])
@pytest.mark.parametrize("claim", [0, 5])
def test_what_two_agreed_on_stays_whatever_a_branch_claims(what: str, claim: int) -> None:
    town = council("c", "d")
    rogue = rogue_of(town)  # before it was agreed on
    shared = rogue.log.steps()
    if what == "admit":
        agreed_invite(town, "e")
    else:
        town.do("mayor", town["mayor"].promote(key_of("c"), town.unix))
        town.agree_on("a")
    rogue.mls.commit(town.unix)
    rogue.mls.keep()
    step = Step(rogue.mls.epoch, rogue.mls.transcript_hash, 0, throwaway(town, claim))
    for victim in ("mayor", "a", "d"):
        assert not any(isinstance(one, AskAdmins) for one in show(town, (*shared, step), victim))
    town.pass_time(10)
    town.agree(*ADMINS, "c", "d", *(["e"] if what == "admit" else []))
    assert what == "admit" or key_of("c") in town["d"].charter.admins


@pytest.mark.parametrize("kind", ["removals", "admissions"])
def test_steps_in_a_group_info_that_nobody_signed_are_not_taken(kind: str) -> None:
    town = council("c", "d")
    rogue = rogue_of(town)
    shared = rogue.log.steps()
    rogue.mls.commit(town.unix)
    rogue.mls.keep()
    bare = Step(rogue.mls.epoch, rogue.mls.transcript_hash, 0)
    admissions = tuple(Admission(os.urandom(32), os.urandom(32)) for _ in range(50))
    claimed: tuple[Motion, ...] = throwaway(town, 50) if kind == "removals" else admissions
    town.do("mayor", town["mayor"].rotate(town.unix))
    assert show(town, (*shared, bare, replace(bare, epoch=bare.epoch + 1)), "d") != []
    assert give_info(town, rogue, (*shared, replace(bare, motions=claimed)), "d") == []
    town.pass_time(80)
    town.agree(*ADMINS, "c", "d")


@pytest.mark.parametrize("what", ["aead", "lobby", "removals", "spent", "admissions", "changes"])
def test_a_group_info_changes_nothing_that_a_commit_may_not(what: str) -> None:
    town = council("c", "d", "e")
    agreed_kick(town, "e")
    newcomer = member("f", town.vlan_id)
    town.newcomers[key_of("f")] = ("f", newcomer)
    town.packages[key_of("f")] = newcomer.key_package(town.unix)
    used = SpentInvite(bytes(16), 1, town.unix + 3600)
    for name in ("mayor", "a"):
        actions = town[name].admit([(key_of("f"), town.packages[key_of("f")])], town.unix, used=used)
        town.do(name, actions)
    assert town["d"].charter.spent == (used,)
    rogue = rogue_of(town)
    shared, charter = rogue.log.steps(), rogue.charter
    changed = {
        "aead": replace(charter, aead=77),
        "lobby": replace(charter, lobby=b"x" * 32),
        "removals": replace(charter, removals=()),
        "spent": replace(charter, spent=()),
        "admissions": replace(charter, admissions=()),
        "changes": replace(charter, changes=0),
    }[what]
    assert changed != charter
    rogue.mls.commit(town.unix, context=changed.emit())
    rogue.mls.keep()
    step = Step(rogue.mls.epoch, rogue.mls.transcript_hash, 0)
    town.do("mayor", town["mayor"].rotate(town.unix))
    assert show(town, (*shared, step, replace(step, epoch=step.epoch + 1)), "d") != []
    assert give_info(town, rogue, (*shared, step), "d") == []
    assert town["d"].charter == charter


@pytest.mark.parametrize("what", ["emptied", "bogus", "removals", "spent"])
def test_one_admin_cannot_write_into_the_charters_lists(what: str) -> None:
    town = council("c", "d")
    rogue = rogue_of(town)
    charter = rogue.charter
    bogus = tuple(Admission(os.urandom(32), os.urandom(32)) for _ in range(256 - len(charter.admissions)))
    spent = tuple(SpentInvite(index.to_bytes(16, "big"), 1, 2**63) for index in range(1024))
    changed = {
        "emptied": replace(charter, admissions=()),
        "bogus": replace(charter, admissions=(*charter.admissions, *bogus)),
        "removals": replace(charter, removals=throwaway(town, 256)),
        "spent": replace(charter, spent=spent),
    }[what]
    send(town, alone(rogue, changed, town.unix), "mayor", "a", "c", "d")
    town.pass_time(10)
    town.agree(*ADMINS, "c", "d")
    assert town["d"].charter == charter


def test_the_first_admission_of_a_former_member_lets_it_in_no_more() -> None:
    town = council("c", "d")
    (first,) = [one for one in town["b"].charter.admissions if one.identity == key_of("c")]
    package = town.packages[key_of("c")]
    agreed_kick(town, "c")
    agreed_invite(town, "c")
    agreed_kick(town, "c")
    rogue = rogue_of(town)
    send(town, alone(rogue, rogue.charter.with_admission(first), town.unix, adds=[package]), "mayor", "a", "d")
    town.pass_time(10)
    town.agree(*ADMINS, "d")


def test_a_word_that_was_not_used_for_sixteen_changes_is_of_no_use() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    (old,) = town["b"].motions.values()
    agreed_changes(town, 16)
    assert not town["b"].motions
    both = town["b"]._signed(old.motion)
    leaf = town["b"]._leaf_of(key_of("c"))
    rogue = rogue_of(town)
    message = alone(rogue, rogue.charter.with_removals([both]), town.unix, removes=[leaf.index])  # type: ignore[list-item]
    send(town, message, "mayor", "a", "d")
    assert key_of("c") in town["d"].members


def test_who_is_to_go_does_not_stand_in_for_the_one_who_asked() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("a"), town.unix))
    town.citizens["mayor"].is_away = True
    town.agree_on("b")
    town.pass_time(100)
    assert town["a"].is_gone


def test_a_change_that_is_repeated_all_the_time_is_carried_out_by_another_admin_still() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    town.citizens["mayor"].is_away = True
    town.agree_on("a")
    (waiting,) = town["a"].motions.values()
    for _ in range(60):
        town.do("a", town["a"].moved_untrusted(waiting.motion, key_of("b"), *town.times))
        town.pass_time(1)
    assert town["c"].is_gone


def test_newcomers_before_the_door_keep_no_admin_from_asking_for_changes() -> None:
    town = council("c")
    for index in range(40):
        newcomer = member(f"newcomer {index}", town.vlan_id)
        who = key_of(f"newcomer {index}")
        town.do("mayor", town["mayor"].admit([(who, newcomer.key_package(town.unix))], town.unix))
    assert len(town["a"].motions) == 16
    agreed_kick(town, "c")


def test_the_name_of_a_change_is_this_nodes_own() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    names = [next(iter(town[name].motions)) for name in ADMINS]
    assert len(set(names)) == 3
    with pytest.raises(ConfigError, match="nothing like that"):
        town["a"].agree(names[2], *town.times)


@pytest.mark.parametrize("is_shown", [False, True])
def test_branches_that_lead_nowhere_keep_nobody_out(is_shown: bool) -> None:
    town = council("c", "d")
    town.citizens["d"].is_away = True
    for _ in range(70):
        town.do("mayor", town["mayor"].rotate(town.unix))
    town.citizens["b"].is_away, town.citizens["d"].is_away = True, False
    for second in range(240):
        for victim in ("mayor", "a") if is_shown else ():
            steps = town[victim].log.steps()
            fake = Step(steps[-1].epoch + 1, os.urandom(32), 0)
            town.do(victim, show(town, (*steps, fake, replace(fake, epoch=fake.epoch + 1)), victim))
        if second % 30 == 0:
            for other in ("mayor", "a", "c"):
                town.meet("d", other)
        town.pass_time(1)
    assert town["d"].epoch == town["mayor"].epoch


def test_two_admins_that_leave_at_once_leave_enough_behind() -> None:
    town = council("c", "d")
    town.split("b")
    town.do("a", town["a"].leave(town.unix))
    town.do("b", town["b"].leave(town.unix))
    town.heal(5)
    town.pass_time(120)
    assert len(town["mayor"].charter.admins) == 2


def test_an_admin_that_leaves_against_the_rule_stays_an_admin() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("a"), town.unix))
    town.agree_on("b")
    town.citizens.pop("a")
    rogue = town["b"]
    rogue._require_enough_admins = lambda without: None  # type: ignore[method-assign]
    town.do("b", rogue.leave(town.unix))
    town.pass_time(60)
    assert len(town["mayor"].charter.admins) == 2
    town.do("mayor", town["mayor"].rotate(town.unix))


def test_a_newcomer_does_not_believe_the_welcome_of_one() -> None:
    town = council("c")
    newcomer = member("f", town.vlan_id)
    package = newcomer.key_package(town.unix)
    rogue = rogue_of(town)
    admission = rogue._admission(key_of("f"), package)
    _, welcome = rogue.mls.commit(town.unix, adds=[package], context=rogue.charter.with_admission(admission).emit())
    with pytest.raises(PeerError, match="not enough admins agreed on us"):
        Group.join(newcomer, Us("f"), welcome, town.vlan_id, *town.times)


def test_a_member_that_wished_to_go_can_be_kicked_by_two_meanwhile() -> None:
    town = council("c", "d")
    town.do("c", town["c"].rotate(town.unix))
    town.do("c", town["c"].leave(town.unix))
    agreed_kick(town, "c")
    town.agree(*ADMINS, "d")


@pytest.mark.parametrize("story", ["kick invite kick", "invite", "invite promote kick invite"])
def test_who_slept_through_a_membership_and_the_log_comes_back(story: str) -> None:
    town = council("c", "d")
    town.citizens["d"].is_away = True
    who = "c" if story.startswith("kick") else "e"
    for what in story.split():
        match what:
            case "kick":
                agreed_kick(town, who)
            case "invite":
                agreed_invite(town, who)
            case _:
                town.do("mayor", town["mayor"].promote(key_of(who), town.unix))
                town.agree_on("a")
    for _ in range(70):
        town.do("mayor", town["mayor"].rotate(town.unix))
    town.come_back("d")
    town.pass_time(30)
    assert town["d"].position == town["mayor"].position


def test_a_lost_letter_full_of_removals_costs_little() -> None:
    town = council("c", "d")
    leaf = town["c"]._leaf_of(key_of("d"))
    junk = tuple((key, bytes(64)) for key in sorted(os.urandom(32) for _ in range(16)))
    removal = Removal(key_of("d"), leaf.key, 1, junk)
    asked = AskAdmins((Step(99, b"x", 0, (removal,) * 500),), bytes(16))
    checked = 0

    def counted(*_: object) -> bool:
        nonlocal checked
        checked += 1
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peertap.wire.motion.signed_by", counted)
        town["mayor"].asked_by_lost(key_of("c"), asked, town.now)
    assert checked == 0  # none of those who signed counts


def test_new_keys_of_a_member_do_not_stop_the_commits_of_admins() -> None:
    town = council("c", "d")
    town.do("c", town["c"].rotate(town.unix))
    assert any(isinstance(one, ToAll) for one in town["mayor"].rotate(town.unix))


# What a second review found


def lead(town: Town, rogue: Group, victim: str, charter: Charter | None = None, **changes: object) -> None:
    """Has a victim become lost by an invented far branch, and gives it a GroupInfo with no step that it knows."""
    context = None if charter is None else charter.emit()
    rogue.mls.commit(town.unix, context=context, **changes)  # type: ignore[arg-type]
    rogue.mls.keep()
    step = Step(rogue.mls.epoch, rogue.mls.transcript_hash, 0)
    assert any(isinstance(one, AskAdmins) for one in show(town, (replace(step, epoch=step.epoch + 9),), victim))
    town.do(victim, give_info(town, rogue, (step,), victim))


@pytest.mark.parametrize("what", ["admit", "promote", "kick"])
def test_an_older_branch_is_not_taken_by_who_was_made_to_look_for_another(what: str) -> None:
    town = council("c", "d", "g")
    rogue = rogue_of(town)
    shared = rogue.log.steps()
    if what == "admit":
        agreed_invite(town, "e")
    elif what == "kick":
        agreed_kick(town, "g")
    else:
        town.do("mayor", town["mayor"].promote(key_of("c"), town.unix))
        town.agree_on("a")
    rogue.mls.commit(town.unix)
    rogue.mls.keep()
    step = Step(rogue.mls.epoch, rogue.mls.transcript_hash, 0)
    for victim in ("d", "mayor"):
        agreed = town[victim].charter
        assert show(town, (replace(step, epoch=step.epoch + 9),), victim)
        town.do(victim, give_info(town, rogue, (*shared, step), victim))
        assert town[victim].charter == agreed


@pytest.mark.parametrize("what", ["own removal", "agreed removal", "first admission", "changes", "new keys"])
def test_who_is_up_to_date_is_not_led_where_it_knows_no_step(what: str) -> None:
    town = council("c", "d", "e")
    (first,) = [one for one in town["b"].charter.admissions if one.identity == key_of("c")]
    package = town.packages[key_of("c")]
    if what == "own removal":
        town.do("c", town["c"].leave(town.unix))
        town.pass_time(60)
        del town.citizens["c"]
    else:
        agreed_kick(town, "c")
    (old,) = [one for one in town["b"].charter.removals if one.identity == key_of("c")]
    agreed_invite(town, "c")
    if what == "first admission":
        agreed_kick(town, "c")
    rogue = rogue_of(town)
    before = town["d"].charter
    match what:
        case "own removal" | "agreed removal":
            leaf = rogue._leaf_of(key_of("c"))
            lead(town, rogue, "d", rogue.charter.with_removals([old]), removes=[leaf.index])
        case "first admission":
            lead(town, rogue, "d", rogue.charter.with_admission(first), adds=[package])
        case "changes":
            lead(town, rogue, "d", replace(rogue.charter, changes=1 << 61))
        case _:
            lead(town, rogue, "d")
    assert town["d"].charter == before
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.citizens["b"].is_away = True
    town.pass_time(120)
    assert town["d"].position == town["mayor"].position


def test_a_signature_in_the_name_of_who_is_removed_makes_no_removal_its_own() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    (waiting,) = town["b"].motions.values()
    both = with_signatures(town["b"]._signed(waiting.motion), ((key_of("c"), bytes(64)),))
    rogue = rogue_of(town)
    leaf = rogue._leaf_of(key_of("c"))
    send(town, alone(rogue, rogue.charter.with_removals([both]), town.unix, removes=[leaf.index]), "mayor", "a", "d")  # type: ignore[list-item]
    assert key_of("c") in town["d"].members
    town.agree_on("a")
    assert town["c"].is_gone


def test_an_admin_that_agrees_to_its_own_removal_is_gone() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("b"), town.unix))
    town.agree_on("b")
    town.pass_time(30)
    assert town["b"].is_gone
    town.citizens.pop("b")
    town.agree("mayor", "a", "c", "d")


def test_an_older_key_package_of_a_founder_replaces_no_leaf() -> None:
    town = council("c", "d")
    old = town.packages[key_of("a")]
    town.invite("a")  # it lost its state
    town.agree_on("b")
    leaf = town["mayor"].roster[key_of("a")]
    rogue = rogue_of(town)
    owner = mls_key_package_owner(old)
    assert owner is not None
    admission = rogue._signed(Admission(*owner, rogue.charter.changes + 1))
    changes = {"adds": [old], "removes": [rogue._leaf_of(key_of("a")).index]}
    send(town, alone(rogue, rogue.charter.with_admission(admission), town.unix, **changes), "mayor", "a", "c", "d")
    town.pass_time(30)
    assert town["d"].roster[key_of("a")] == leaf


def test_nobody_is_dismissed_by_a_word_of_long_ago() -> None:
    town = council("c", "d")
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    (old,) = town["b"].motions.values()
    agreed_changes(town, 18)
    word = town["b"]._signed(old.motion)
    assert isinstance(word, Removal)
    town.do("c", town["c"].dismissed_untrusted(word, town.now))
    assert not town["c"].is_gone


def test_removals_of_the_lost_branch_are_committed_in_an_order_that_all_take() -> None:
    town = Town("x", "y", "z", "u", "v", founders=("a", "b", "c"), threshold=2)
    town.split("b", "c", "x", "y", "v")
    town.do("x", town["x"].leave(town.unix))
    town.pass_time(60)
    town.do("b", town["b"].kick(key_of("y"), town.unix))
    town.agree_on("c")
    for name in ("x", "y"):
        assert town[name].is_gone
        town.citizens.pop(name)
    for who in ("z", "u"):
        town.do("mayor", town["mayor"].allow_bridging(key_of(who), town.unix, is_allowed=True))
        town.agree_on("a")
    town.heal(90)
    town.agree("mayor", "a", "b", "c", "z", "u", "v")


def test_a_removal_of_the_lost_branch_that_would_leave_too_few_admins_keeps_nobody_out() -> None:
    town = Town(founders=("a", "b", "c"), threshold=3)
    for name in ("x", "y"):
        town.invite(name)
        town.agree_on("a", "b")
    town.split("b", "c", "y")
    town.do("a", town["a"].leave(town.unix))
    town.do("c", town["c"].leave(town.unix))
    town.pass_time(70)
    for name in ("a", "c"):
        assert town[name].is_gone
        town.citizens.pop(name)
    town.heal(120)
    assert len({town[name].position for name in ("mayor", "b", "x", "y")}) == 1


def test_an_admin_that_wishes_to_go_may_commit_meanwhile() -> None:
    town = council("c", "d")
    town.citizens["mayor"].is_away = town.citizens["a"].is_away = True
    town.do("b", town["b"].leave(town.unix))
    town.do("b", town["b"].rotate(town.unix))
    assert town["b"].position == town["d"].position
