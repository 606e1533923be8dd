"""Which commits of a VLAN's group are allowed, and what is kept of them (SPEC 9.3, 9.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from peertap.types import VlanId
from peertap.vlan.agreement import Agreed, is_agreed_on
from peertap.vlan.names import name_hash, vlan_id
from peertap.wire.charter import MAX_REMOVED, Charter
from peertap.wire.codec import Reader, lp
from peertap.wire.motion import Motion, Removal, emit_motion, read_motion

MAX_COMMITS: Final = 64  # PROTOCOL 10: as many epochs as rejoin secrets; who slept longer rejoins
MAX_LIFETIME_S: Final = 366 * 86_400  # ours: of an invite
NO_RANK: Final = 0xFFFF
MAX_HASH_BYTES: Final = 64
CLOCK_SKEW_S: Final = 300.0  # ours: members' clocks may differ by so much
MAX_GIVE: Final = 512  # ours: messages in one letter
MAX_GIVE_BYTES: Final = 3 << 20  # ours: below what a letter may have
MAX_RETURNS: Final = 3  # ours: of one member between changes by admins: for each an old epoch is forgotten
MAX_BEFORES: Final = 16  # ours: states kept of what was agreed on before a step
MAX_LOG_BYTES: Final = 16 << 20  # ours: of a large fresh group a commit has a megabyte


class Leaf(Protocol):
    """A leaf, as far as the rules look."""

    @property
    def identity(self) -> bytes: ...


class Change(Protocol):
    """What a commit did, as the data plane's MlsChange says it."""

    @property
    def committer(self) -> Leaf | None: ...

    @property
    def is_external(self) -> bool: ...

    @property
    def added(self) -> Sequence[Leaf]: ...

    @property
    def removed(self) -> Sequence[Leaf]: ...


def charter_vlan_id(charter: Charter) -> VlanId:
    """The VLAN-ID that a charter belongs to."""
    return vlan_id(charter.creators, charter.threshold, name_hash(charter.label, charter.name_nonce))


def refusal(before: Charter, after: Charter, change: Change, members: frozenset[bytes], now_unix: float) -> str | None:
    """Why a commit of another member is not taken; None: it is.

    Args:
        before, after: the charter it was made under, and the one that it leaves.
        members: identities in the group after it.
    """
    who = change.committer.identity if change.committer is not None else None
    if who is None:
        return "its sender is not in the group that it leaves"
    if change.is_external:
        return _rejoin_refusal(before, after, change, who)
    if who not in before.admins:
        return "its sender is no admin"
    return (
        fixed_refusal(before, after)
        or _people_refusal(before, after, change, members)
        or spending_refusal(before, after, now_unix, newcomers=int(bool(change.added)))
    )


def _rejoin_refusal(before: Charter, after: Charter, change: Change, who: bytes) -> str | None:
    if who in before.removed:
        return "its sender was removed and needs a new invite"
    if after != before or change.added or change.removed:
        return "who comes back changes nothing else"
    return None


def fixed_refusal(before: Charter, after: Charter) -> str | None:
    """What is settled when a VLAN is created."""
    for name in ("label", "name_nonce", "creators", "threshold", "aead", "is_public", "lobby"):
        if getattr(before, name) != getattr(after, name):
            return f"it changes the VLAN's {name.replace('_', ' ')}"
    return None


def _people_refusal(before: Charter, after: Charter, change: Change, members: frozenset[bytes]) -> str | None:
    added = {leaf.identity for leaf in change.added}
    if not set(after.admins) <= members | set(after.creators):
        return "it makes somebody an admin who is no member"
    if not after.bridges <= members:
        return "it lets somebody bridge who is no member"
    if added & after.removed:
        return "it adds somebody who is marked as removed"
    forgiven = before.removed - after.removed - added
    is_full = len(after.removals) == MAX_REMOVED
    oldest = {one.identity for one in before.removals[: len(forgiven)]} if is_full else set()
    if forgiven and forgiven != oldest:
        return "it lets somebody come back whom it does not add"
    vlan_id = charter_vlan_id(after)
    for one in set(after.removals) - set(before.removals):
        if not is_agreed_on(one, before, vlan_id):
            return "it has a removal that no admin signed"
        if one.identity not in {leaf.identity for leaf in change.removed}:
            return "it marks somebody as removed whom it does not remove"
    return None


