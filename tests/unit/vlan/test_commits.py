"""Which commits are taken, and what the log gives to whom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from peertap.vlan.commits import MAX_COMMITS, CommitLog, Step, charter_vlan_id, refusal
from peertap.wire.charter import Charter, SpentInvite
from peertap.wire.motion import Removal
from tests.support.identities import identity
from tests.support.town import charter_of, key_of

NOW = 1_800_000_000.0
BEFORE = replace(
    charter_of("mayor"),
    bridges=frozenset({key_of("b")}),
    spent=(SpentInvite(bytes(16), 1, int(NOW) + 1000), SpentInvite(b"o" * 16, 1, int(NOW) - 1000)),
)
MEMBERS = frozenset(map(key_of, ("mayor", "b", "c")))


@dataclass(frozen=True)
class Leaf:
    identity: bytes


@dataclass(frozen=True)
class Change:
    committer: Leaf | None = Leaf(key_of("mayor"))
    is_external: bool = False
    added: tuple[Leaf, ...] = ()
    removed: tuple[Leaf, ...] = ()


SPENT = SpentInvite(b"n" * 16, 1, int(NOW) + 1000)
COMING = Change(added=(Leaf(key_of("c")),))


def removal(who: str, by: str, *, signer: str = "") -> Removal:
    unsigned = Removal(key_of(who), bytes(32))
    signature = identity(signer or by).sign(unsigned.signed(charter_vlan_id(BEFORE)))
    return replace(unsigned, signatures=((key_of(by), signature),))


def judged(change: Change, after: Charter = BEFORE, before: Charter = BEFORE) -> str | None:
    return refusal(before, after, change, MEMBERS, NOW)


def test_an_admins_commit_is_taken() -> None:
    assert judged(Change()) is None
    assert judged(Change(), replace(BEFORE, admins=(key_of("c"), key_of("mayor")))) is None
    assert judged(Change(removed=(Leaf(key_of("x")),)), replace(BEFORE, removals=(removal("x", "mayor"),))) is None
    assert judged(COMING, replace(BEFORE, spent=(*BEFORE.spent, SPENT))) is None
    assert judged(Change(), replace(BEFORE, spent=BEFORE.spent[:1])) is None  # the other has expired
    before = replace(BEFORE, removals=(removal("c", "mayor"),))
    assert judged(Change(added=(Leaf(key_of("c")),)), BEFORE, before) is None


@pytest.mark.parametrize(
    ("change", "after", "why"),
    [
        (Change(committer=None), BEFORE, "not in the group"),
        (Change(committer=Leaf(key_of("c"))), BEFORE, "no admin"),
        (Change(), replace(BEFORE, label="other"), "label"),
        (Change(), replace(BEFORE, name_nonce=b"n" * 16), "name nonce"),
        (Change(), replace(BEFORE, creators=(key_of("c"),)), "creators"),
        (Change(), replace(BEFORE, aead=2), "aead"),
        (Change(), replace(BEFORE, lobby=b"l" * 32), "lobby"),
        (Change(), replace(BEFORE, admins=(key_of("stranger"),)), "admin who is no member"),
        (Change(), replace(BEFORE, bridges=frozenset({key_of("stranger")})), "bridge who is no member"),
        (Change(added=(Leaf(key_of("c")),)), replace(BEFORE, removals=(removal("c", "mayor"),)), "marked as removed"),
        (Change(), replace(BEFORE, removals=(removal("x", "c"),)), "no admin signed"),
        (Change(), replace(BEFORE, removals=(removal("x", "mayor", signer="c"),)), "no admin signed"),
        (Change(), replace(BEFORE, removals=(removal("x", "mayor"),)), "does not remove"),
        (Change(), replace(BEFORE, spent=(*BEFORE.spent, SPENT)), "nobody comes in"),
        (COMING, replace(BEFORE, spent=(*BEFORE.spent, replace(SPENT, expiry=2**40))), "nobody comes in"),
        (COMING, replace(BEFORE, spent=(replace(BEFORE.spent[0], uses=2), SPENT)), "nobody comes in"),
        (Change(), replace(BEFORE, spent=BEFORE.spent[1:]), "forgets an invite"),
        (Change(), replace(BEFORE, spent=(replace(BEFORE.spent[0], uses=0),)), "useful again"),
        (Change(is_external=True), replace(BEFORE, bridges=frozenset()), "changes nothing else"),
        (Change(is_external=True, added=(Leaf(b"x"),)), BEFORE, "changes nothing else"),
    ],
)
def test_any_other_commit_is_refused_with_its_reason(change: Change, after: Charter, why: str) -> None:
    assert why in (judged(change, after) or "")


def test_who_was_removed_does_not_come_back_by_itself_nor_by_a_silent_pardon() -> None:
    before = replace(BEFORE, removals=(removal("c", "mayor"),))
    back = Change(committer=Leaf(key_of("c")), is_external=True)
    assert "needs a new invite" in (judged(back, before, before) or "")
    assert "whom it does not add" in (judged(Change(), BEFORE, before) or "")


def test_the_log_gives_what_comes_after_a_point_of_our_branch_and_nothing_for_another() -> None:
    log = CommitLog()
    log.add((), Step(3, b"3", None))
    log.add((b"wish", b"commit 4"), Step(4, b"4", 0))
    log.add((b"commit 5",), Step(5, b"5", 0))
    assert log.since(3, b"3") == [b"wish", b"commit 4", b"commit 5"]
    assert log.since(5, b"5") == []
    assert log.since(4, b"other") is None
    assert log.since(2, b"2") is None
    log.cut(3)
    log.add(None, Step(4, b"4'", 0))
    log.add((b"commit 5'",), Step(5, b"5'", None))
    assert log.since(3, b"3") is None  # it does not have commit 4'
    assert log.since(4, b"4'") == [b"commit 5'"]
    for epoch in range(6, 6 + 2 * MAX_COMMITS):
        log.add((b"x",), Step(epoch, b"y", 0))
    assert len(log.steps()) == MAX_COMMITS
