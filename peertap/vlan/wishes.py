"""What members wish for in an epoch: new keys, or to go. The next commit takes all of it up (SPEC 9.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peertap._core import MlsLeaf, MlsProposal
from peertap.errors import DecodeError
from peertap.types import VlanId
from peertap.wire.motion import Removal, signers

UPDATE_GAP_S: Final = 6 * 3600.0  # ours: a commit is made for a member's new keys so often; PROTOCOL 10: they are daily


class Wishes:
    """Those of one epoch, in order. `since`: when the oldest that waits came."""

    def __init__(
        self, messages: Iterable[bytes] = (), leavers: Iterable[Removal] = (), since: float | None = None
    ) -> None:
        self.messages = list(messages)
        self.leavers = {one.identity: one for one in leavers}
        self.since = since
        self.has_update = bool(self.messages)  # of our own; after a restart we do not know
        self._seen: set[tuple[int, str]] = set()  # leaf and wish
        self._updated_at: dict[bytes, float] = {}  # when a member last wished for new keys

    def take_untrusted(
        self, proposal: MlsProposal, message: bytes, leaves: Iterable[MlsLeaf], vlan_id: VlanId, now: float
    ) -> None:
        """A wish of another member.

        Raises:
            DecodeError: it says something that is not its sender's to say, or is one too many; nothing has changed.
        """
        removal = _farewell(proposal, leaves, vlan_id) if proposal.wish == "leave" else None
        if (
            proposal.sender,
            proposal.wish,
        ) in self._seen:  # a commit takes up one of each
            raise DecodeError("a member wished for the same twice in one epoch")
        self._seen.add((proposal.sender, proposal.wish))
        self.messages.append(message)
        who = next((leaf.identity for leaf in leaves if leaf.index == proposal.sender), b"")
        is_often = removal is None and now < self._updated_at.get(who, float("-inf")) + UPDATE_GAP_S
        if removal is None:
            self._updated_at[who] = now
        if not is_often:  # else it waits for a commit that is made for another reason: each is an epoch for all
            self.since = now if self.since is None else self.since
        if removal is not None:
            self.leavers[removal.identity] = removal

    def clear(self) -> None:
        """Another epoch began; what is left to do, if anything, keeps its place."""
        self.messages, self.leavers, self.has_update, self._seen = [], {}, False, set()


def _farewell(proposal: MlsProposal, leaves: Iterable[MlsLeaf], vlan_id: VlanId) -> Removal:
    """The word of a member that wishes to go. Raises DecodeError."""
    removal = Removal.parse_untrusted(proposal.word)
    sender = {(leaf.identity, leaf.key) for leaf in leaves if leaf.index == proposal.sender}
    is_own = bool(signers(removal, vlan_id, (removal.identity,)))
    if (removal.identity, removal.key) not in sender or not is_own:
        raise DecodeError("removal: it is not its sender's own")
    return removal