def spending_refusal(before: Charter, after: Charter, now_unix: float, *, newcomers: int) -> str | None:
    """Used invites stay used; at most one is noted with each newcomer, and for no longer than it may live."""
    uses = {one.id: one for one in after.spent}
    for one in before.spent:
        still = uses.get(one.id)
        if still is None and one.expiry > now_unix + CLOCK_SKEW_S:
            return "it forgets an invite that was used and has not expired"
        if still is not None and (still.uses < one.uses or still.expiry != one.expiry):
            return "it makes a spent invite useful again"
    fresh = set(after.spent) - set(before.spent)
    if len(fresh) > newcomers or any(one.expiry > now_unix + MAX_LIFETIME_S + CLOCK_SKEW_S for one in fresh):
        return "it spends an invite by which nobody comes in"
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """A commit as others are told of it.

    Args:
        epoch: the one that it began.
        transcript_hash: of all commits up to it.
        rank: its sender's among the admins, 0 is the highest; None: it came back by this commit.
        motions: what admins agreed on with it, in order; removals only, where one is enough.
    """

    epoch: int
    transcript_hash: bytes
    rank: int | None
    motions: tuple[Motion, ...] = ()

    @property
    def removals(self) -> tuple[Removal, ...]:
        return tuple(one for one in self.motions if isinstance(one, Removal))

    @property
    def position(self) -> tuple[int, bytes]:
        return self.epoch, self.transcript_hash

    def emit(self) -> bytes:
        """Epoch 8 ‖ lp(transcript hash) ‖ rank 2 (ffff: none) ‖ n 2 ‖ n × (kind 1 ‖ removal, admission or roles)."""
        rank = NO_RANK if self.rank is None else self.rank
        head = self.epoch.to_bytes(8, "big") + lp(self.transcript_hash) + rank.to_bytes(2, "big")
        return head + len(self.motions).to_bytes(2, "big") + b"".join(map(emit_motion, self.motions))

    @classmethod
    def read(cls, reader: Reader) -> Step:
        """Raises DecodeError."""
        epoch, digest = reader.uint(8, "epoch"), reader.lp("transcript hash", MAX_HASH_BYTES)
        rank = reader.uint(2, "rank")
        motions = tuple(read_motion(reader) for _ in range(reader.uint(2, "changes")))
        return cls(epoch, digest, None if rank == NO_RANK else rank, motions)


@dataclass(frozen=True, slots=True)
class Logged:
    """A commit with the wishes that were there for it, in order; None: we only know that it was.

    Args:
        returned: who came back by it, if that is what it was.
        before: what was agreed on until then, where several admins have to agree and it has changed.
    """

    messages: tuple[bytes, ...] | None
    step: Step
    returned: bytes | None = None
    before: Agreed | None = None

    @property
    def size(self) -> int:
        return sum(map(len, self.messages or ()))


