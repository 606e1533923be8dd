"""Which charter and roster follow from others by what admins agreed on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peertap._core import mls_key_package_owner
from peertap.vlan.agreement import Agreed, unproven
from peertap.vlan.commits import charter_vlan_id
from peertap.wire.charter import Charter
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


def removal(name: str, *by: str) -> Removal:
    return signed(Removal(key_of(name), KEYS[name]), *by)


def admission(name: str, *by: str) -> Admission:
    return signed(Admission(key_of(name), KEYS[name]), *by)


def roles(admins: str, *by: str, number: int = 1) -> Roles:
    return signed(Roles(number, tuple(map(key_of, admins)), frozenset()), *by)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (BEFORE, None),
        (after(START.with_removals([removal("d", "a", "b")]), "ab"), None),
        (after(START.with_removals([removal("d", "d")]), "ab"), None),
        (after(START.with_removals([removal("d", "a")]), "ab"), "agreed on a removal"),
        (after(START.with_removals([removal("d", "a", "d")]), "ab"), None),  # its own word is enough
        (after(START.with_removals([removal("d", "a", "e")]), "ab"), "agreed on a removal"),
        (after(START.with_removals([removal("d", "a", "b")]), "abd"), "marked as removed"),
        (after(START, "ab"), "lacks a member"),
        (after(START.with_admission(admission("e", "a", "b")), "abde"), None),
        (after(START.with_admission(admission("e", "a")), "abde"), "agreed on a newcomer"),
        (after(START, "abde"), "agreed on a newcomer"),
        (after(START.with_admission(admission("c", "a")), "abcd"), None),  # a founder
        (after(START.with_admission(admission("c", "d")), "abcd"), "agreed on a newcomer"),
        (after(START.with_roles(roles("abcd", "a", "b")), "abd"), None),
        (after(START.with_roles(roles("bac", "a", "b")), "abd"), None),
        (after(START.with_roles(roles("abcd", "a")), "abd"), "agreed on its roles"),
        (after(START.with_roles(roles("abcd", "a", "b", number=0)), "abd"), "agreed on its roles"),
        (after(replace(START, admins=START.admins[:2]), "abd"), "agreed on its roles"),
        (after(replace(START, admins=START.admins[::-1]), "abd"), "agreed on its roles"),
        (after(replace(START, bridges=frozenset({key_of("d")})), "abd"), "agreed on its roles"),
        (after(replace(START.with_roles(roles("abcd", "a", "b")), admins=START.admins), "abd"), "agreed on its roles"),
    ],
)
def test_what_follows_and_what_does_not(found: Agreed, why: str | None) -> None:
    reason = unproven(BEFORE, found, VLAN_ID)
    assert reason is None if why is None else why in (reason or "")


def test_a_leaf_that_was_removed_is_not_admitted_by_its_old_admission() -> None:
    inside = after(START.with_admission(admission("e", "a", "b")), "abde")
    gone = after(inside.charter.with_removals([removal("e", "a", "b")]), "abd")
    assert unproven(inside, gone, VLAN_ID) is None
    back = inside.charter.with_newcomers({key_of("e")}, None, 0)
    assert "newcomer" in (unproven(gone, Agreed(back, inside.roster), VLAN_ID) or "")
    anew = signed(Admission(key_of("e"), bytes(32)), "a", "b")
    roster = {**gone.roster, key_of("e"): bytes(32)}
    fresh = gone.charter.with_newcomers({key_of("e")}, None, 0).with_admission(anew)
    assert unproven(gone, Agreed(fresh, roster), VLAN_ID) is None


def test_a_founder_that_was_removed_comes_back_by_enough_admins_only() -> None:
    inside = after(START, "abcd")
    gone = after(START.with_removals([removal("c", "a", "b")]), "abd")
    assert unproven(inside, gone, VLAN_ID) is None
    anew = signed(Admission(key_of("c"), bytes(32)), "a")
    back = gone.charter.with_newcomers({key_of("c")}, None, 0).with_admission(anew)
    roster = {**gone.roster, key_of("c"): bytes(32)}
    assert "newcomer" in (unproven(gone, Agreed(back, roster), VLAN_ID) or "")


def test_roles_in_between_say_whose_word_counts_later() -> None:
    first, second = roles("abd", "a", "b"), roles("de", "b", "d", number=2)
    later = after(START.with_roles(second).with_admission(admission("e", "a", "b")), "abde")
    assert "roles" in (unproven(BEFORE, later, VLAN_ID) or "")
    assert unproven(BEFORE, later, VLAN_ID, [first]) is None
    assert "roles" in (unproven(BEFORE, later, VLAN_ID, [roles("abd", "a")]) or "")


def test_the_owner_of_a_key_package_is_who_signed_it() -> None:
    newcomer = member("e", VLAN_ID)
    owner = mls_key_package_owner(newcomer.key_package(0))
    assert owner is not None
    assert owner[0] == key_of("e")
    assert mls_key_package_owner(b"junk") is None
    assert mls_key_package_owner(b"") is None
