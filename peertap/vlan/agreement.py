"""Where several admins have to agree on who is in and who may do what: what proves that they did (SPEC 9.7).

Everything that is not signed by so many of them is refused, in a commit and in the group that an admin shows to a
member that was lost: charter and roster there must follow from those that both had in common.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from peertap.types import VlanId
from peertap.wire.charter import Charter
from peertap.wire.codec import Reader, lp32
from peertap.wire.motion import KEY_BYTES, Admission, Motion, Removal, Roles, is_agreed, signers

MAX_CHARTER_BYTES = 4 << 20  # ours: all its lists at their bounds, with room
MAX_ROSTER = 1 << 16  # ours


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
        count = min(reader.uint(4, "roster"), MAX_ROSTER)
        roster = {reader.take(KEY_BYTES, "identity"): reader.take(KEY_BYTES, "MLS key") for _ in range(count)}
        return cls(charter, roster)


class Admins:
    """Those who were admins one after another, as far as each set agreed on the next."""

    def __init__(self, vlan_id: VlanId, charter: Charter) -> None:
        self.roles = charter.roles
        self._vlan_id = vlan_id
        self._threshold = charter.threshold
        self._founders = set(charter.creators).intersection(charter.admins) - charter.removed
        self._sets: list[Collection[bytes]] = [charter.admins]

    def follow(self, roles: Roles | None) -> None:
        """Goes on to the next roles, if they are, and agreed on."""
        number = 0 if self.roles is None else self.roles.number
        if roles is None or roles.number <= number:
            return
        if is_agreed(roles, self._vlan_id, self._sets[-1], self._threshold):
            self.roles = roles
            self._sets.append(roles.admins)

    def agreed(self, motion: Motion) -> bool:
        """Whether enough admins of one time have signed it; one is enough for a founder, who is an admin already."""
        is_founder = isinstance(motion, Admission) and motion.identity in self._founders
        enough = 1 if is_founder else self._threshold
        signed = signers(motion, self._vlan_id)
        is_own = isinstance(motion, Removal) and motion.identity in signed
        return is_own or any(len(signed.intersection(admins)) >= enough for admins in self._sets)


def unproven(before: Agreed, after: Agreed, vlan_id: VlanId, between: Sequence[Roles] = ()) -> str | None:
    """Why a charter and roster do not follow from others by what admins agreed on; None: they do.

    Args:
        between: roles that were agreed on in between, in order.
    """
    old, new = before.charter, after.charter
    if old.threshold == 1:
        return None
    admins = Admins(vlan_id, old)
    for roles in (*between, new.roles):
        admins.follow(roles)
    if admins.roles != new.roles:
        return "not enough admins agreed on its roles"
    if not all(map(admins.agreed, set(new.removals) - set(old.removals))):
        return "not enough admins agreed on a removal"
    if new.removed & after.roster.keys():
        return "it has a member that is marked as removed"
    return _newcomers(before, after, admins) or _leavers(before, after) or _roles(before, after)


def _newcomers(before: Agreed, after: Agreed, admins: Admins) -> str | None:
    admissions = {(one.identity, one.key): one for one in after.charter.admissions}
    removed = {(one.identity, one.key) for one in before.charter.removals}
    for leaf in after.roster.items() - before.roster.items():
        if leaf in removed or leaf not in admissions or not admins.agreed(admissions[leaf]):
            return "not enough admins agreed on a newcomer"
    return None


def _leavers(before: Agreed, after: Agreed) -> str | None:
    removed = {(one.identity, one.key) for one in after.charter.removals}
    gone = {leaf for leaf in before.roster.items() if leaf[0] not in after.roster}
    return None if gone <= removed else "it lacks a member whose removal nobody agreed on"


def _roles(before: Agreed, after: Agreed) -> str | None:
    """Roles end with a membership, and in no other way."""
    old, new = before.charter, after.charter
    given = old if new.roles is None or new.roles == old.roles else new.roles
    ended = new.removed | {who for who, key in before.roster.items() if after.roster.get(who) != key}
    is_order_kept = new.admins == tuple(who for who in given.admins if who in set(new.admins))
    lost = (set(given.admins) - set(new.admins)) | (given.bridges - new.bridges)
    if not is_order_kept or not new.bridges <= given.bridges or not lost <= ended:
        return "not enough admins agreed on its roles"
    return None


def is_genuine(removal: Removal, vlan_id: VlanId, admins: Collection[bytes], threshold: int) -> bool:
    """Whether enough of these admins signed it, or the member itself."""
    signed = signers(removal, vlan_id)
    return removal.identity in signed or len(signed.intersection(admins)) >= threshold