class CommitLog:
    """The last commits, for those who were away, by the epoch that each began."""

    def __init__(self) -> None:
        self._commits: OrderedDict[int, Logged] = OrderedDict()
        self._bytes = 0

    def add(
        self,
        messages: Sequence[bytes] | None,
        step: Step,
        *,
        returned: bytes | None = None,
        before: Agreed | None = None,
    ) -> None:
        """The step that was taken last: nothing of a later epoch stays, and the oldest leave."""
        self.cut(step.epoch - 1)
        kept = None if messages is None else tuple(messages)
        self._commits[step.epoch] = Logged(kept, step, returned, before)
        self._forget_befores()
        self._bytes += self._commits[step.epoch].size
        while len(self._commits) > MAX_COMMITS or (self._bytes > MAX_LOG_BYTES and len(self._commits) > 1):
            _, oldest = self._commits.popitem(last=False)
            self._bytes -= oldest.size

    def _forget_befores(self) -> None:
        """Each is a whole charter: the last ones are enough to come back from."""
        proven = [number for number, one in self._commits.items() if one.before is not None]
        for number in proven[:-MAX_BEFORES]:
            self._commits[number] = replace(self._commits[number], before=None)

    def cut(self, epoch: int) -> None:
        """Forgets what came after an epoch: another branch goes on from there."""
        for later in [one for one in self._commits if one > epoch]:
            self._bytes -= self._commits.pop(later).size

    def has(self, epoch: int, message: bytes) -> bool:
        """Whether a commit or wish of this epoch is on our branch."""
        began = self._commits.get(epoch + 1)
        return began is not None and message in (began.messages or ())

    def last(self) -> Logged:
        """The step that was taken last; there is always one."""
        return next(reversed(self._commits.values()))

    def steps(self) -> tuple[Step, ...]:
        """The branch, oldest first."""
        return tuple(one.step for one in self._commits.values())

    def all(self) -> tuple[Logged, ...]:
        """Everything, oldest first."""
        return tuple(self._commits.values())

    def agreed_at(self, epoch: int) -> Agreed | None:
        """What was agreed on then; None: what is now."""
        later = (one.before for number, one in self._commits.items() if number > epoch)
        return next((before for before in later if before is not None), None)

    def returns_of(self, who: bytes) -> int:
        """How often a member has come back since the last change by an admin."""
        count = 0
        for one in reversed(self._commits.values()):
            if one.step.rank is not None:
                break
            count += one.returned == who
        return count

    def since(self, epoch: int, transcript_hash: bytes) -> list[bytes] | None:
        """What a member at this point of our branch lacks, in order; None when the log does not know the point."""
        at = self._commits.get(epoch)
        if at is None or at.step.transcript_hash != transcript_hash:
            return None
        later = [one.messages for number, one in self._commits.items() if number > epoch]
        if None in later:
            return None
        out: list[bytes] = []
        size = 0
        for messages in later:  # as much as one letter holds; who has it asks for the rest
            size += sum(len(message) + 4 for message in messages or ())
            if out and (size > MAX_GIVE_BYTES or len(out) + len(messages or ()) > MAX_GIVE):
                break
            out += messages or ()
        return out


def fork(ours: Sequence[Step], theirs: Sequence[Step]) -> tuple[int, list[Step], list[Step]] | None:
    """The last epoch in common, and what each branch has after it; None when none is known to both."""
    known = {(one.epoch, one.transcript_hash) for one in ours}
    common = [one.epoch for one in theirs if (one.epoch, one.transcript_hash) in known]
    if not common:
        return None
    at = max(common)
    return at, [one for one in ours if one.epoch > at], [one for one in theirs if one.epoch > at]


def wins(ours: Sequence[Step], theirs: Sequence[Step]) -> bool:
    """Whether our branch stays (PROTOCOL 10, a to e). An order: of several branches one wins against all others."""
    return _weight(ours) > _weight(theirs)


def beats(one: Sequence[Step], other: Sequence[Step]) -> bool:
    """Whether who is on the other branch has to come to this one; where they have nothing in common: no."""
    parts = fork(one, other)
    return parts is not None and bool(parts[1]) and wins(parts[1], parts[2])


def _weight(steps: Sequence[Step]) -> tuple[bool, int, int, int, bytes]:
    """Commits of admins count, returns of members do not: anybody could make many of them."""
    ranks = [one.rank for one in steps if one.rank is not None]
    removed = {one.identity for step in steps for one in step.removals if not one.is_own}
    others = [one for step in steps for one in step.motions if not isinstance(one, Removal)]
    first = steps[0].transcript_hash if steps else b""
    return (
        bool(ranks),
        len(removed) + len(others),
        -ranks[0] if ranks else 0,
        len(ranks),
        bytes(255 - byte for byte in first),
    )
