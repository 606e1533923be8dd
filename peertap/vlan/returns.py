"""Whom an admin lets come back: removals of the branch that lost first, then one member at a time (SPEC 9.6)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from peertap.types import VlanId
from peertap.vlan.agreement import Agreed, follow, is_agreed_on
from peertap.vlan.commits import Step
from peertap.wire.motion import Removal

HELP_S: Final = 3.0  # ours: who got a GroupInfo comes back within that, or another is helped


class Returns:
    """Members that are lost and asked us, and those who may not come back.

    `condemned` are the removals of another branch that ours lacks: a commit has to take them up before anybody returns.
    """

    def __init__(self) -> None:
        self.condemned: dict[bytes, Removal] = {}
        self._helping: tuple[bytes, float] | None = None  # who got a GroupInfo, and until when no other gets one
        self._waiting: dict[bytes, bytes] = {}  # for that, and with which nonce

    def ask(self, who: bytes, nonce: bytes) -> None:
        """A member is lost."""
        self._waiting[who] = nonce

    def next_at(self) -> float:
        """When the next one can be helped."""
        if not self._waiting or self.condemned:
            return float("inf")
        return float("-inf") if self._helping is None else self._helping[1]

    def take_turn(self, now: float) -> tuple[bytes, bytes] | None:
        """Who is helped now, and with which nonce; not two can come back at one point."""
        if self.next_at() > now:
            return None
        who = next(iter(self._waiting))
        self._helping = (who, now + HELP_S)
        return who, self._waiting.pop(who)

    def is_back(self, who: bytes) -> bool:
        """Whether it is the one whom we helped, who has come back by that."""
        if self._helping is None or self._helping[0] != who:
            return False
        self._helping = None
        return True

    def condemn(self, theirs: Sequence[Step], at: Agreed, vlan_id: VlanId) -> bool:
        """Who was removed on a branch that lost, by admins or by itself, goes here too; says whether anybody is new."""
        before, tried = len(self.condemned), set(self.condemned)
        for one in (removal for step in theirs for removal in step.removals):
            if one.identity not in tried and at.roster.get(one.identity) == one.key:
                tried.add(one.identity)  # signatures cost time, and it is a member that says so
                is_one_enough = at.charter.threshold == 1
                if is_agreed_on(one, at.charter, vlan_id) if is_one_enough else follow(at, [one], vlan_id):
                    self.condemned[one.identity] = one
        return len(self.condemned) > before

    def possible(self, at: Agreed, vlan_id: VlanId) -> list[Removal]:
        """Those condemned who can be removed, in the order of the charter; the others are forgotten."""
        if at.charter.threshold > 1:
            possible: dict[bytes, Removal] = {}
            for one in sorted(self.condemned.values(), key=lambda one: one.is_own):
                after = follow(at, [one], vlan_id)
                if after is not None:
                    at, possible[one.identity] = after, one
            self.condemned = possible
        return list(self.condemned.values())

    def stepped(self, members: Container[bytes]) -> None:
        """The group has these members now."""
        self.condemned = {who: one for who, one in self.condemned.items() if who in members}
