"""Where several admins have to agree on who is in and who may do what: what proves that they did (SPEC 9.7).

    what was agreed on ──motion──▶ what is agreed on now ──motion──▶ …

A state of the group is believed if motions that fit lead to it from one that was believed before: that of each commit,
and that to which a member comes back after it was lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from peertap.errors import DecodeError
from peertap.types import VlanId
from peertap.wire.charter import Charter
from peertap.wire.codec import Reader, lp32
from peertap.wire.motion import KEY_BYTES, Admission, M, Motion, Removal, is_agreed, signers

GOOD_FOR: Final = 16  # ours: changes; who wants it still asks again
MAX_CHARTER_BYTES: Final = 4 << 20  # ours: all its lists at their bounds, with room
MAX_ROSTER: Final = 1 << 16  # ours


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the members had agreed on at some point.

    Args:
        roster: the members' MLS keys by identity.
    """

    charter: Charter
    roster: Mapping[bytes, bytes]

    def emit(self) -> bytes:
        """lp32(charter) ‖ n 4 ‖ n × (identity 32 ‖ MLS key 32)."""
        roster = b"".join(who + key for who, key in sorted(self.roster.items()))
        return lp32(self.charter.emit()) + len(self.roster).to_bytes(4, "big") + roster

    @classmethod
    def read(cls, reader: Reader) -> Agreed:
        """Raises DecodeError."""
        charter = Charter.parse_untrusted(reader.lp32("charter", MAX_CHARTER_BYTES))
        count = reader.uint(4, "roster")
        if count > MAX_ROSTER:
            raise DecodeError(f"roster: {count} members, at most {MAX_ROSTER}")
        roster = {reader.take(KEY_BYTES, "identity"): reader.take(KEY_BYTES, "MLS key") for _ in range(count)}
        return cls(charter, roster)


def fits(motion: Motion, at: Agreed) -> bool:
    """Whether a change can be made here, and is no old one."""
    charter = at.charter
    if not -GOOD_FOR < motion.number - charter.changes - 1 < GOOD_FOR:
        return isinstance(motion, Removal) and motion.is_own and at.roster.get(motion.identity) == motion.key
    if isinstance(motion, Removal):
        return at.roster.get(motion.identity) == motion.key
    if isinstance(motion, Admission):
        removal = next((one for one in charter.removals if one.identity == motion.identity), None)
        is_old = removal is not None and (removal.key == motion.key or removal.number >= motion.number)
        return not is_old and at.roster.get(motion.identity) != motion.key
    kept = tuple(who for who in charter.admins if who in motion.admins)  # nobody's rank rises by the way
    people = at.roster.keys() | (set(charter.creators) - charter.removed)
    is_next = charter.roles is None or motion.number > charter.roles.number
    are_in = people.issuperset(motion.admins) and motion.bridges <= at.roster.keys()
    return is_next and are_in and motion.admins[: len(kept)] == kept and len(motion.admins) >= charter.threshold


def is_agreed_on(motion: Motion, charter: Charter, vlan_id: VlanId, *, is_first: bool = False) -> bool:
    """Whether enough admins have signed it, or who goes.

    Args:
        is_first: who comes in was never in; for a founder, who is an admin already, the word of one is enough then.
    """
    if isinstance(motion, Removal) and motion.is_own:
        return bool(signers(motion, vlan_id, (motion.identity,)))
    founders = set(charter.creators).intersection(charter.admins) - charter.removed
    is_founder = is_first and isinstance(motion, Admission) and motion.identity in founders
    return is_agreed(motion, vlan_id, charter.admins, 1 if is_founder else charter.threshold)


def is_first(motion: Motion, at: Agreed) -> bool:
    """Whether this is the first time that somebody comes in."""
    known = {one.identity for one in (*at.charter.admissions, *at.charter.removals)}
    return isinstance(motion, Admission) and motion.identity not in known and motion.identity not in at.roster


def follow(at: Agreed, motions: Iterable[Motion], vlan_id: VlanId) -> Agreed | None:
    """Where changes lead; None: one of them does not fit, or was not agreed on."""
    for motion in motions:
        is_short = len(motion.signatures) <= at.charter.threshold  # else anybody could swell everybody's charter
        known = is_short and fits(motion, at)
        if not known or not is_agreed_on(motion, at.charter, vlan_id, is_first=is_first(motion, at)):
            return None
        at = _after(at, motion)
    return at if len(at.charter.admins) >= at.charter.threshold else None


