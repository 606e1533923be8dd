"""Which charter and roster follow from others by what admins agreed on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peertap._core import mls_key_package_owner
from peertap.vlan.agreement import Agreed, unproven, unproven_leap
from peertap.vlan.commits import charter_vlan_id
from peertap.wire.charter import Charter, SpentInvite
from peertap.wire.motion import Admission, M, Removal, Roles, with_signatures
from tests.support.identities import identity
from tests.support.town import charter_of, key_of, member

START = charter_of("a", "b", "c", threshold=2)
VLAN_ID = charter_vlan_id(START)
KEYS = {name: name.encode() * 32 for name in "abcdef"}
BEFORE = Agreed(START, {key_of(name): KEYS[name] for name in "abd"})  # c is yet to come


def signed(motion: M, *names: str) -> M:
    found = [(key_of(name), identity(name).sign(motion.signed(VLAN_ID))) for name in names]
    return with_signatures(motion, tuple(found))


def after(charter: Charter, names: str) -> Agreed:
    return Agreed(charter, {key_of(name): KEYS[name] for name in names})


def removal(name: str, *by: str, number: int = 1) -> Removal:
    return signed(Removal(key_of(name), KEYS[name], number), *by)


def admission(name: str, *by: str, number: int = 1) -> Admission:
    return signed(Admission(key_of(name), KEYS[name], number), *by)


def roles(admins: str, *by: str, number: int = 1) -> Roles:
    return signed(Roles(number, tuple(map(key_of, admins)), frozenset()), *by)


PROMOTED = START.with_roles(roles("abcd", "a", "b"))


@pytest.mark.parametrize(
    "found",
    [
        BEFORE,
        after(START.with_removals([removal("d", "a", "b")]), "ab"),
        after(START.with_removals([removal("d", "d")]), "ab"),
        after(START.with_admission(admission("e", "a", "b")), "abde"),
        after(START.with_admission(admission("c", "a")), "abcd"),  # a founder
        after(PROMOTED, "abd"),
        after(START.with_roles(roles("ac", "a", "b")), "abd"),
        after(replace(START, spent=(SpentInvite(bytes(16), 1, 1),)), "abd"),  # has rules of its own
    ],
)
def test_what_follows(found: Agreed) -> None:
    assert unproven(BEFORE, found, VLAN_ID) is None
    assert unproven_leap(BEFORE, found, VLAN_ID) is None


@pytest.mark.parametrize(
    "found",
    [
        after(START.with_removals([removal("d", "a")]), "ab"),
        after(START.with_removals([removal("d", "a", "d")]), "ab"),  # neither its own word nor that of two
        after(START.with_removals([removal("d", "a", "e")]), "ab"),
        after(START.with_removals([removal("d", "a", "b")]), "abd"),
        after(START, "ab"),
        after(START.with_admission(admission("e", "a")), "abde"),
        after(START, "abde"),
        after(START.with_admission(admission("c", "d")), "abcd"),
        after(START.with_roles(roles("abcd", "a")), "abd"),
        after(replace(START, admins=START.admins[:2]), "abd"),
        after(replace(START, admins=START.admins[::-1]), "abd"),
        after(replace(START, bridges=frozenset({key_of("d")})), "abd"),
        after(replace(PROMOTED, admins=START.admins), "abd"),
    ],
)
def test_what_does_not_follow(found: Agreed) -> None:
    assert unproven(BEFORE, found, VLAN_ID) is not None
    assert unproven_leap(BEFORE, found, VLAN_ID) is not None


@pytest.mark.parametrize(
    "found",
    [
        after(START.with_roles(roles("bac", "a", "b")), "abd"),  # nobody's rank rises by the way
        after(START.with_roles(roles("abcz", "a", "b")), "abd"),  # who is not in
        after(START.with_roles(roles("a", "a", "b")), "abd"),  # fewer than have to agree
        after(START.with_roles(roles("abcd", "a", "b", number=18)), "abd"),
        after(START.with_admission(admission("e", "a", "b", number=18)), "abde"),  # from another time
        after(replace(START, changes=7), "abd"),
        after(replace(START.with_admission(admission("e", "a", "b")), admissions=()), "abde"),
        after(START.with_admission(admission("e", "a", "b")), "abd"),
        after(START.with_removals([removal("e", "a", "b")]), "abd"),  # who was not in
        after(replace(START, aead=9), "abd"),
    ],
)
def test_what_does_not_follow_by_one_commit(found: Agreed) -> None:
    assert unproven(BEFORE, found, VLAN_ID) is not None


def test_an_admission_of_a_former_time_is_of_no_use() -> None:
    inside = after(START.with_admission(admission("e", "a", "b")), "abde")
    gone = after(inside.charter.with_removals([removal("e", "a", "b", number=2)]), "abd")
    assert unproven(inside, gone, VLAN_ID) is None
    assert unproven(gone, Agreed(gone.charter.with_admission(admission("e", "a", "b")), inside.roster), VLAN_ID)
    old_leaf = Agreed(gone.charter.with_admission(admission("e", "a", "b", number=3)), inside.roster)
    assert unproven(gone, old_leaf, VLAN_ID) is not None
    roster = {**gone.roster, key_of("e"): bytes(32)}
    for number, is_good in ((2, False), (3, True)):
        anew = signed(Admission(key_of("e"), bytes(32), number), "a", "b")
        found = Agreed(gone.charter.with_admission(anew), roster)
        assert (unproven(gone, found, VLAN_ID) is None) == is_good


def test_a_founder_that_was_removed_comes_back_by_enough_admins_only() -> None:
    inside = after(START.with_admission(admission("c", "a")), "abcd")
    gone = after(inside.charter.with_removals([removal("c", "a", "b", number=2)]), "abd")
    assert unproven(inside, gone, VLAN_ID) is None
    for by, is_good in (("a", False), ("ab", True)):
        anew = signed(Admission(key_of("c"), bytes(32), 3), *by)
        found = Agreed(gone.charter.with_admission(anew), {**gone.roster, key_of("c"): bytes(32)})
        assert (unproven(gone, found, VLAN_ID) is None) == is_good


def test_each_change_is_judged_by_those_who_were_admins_then() -> None:
    first, second = roles("abd", "a", "b"), roles("bde", "b", "d", number=3)
    newcomer = admission("e", "a", "b", number=2)
    later = after(START.with_roles(first).with_admission(newcomer).with_roles(second), "abde")
    assert unproven(BEFORE, later, VLAN_ID, [first, newcomer, second]) is None
    assert unproven(BEFORE, later, VLAN_ID, [first, second, newcomer]) is not None
    assert unproven(BEFORE, later, VLAN_ID, [newcomer, second]) is not None
    assert unproven_leap(BEFORE, later, VLAN_ID) is not None  # nobody knows of d any more that it was made an admin


def test_roles_of_a_former_time_are_of_no_use() -> None:
    promoted = after(START.with_roles(roles("abcd", "a", "b")), "abd")
    demoted = after(promoted.charter.with_roles(roles("abc", "a", "b", number=2)), "abd")
    assert unproven(promoted, demoted, VLAN_ID) is None
    for old in (roles("abcd", "a", "b"), roles("abcd", "a", "b", number=2)):
        found = after(demoted.charter.with_roles(old), "abd")
        assert unproven(demoted, found, VLAN_ID) is not None
        assert unproven_leap(demoted, found, VLAN_ID) is not None


def test_after_a_leap_a_membership_that_ended_and_began_anew_is_believed() -> None:
    """Who slept through removal, admission and removal of somebody never came back."""
    gone = after(START.with_removals([removal("d", "a", "b")]), "ab")
    anew = signed(Admission(key_of("d"), bytes(32), 2), "a", "b")
    inside = Agreed(gone.charter.with_admission(anew), {**gone.roster, key_of("d"): bytes(32)})
    again = signed(Removal(key_of("d"), bytes(32), 3), "a", "b")
    twice = after(inside.charter.with_removals([again]), "ab")
    for found in (gone, inside, twice):
        assert unproven_leap(BEFORE, found, VLAN_ID) is None
    admin = START.with_roles(roles("abcd", "a", "b"))
    plain = admin.with_removals([removal("d", "a", "b", number=2)])
    plain = plain.with_admission(signed(Admission(key_of("d"), bytes(32), 3), "a", "b"))
    assert unproven_leap(BEFORE, Agreed(plain, inside.roster), VLAN_ID) is None


def test_the_owner_of_a_key_package_is_who_signed_it() -> None:
    newcomer = member("e", VLAN_ID)
    owner = mls_key_package_owner(newcomer.key_package(0))
    assert owner is not None
    assert owner[0] == key_of("e")
    assert mls_key_package_owner(b"junk") is None
    assert mls_key_package_owner(b"") is None
