"""Changes that wait until enough admins agree (SPEC 9.7).

They are kept in memory: who asked for one asks again while its process lives, and whoever has all signatures can
still carry it out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256, Hash

from peertap.types import VlanId
from peertap.vlan.agreement import Agreed
from peertap.wire.charter import Charter
from peertap.wire.motion import Admission, Motion, Removal, signers, with_signatures

WAIT_S: Final = 7 * 86_400.0  # ours: a change that nobody agrees to is forgotten
ASK_AGAIN_S: Final = 60.0  # ours
STAND_IN_S: Final = 10.0  # ours: so long, by rank, until another admin than the one who asked carries it out
MAX_PER_ADMIN: Final = 16  # ours
NAME_BYTES: Final = 4


@dataclass(slots=True)
class Waiting:
    """A change, and who asked for it.

    Args:
        next_at: when there is something to do about it; None: it is new.
    """

    motion: Motion
    by: bytes
    until: float = float("inf")
    next_at: float | None = None
    is_refused: bool = False


class Motions:
    """All that wait, by a short name."""

    def __init__(self, vlan_id: VlanId) -> None:
        self.waiting: dict[str, Waiting] = {}
        self._vlan_id = vlan_id

    def name(self, motion: Motion) -> str:
        """Eight hexadecimal digits for people."""
        digest = Hash(SHA256())
        digest.update(motion.signed(self._vlan_id))
        return digest.finalize()[:NAME_BYTES].hex()

    def take_untrusted(self, motion: Motion, by: bytes, admins: Collection[bytes]) -> Waiting | None:
        """Keeps a change with the signatures under it that are an admin's; None: it has none, or there are too many."""
        name, signed = self.name(motion), signers(motion, self._vlan_id).intersection(admins)
        good = tuple(one for one in motion.signatures if one[0] in signed)
        known = self.waiting.get(name)
        if known is not None and known.motion.signed(self._vlan_id) == motion.signed(self._vlan_id):
            known.motion = with_signatures(known.motion, good)
            return known
        is_full = sum(one.by == by for one in self.waiting.values()) >= MAX_PER_ADMIN
        if not good or is_full or known is not None:
            return None
        if isinstance(motion, Admission):  # a newcomer that began anew has another key
            self.waiting = {old: one for old, one in self.waiting.items() if not _is_of(one, motion.identity, by)}
        self.waiting[name] = Waiting(with_signatures(_unsigned(motion), good), by)
        return self.waiting[name]

    def admission(self, identity: bytes, key: bytes) -> Admission:
        """That of a newcomer, with the signatures that there are."""
        wanted = Admission(identity, key)
        known = self.waiting.get(self.name(wanted))
        return known.motion if known is not None and isinstance(known.motion, Admission) else wanted

    def next_at(self) -> float:
        """When `due` has something."""
        times = (one.next_at for one in self.waiting.values())
        return min((float("-inf") if at is None else at for at in times), default=float("inf"))

    def due(self, now: float) -> Iterator[Waiting]:
        """Those whose time has come; they come again later. The oldest are forgotten."""
        for name, one in list(self.waiting.items()):
            if one.until <= now:
                del self.waiting[name]
            elif one.next_at is None:
                one.until, one.next_at = now + WAIT_S, now + ASK_AGAIN_S
            elif one.next_at <= now:
                one.next_at = now + ASK_AGAIN_S
                yield one

    def stepped(self, agreed: Agreed) -> None:
        """The group went on: what is done, or has become impossible, waits no more."""
        self.waiting = {name: one for name, one in self.waiting.items() if is_open(one.motion, agreed)}


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


def is_open(motion: Motion, agreed: Agreed) -> bool:
    if isinstance(motion, Removal):
        return agreed.roster.get(motion.identity) == motion.key
    if isinstance(motion, Admission):
        return agreed.roster.get(motion.identity) != motion.key
    return agreed.charter.next_roles((), frozenset()).number == motion.number


def _is_of(waiting: Waiting, newcomer: bytes, by: bytes) -> bool:
    return isinstance(waiting.motion, Admission) and (waiting.motion.identity, waiting.by) == (newcomer, by)


def _unsigned(motion: Motion) -> Motion:
    return replace(motion, signatures=())