def _after(at: Agreed, motion: Motion) -> Agreed:
    roster = dict(at.roster)
    if isinstance(motion, Removal):
        del roster[motion.identity]
        return Agreed(at.charter.with_removals([motion]), roster)
    if isinstance(motion, Admission):
        roster[motion.identity] = motion.key
        return Agreed(at.charter.with_admission(motion), roster)
    return Agreed(at.charter.with_roles(motion), roster)


def between(before: Charter, after: Charter) -> tuple[Motion, ...]:
    """The changes that led from one charter to the next, in order: those who go by themselves are the last."""
    removals = _new(after.removals, before.removals)
    roles = (after.roles,) if after.roles is not None and after.roles != before.roles else ()
    own = tuple(one for one in removals if one.is_own)
    return *(one for one in removals if not one.is_own), *_new(after.admissions, before.admissions), *roles, *own


def unproven(before: Agreed, after: Agreed, vlan_id: VlanId, motions: Iterable[Motion] | None = None) -> str | None:
    """Why a charter and roster do not follow from others; None: they do.

    Args:
        motions: what was agreed on in between; None: what is new in the charter.
    """
    if before.charter.threshold == 1:
        return None
    found = follow(before, between(before.charter, after.charter) if motions is None else motions, vlan_id)
    if found is None:
        return "not enough admins agreed on it"
    is_same = replace(found.charter, spent=after.charter.spent) == after.charter and found.roster == after.roster
    return None if is_same else "it does something else than admins agreed on"


def unproven_leap(before: Agreed, after: Agreed, vlan_id: VlanId) -> str | None:
    """The same where nobody knows any more what was agreed on in between: the charter's own lists have to show it."""
    old, new = before.charter, after.charter
    if old.threshold == 1:
        return None
    rings: list[Collection[bytes]] = [old.admins]
    oldest = old.changes - GOOD_FOR
    if new.roles is not None and new.roles != old.roles:
        number = max(oldest, 0 if old.roles is None else old.roles.number)
        if new.roles.number <= number or not is_agreed(new.roles, vlan_id, old.admins, old.threshold):
            return "not enough admins that we know agreed on its roles"
        rings.append(new.roles.admins)
    removals, admissions = _new(new.removals, old.removals), _new(new.admissions, old.admissions)
    entered = {one.identity: one.number for one in old.admissions}
    left = {one.identity: one for one in old.removals}

    def is_known(motion: Motion) -> bool:
        first = is_first(motion, before)
        return any(is_agreed_on(motion, replace(old, admins=tuple(one)), vlan_id, is_first=first) for one in rings)

    def is_recent(one: Removal | Admission) -> bool:
        last = entered.get(one.identity, 0) if isinstance(one, Removal) else 0
        removal = left.get(one.identity) if isinstance(one, Admission) else None
        is_later = removal is None or (removal.number < one.number and removal.key != one.key)
        return is_later and one.number > max(oldest, last)

    words: tuple[Removal | Admission, ...] = (*removals, *admissions)
    if not all(is_recent(one) and is_known(one) for one in words) or new.removed & after.roster.keys():
        return "not enough admins that we know agreed on a removal or an admission"
    numbers = [one.number for one in words] + ([new.roles.number] if new.roles not in (None, old.roles) else [])
    most = max(numbers) + GOOD_FOR if numbers else old.changes
    if not old.changes <= new.changes <= most:
        return "its count of changes is not credible"
    proven = {(one.identity, one.key) for one in new.admissions} - {(one.identity, one.key) for one in old.removals}
    if not proven.issuperset(after.roster.items() - before.roster.items()):
        return "not enough admins that we know agreed on a newcomer"
    if not new.removed.issuperset(before.roster.keys() - after.roster.keys()):
        return "it lacks a member whose removal nobody agreed on"
    return _leap_of_roles(before, after)


def _leap_of_roles(before: Agreed, after: Agreed) -> str | None:
    """Roles end with a membership, and in no other way."""
    old, new = before.charter, after.charter
    given = old if new.roles is None or new.roles == old.roles else new.roles
    number = 0 if new.roles is None else new.roles.number
    anew = {one.identity for one in new.admissions if one.number > number and one not in old.admissions}
    is_order_kept = new.admins == tuple(who for who in given.admins if who in set(new.admins))
    lost = (set(given.admins) - set(new.admins)) | (given.bridges - new.bridges)
    is_proven = is_order_kept and new.bridges <= given.bridges and lost <= new.removed | anew
    return None if is_proven else "not enough admins that we know agreed on its roles"


def _new(after: Sequence[M], before: Sequence[M]) -> tuple[M, ...]:
    known = set(before)
    return tuple(one for one in after if one not in known)
