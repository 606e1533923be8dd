"""Two admins commit on two sides of a partition: after it heals one branch stays, and who was removed stays out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.vlan.commits import Step, fork, wins
from peertap.vlan.group_actions import AskAdmins, GiveInfo, Show
from peertap.wire.charter import SpentInvite
from peertap.wire.motion import Removal
from tests.support.identities import identity
from tests.support.town import Town, key_of, member

steps = st.lists(
    st.builds(
        Step,
        epoch=st.just(0),
        transcript_hash=st.binary(min_size=2, max_size=2),
        rank=st.none() | st.integers(0, 2),
        motions=st.lists(st.sampled_from([Removal(b"x", b""), Removal(b"y", b"")]), unique=True).map(tuple),
    ),
    max_size=3,
)


@given(steps, steps)
def test_both_sides_of_a_fork_come_to_the_same_winner(ours: list[Step], theirs: list[Step]) -> None:
    if ours and theirs and ours[0].transcript_hash == theirs[0].transcript_hash:
        return  # no fork
    if ours or theirs:
        assert wins(ours, theirs) != wins(theirs, ours)


def test_the_rule_looks_at_return_removal_rank_length_and_hash_in_this_order() -> None:
    def step(rank: int | None, digest: int, *removed: bytes) -> Step:
        return Step(1, bytes([digest]), rank, tuple(Removal(one, b"") for one in removed))

    assert wins([step(9, 9)], [step(None, 0, b"x")])
    assert wins([step(9, 9, b"x")], [step(0, 0)])
    assert wins([step(0, 9)], [step(1, 0), step(1, 0)])
    assert wins([step(1, 9), step(1, 9)], [step(1, 0)])
    assert wins([step(1, 0)], [step(1, 1)])


def test_branches_without_a_common_point_are_no_fork_that_can_be_judged() -> None:
    ours, theirs = [Step(5, b"a", 0), Step(6, b"b", 0)], [Step(8, b"c", 0)]
    assert fork(ours, theirs) is None
    assert fork(ours, [ours[0], Step(6, b"d", 0)]) == (5, [ours[1]], [Step(6, b"d", 0)])


def two_admins() -> Town:
    town = Town("a", "b", "c", "d", "e")
    town.do("mayor", town["mayor"].promote(key_of("a"), town.unix))
    return town


def test_both_sides_rotate_and_all_are_in_one_epoch_five_seconds_after_it_heals() -> None:
    town = two_admins()
    town.split("a", "b", "c")
    for _ in range(3):
        town.do("mayor", town["mayor"].rotate(town.unix))
        town.do("a", town["a"].rotate(town.unix))
    assert town["a"].position != town["mayor"].position
    town.heal()
    town.agree("mayor", "a", "b", "c", "d", "e")


def test_who_was_removed_on_either_side_is_out_after_it_heals() -> None:
    town = two_admins()
    town.split("a", "b", "c")
    town.do("mayor", town["mayor"].kick(key_of("b"), town.unix))  # who is on the other side
    town.do("a", town["a"].kick(key_of("e"), town.unix))
    assert not town["b"].is_gone and not town["e"].is_gone
    town.heal(30)
    out = {"b", "e"}
    for name in out:
        assert key_of(name) not in town["mayor"].members
        town.citizens.pop(name)
    town.agree("mayor", "a", "c", "d")


def test_a_newcomer_of_the_branch_that_lost_needs_a_new_invite() -> None:
    town = two_admins()
    town.split("a", "b", "c")
    town.invite("new", by="a")
    town.do("mayor", town["mayor"].kick(key_of("e"), town.unix))
    town.heal(30)
    town.citizens.pop("new")  # it was never in the branch that won
    town.agree("mayor", "a", "b", "c", "d")
    town.invite("new")
    town.agree("mayor", "a", "b", "c", "d", "new")


def test_a_member_that_forks_by_itself_and_claims_to_win_moves_nobody() -> None:
    town = two_admins()
    epoch, _ = town["mayor"].position
    key = next(leaf.key for leaf in town["d"].mls.leaves if leaf.identity == key_of("d"))
    forged = Removal(key_of("d"), key, 1, ((key_of("mayor"), identity("c").sign(b"anything")),))
    claim = (*town["c"].log.steps(), Step(epoch + 1, b"better", 0, (forged,)))
    for name in ("mayor", "a", "b"):
        shown = Show(key_of(name), claim)
        shown = replace(shown, signature=identity("c").sign(shown.signed(town.vlan_id)))
        for sender in ("c", "a", "mayor"):
            town.do(name, town[name].shown_untrusted(shown, key_of(sender), town.now))
        town.do(name, town[name].asked_by_lost(key_of("c"), AskAdmins(claim, bytes(16)), town.now))
        town.do(name, town[name].given([b"junk", b"more"], key_of("c"), town.now, town.unix))
        town.do(name, town[name].told_position(key_of("c"), epoch + 9, b"x", town.now))
    town.pass_time(70)
    town.agree("mayor", "a", "b", "c", "d", "e")


def test_an_old_removal_does_not_remove_who_was_admitted_again() -> None:
    town = two_admins()
    before = town["mayor"].log.steps()
    town.do("mayor", town["mayor"].kick(key_of("e"), town.unix))
    (old,) = town["mayor"].charter.removals
    town.invite("e")
    claim = (*before, Step(99, b"x", 0, (old,)))
    town.do("mayor", town["mayor"].asked_by_lost(key_of("b"), AskAdmins(claim, bytes(16)), town.now))
    town.pass_time(20)
    town.agree("mayor", "a", "b", "c", "d", "e")


def test_an_old_group_info_is_of_no_use() -> None:
    town = two_admins()
    (old,) = town["mayor"].asked_by_lost(key_of("b"), AskAdmins((), b"n" * 16), town.now)
    assert isinstance(old, GiveInfo)
    town.do("mayor", town["mayor"].kick(key_of("e"), town.unix))
    town.do("b", town["b"]._lose(town.now))
    before = town["b"].position
    assert town["b"].rejoin_untrusted(old, key_of("mayor"), *town.times) == []
    assert town["b"].position == before


def test_both_sides_of_a_fork_merge_although_one_was_restarted() -> None:
    town = two_admins()
    town.split("a", "b", "c")
    for _ in range(3):
        town.do("mayor", town["mayor"].rotate(town.unix))
        town.do("a", town["a"].rotate(town.unix))
    for name in ("a", "b", "c"):
        town.citizens[name].restart(town.now)
    town.heal(20)
    town.agree("mayor", "a", "b", "c", "d", "e")


def lost_with_a(*names: str) -> Town:
    """A partition in which a has these on its side, and its branch loses: the other one removes e."""
    town = two_admins()
    town.split("a", *names)
    town.do("mayor", town["mayor"].kick(key_of("e"), town.unix))
    town.citizens.pop("e")
    town.do("a", town["a"].rotate(town.unix))
    return town


def test_a_lost_member_is_not_calmed_by_an_admin_that_is_on_the_lost_branch_too() -> None:
    town = lost_with_a("b")
    town.split()
    town.citizens["mayor"].is_away = True
    shown = town["mayor"]._show(key_of("b"))
    town.do("b", town["b"].shown_untrusted(shown, key_of("mayor"), town.now))  # it asks, and a answers alone
    town.citizens["mayor"].is_away = False
    town.pass_time(4)
    assert town["b"].position == town["mayor"].position
    town.do("a", town["a"].shown_untrusted(town["mayor"]._show(key_of("a")), key_of("mayor"), town.now))
    town.pass_time(4)
    town.agree("mayor", "a", "b", "c", "d")


def test_a_lost_member_does_not_follow_the_lost_branch_further() -> None:
    town = lost_with_a("b")
    town.citizens["b"].is_away = True
    town.do("a", town["a"].rotate(town.unix))  # b is behind on the branch that loses
    town.split()
    town.citizens["b"].is_away, town.citizens["mayor"].is_away = False, True
    shown = town["mayor"]._show(key_of("b"))
    before = town["b"].position
    town.do("b", town["b"].shown_untrusted(shown, key_of("mayor"), town.now))
    town.pass_time(4)
    assert town["b"].position == before
    town.citizens["mayor"].is_away = False
    town.pass_time(4)
    assert town["b"].position == town["mayor"].position


@pytest.mark.parametrize("more", [0, 1, 2])
def test_two_admins_that_never_lost_sight_of_each_other_notice_by_a_late_commit(more: int) -> None:
    town = two_admins()
    town.split("a", "b")
    for _ in range(more):
        town.do("mayor", town["mayor"].rotate(town.unix))
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.do("a", town["a"].rotate(town.unix))
    town.split()
    (late,) = town["a"].log.last().messages or ()
    for name in ("mayor", "c", "d", "e"):  # nobody says where it is: no way was ever gone
        town.do(name, town[name].received_untrusted(late, key_of("a"), *town.times))
    town.pass_time(20)
    town.agree("mayor", "a", "b", "c", "d", "e")


@pytest.mark.parametrize("seed", range(40))
def test_after_a_partition_all_agree_though_each_says_only_once_where_it_is(seed: int) -> None:
    chance = random.Random(seed)
    town = two_admins()
    town.split("a", *chance.sample(["b", "c", "d", "e"], chance.randrange(5)))
    for _ in range(chance.randrange(2, 7)):
        admin = chance.choice(["mayor", "a"])
        town.do(admin, town[admin].rotate(town.unix))
    town.chance = chance
    town.meet_once(chance)
    town.pass_time(30)
    town.agree("mayor", "a", "b", "c", "d", "e")


def test_who_comes_back_finds_its_place_in_the_other_branchs_tree() -> None:
    town = two_admins()
    town.do("mayor", town["mayor"].kick(key_of("b"), town.unix))  # a place is free before those of c, d and e
    town.citizens.pop("b")
    town.split("a", "c")
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.do("a", town["a"].rotate(town.unix))
    town.split()
    town.do("c", town["c"]._lose(town.now))  # its return crosses what follows
    town.heal(30)
    town.agree("mayor", "a", "c", "d", "e")


def test_a_member_that_wishes_to_go_can_be_kicked_meanwhile() -> None:
    town = two_admins()
    town.do("e", town["e"].leave(town.unix))
    town.do("mayor", town["mayor"].kick(key_of("e"), town.unix))
    town.pass_time(30)
    assert town["e"].is_gone
    town.agree("mayor", "a", "b", "c", "d")


def test_a_wish_to_go_that_a_commit_did_not_take_up_is_said_again() -> None:
    town = two_admins()
    town.citizens["mayor"].is_away = town.citizens["a"].is_away = True
    town.do("e", town["e"].leave(town.unix))  # no admin hears it
    town.citizens["mayor"].is_away = town.citizens["a"].is_away = False
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.pass_time(30)
    assert town["e"].is_gone
    town.agree("mayor", "a", "b", "c", "d")


def test_returns_do_not_outweigh_an_admins_commit() -> None:
    external = [Step(number, bytes([number]), None) for number in range(1, 6)]
    assert not wins(external, [Step(1, b"z", None), Step(2, b"y", 5)])


@given(steps, steps, steps)
def test_the_rule_is_an_order(one: list[Step], two: list[Step], three: list[Step]) -> None:
    if wins(one, two) and wins(two, three):
        assert wins(one, three)


def test_a_stranger_is_not_heard() -> None:
    town = two_admins()
    d, stranger = town["d"], key_of("stranger")
    shown = Show(key_of("d"), (Step(99, b"x", 0),))
    shown = replace(shown, signature=identity("stranger").sign(shown.signed(town.vlan_id)))
    assert d.shown_untrusted(shown, stranger, town.now) == []
    assert d.told_position(stranger, 99, b"x", town.now) == []
    assert d.given([b"junk"], stranger, town.now, town.unix) == []
    assert d.reminded_untrusted(bytes(40), stranger) == []
    assert town["mayor"].asked_by_lost(stranger, AskAdmins((), bytes(16)), town.now) == []


@pytest.mark.parametrize("seed", range(12))
def test_after_any_partition_all_agree_and_the_removed_stay_out(seed: int) -> None:
    chance = random.Random(seed)
    town = two_admins()
    out: set[str] = set()
    for _ in range(4):
        plain = ["b", "c", "d", "e"]
        town.split("a", *chance.sample(plain, chance.randrange(4)))
        for _ in range(chance.randrange(1, 6)):
            admin = chance.choice(["mayor", "a"])
            left = [name for name in plain if name not in out and key_of(name) in town[admin].members]
            if left and chance.random() < 0.15:
                gone = chance.choice(left)
                town.do(admin, town[admin].kick(key_of(gone), town.unix))
                out.add(gone)
            else:
                town.do(admin, town[admin].rotate(town.unix))
        town.heal(40)
        for name in out:
            town.citizens.pop(name, None)
        town.agree("mayor", "a", *(name for name in plain if name not in out))


def test_the_side_that_lost_comes_back_though_it_let_somebody_in_by_an_invite() -> None:
    town = two_admins()
    town.split("a", "c")
    newcomer = member("x", town.vlan_id)
    town.newcomers[key_of("x")] = ("x", newcomer)
    used = SpentInvite(bytes(16), 1, town.unix + 86_400)
    town.do("a", town["a"].admit([(key_of("x"), newcomer.key_package(town.unix))], town.unix, used=used))
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.heal(30)
    town.citizens.pop("x")  # it needs a new invite
    town.agree("mayor", "a", "b", "c", "d", "e")
