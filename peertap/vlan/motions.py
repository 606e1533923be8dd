"""Changes that wait until enough admins agree (SPEC 9.7).

They are kept in memory: who asked for one asks again while its process lives, and whoever has all signatures can
still carry it out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from peertap.types import VlanId
from peertap.vlan.agreement import Agreed, fits
from peertap.wire.charter import Charter
from peertap.wire.motion import Admission, L, Motion, Removal, signers, with_signatures

WAIT_S: Final = 7 * 86_400.0  # ours: a change that nobody agrees to is forgotten
ASK_AGAIN_S: Final = 60.0  # ours
STAND_IN_S: Final = 10.0  # ours: so long, by rank, until another admin than the one who asked carries it out
MAX_PER_ADMIN: Final = 16  # ours: removals and roles; as many newcomers beside them
NAME_BYTES: Final = 4


@dataclass(slots=True)
class Waiting:
    """A change, and who asked for it.

    Args:
        name: for people; chosen by this node, so that nobody can make another change of the same name.
        next_at: when there is something to do about it; None: it is new.
        is_agreed: whether we saw enough signatures before.
    """

    motion: Motion
    by: bytes
    name: str
    until: float = float("inf")
    next_at: float | None = None
    is_agreed: bool = False
    is_refused: bool = False


class Motions:
    """All that wait, by what is signed."""

    def __init__(self, vlan_id: VlanId, random: Callable[[int], bytes]) -> None:
        self._vlan_id = vlan_id
        self._random = random
        self._waiting: dict[bytes, Waiting] = {}

    def all(self) -> tuple[Waiting, ...]:
        """The oldest first."""
        return tuple(self._waiting.values())

    def named(self, name: str) -> Waiting | None:
        """That of this name."""
        return next((one for one in self._waiting.values() if one.name == name), None)

    def forget(self, waiting: Waiting) -> None:
        """It waits no more."""
        self._waiting.pop(waiting.motion.signed(self._vlan_id), None)

    def take_untrusted(self, motion: Motion, by: bytes, admins: Collection[bytes]) -> Waiting | None:
        """Keeps a change with the signatures under it that are an admin's; None: it has none, or there are too many."""
        what, signed = motion.signed(self._vlan_id), signers(motion, self._vlan_id, admins)
        good = tuple(one for one in motion.signatures if one[0] in signed)
        known = self._waiting.get(what)
        if known is not None:
            known.motion = with_signatures(known.motion, good)
            return known
        is_newcomer = isinstance(motion, Admission)
        same = [one for one in self.all() if one.by == by and isinstance(one.motion, Admission) == is_newcomer]
        if not good or (len(same) >= MAX_PER_ADMIN and not is_newcomer):
            return None
        if isinstance(motion, Admission):  # a newcomer that began anew has another key; of many the last ones wait
            anew = [one for one in same if isinstance(one.motion, Admission) and one.motion.identity == motion.identity]
            for one in anew or same[: -MAX_PER_ADMIN + 1]:
                self.forget(one)
        unsigned: Motion = replace(motion, signatures=())
        self._waiting[what] = Waiting(with_signatures(unsigned, good), by, self._random(NAME_BYTES).hex())
        return self._waiting[what]

    def like(self, motion: L) -> L:
        """The same change as somebody has asked for it before, with the signatures that there are; else this one."""
        for one in self.all():
            known = one.motion
            if isinstance(known, type(motion)) and (known.identity, known.key) == (motion.identity, motion.key):
                return known
        return motion

    def next_at(self) -> float:
        """When `due` has something."""
        times = (one.next_at for one in self._waiting.values())
        return min((float("-inf") if at is None else at for at in times), default=float("inf"))

    def due(self, now: float) -> list[Waiting]:
        """Those whose time has come; they come again later. The oldest are forgotten."""
        found = []
        for one in self.all():
            if one.until <= now:
                self.forget(one)
            elif one.next_at is None:
                one.until, one.next_at = now + WAIT_S, now + ASK_AGAIN_S
            elif one.next_at <= now:
                one.next_at = now + ASK_AGAIN_S
                found.append(one)
        return found

    def stepped(self, at: Agreed) -> None:
        """The group went on: what is done, or has become impossible, waits no more."""
        self._waiting = {what: one for what, one in self._waiting.items() if fits(one.motion, at)}


def describe(motion: Motion, charter: Charter) -> list[tuple[str, bytes]]:
    """What it would do to whom."""
    if isinstance(motion, Removal):
        return [("remove", motion.identity)]
    if isinstance(motion, Admission):
        return [("admit", motion.identity)]
    before, after = set(charter.admins), set(motion.admins)
    return [
        *(("promote", who) for who in sorted(after - before)),
        *(("demote", who) for who in sorted(before - after)),
        *(("let bridge", who) for who in sorted(motion.bridges - charter.bridges)),
        *(("let bridge no more", who) for who in sorted(charter.bridges - motion.bridges)),
    ]
