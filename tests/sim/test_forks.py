"""Two admins commit on two sides of a partition: after it heals one branch stays, and who was removed stays out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.vlan.commits import Step, fork, wins
from peertap.wire.charter import Removal
from tests.support.identities import identity
from tests.support.town import Town, key_of

steps = st.lists(
    st.builds(
        Step,
        epoch=st.just(0),
        transcript_hash=st.binary(min_size=2, max_size=2),
        rank=st.none() | st.integers(0, 2),
        removals=st.frozensets(st.sampled_from([Removal(b"x", 1, b""), Removal(b"y", 1, b"")])),
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
        return Step(1, bytes([digest]), rank, frozenset(Removal(one, 1, b"") for one in removed))

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


def test_newcomers_of_the_branch_that_lost_come_along() -> None:
    town = two_admins()
    town.split("a", "b", "c")
    town.invite("new", by="a")
    town.do("mayor", town["mayor"].kick(key_of("e"), town.unix))
    town.heal(30)
    assert key_of("new") not in town["mayor"].members  # it was never in the branch that won: it needs a new invite
    town.citizens.pop("new")
    town.agree("mayor", "a", "b", "c", "d")


def test_a_member_that_forks_by_itself_and_claims_to_win_moves_nobody() -> None:
    town = two_admins()
    before = town["mayor"].position
    epoch, digest = before
    forged = Removal(key_of("d"), epoch + 1, key_of("mayor"), identity("c").sign(b"anything"))
    claim = [*town["c"].log.steps(), Step(epoch + 1, b"better", 0, frozenset({forged}))]
    assert digest == claim[-2].transcript_hash
    for name in ("mayor", "a", "d"):
        town.do(name, town[name].shown_untrusted(key_of("c"), claim, town.now))
        town.do(name, town[name].asked_by_lost(key_of("c"), claim, town.now))
    town.pass_time(10)
    town.agree("mayor", "a", "b", "c", "d", "e")
    assert town["mayor"].members >= {key_of("mayor")}


def test_a_stranger_that_shows_a_branch_is_not_heard() -> None:
    town = two_admins()
    assert town["d"].shown_untrusted(key_of("stranger"), [Step(99, b"x", 0)], town.now) == []
    assert town["d"].told_position(key_of("stranger"), 99, b"x", town.now) == []
    assert town["mayor"].asked_by_lost(key_of("stranger"), [], town.now) == []


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
