"""What members wish for in an epoch: new keys, or to go. The next commit takes all of it up (SPEC 9.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peertap._core import MlsLeaf, MlsProposal
from peertap.errors import DecodeError
from peertap.types import VlanId
from peertap.vlan.commits import is_genuine
from peertap.wire.charter import Removal

WISHES_EACH: Final = 2  # ours: new keys, and to go


class Wishes:
    """Those of one epoch, in order. `since`: when the oldest that waits came."""

    def __init__(
        self, messages: Iterable[bytes] = (), leavers: Iterable[Removal] = (), since: float | None = None
    ) -> None:
        self.messages = list(messages)
        self.leavers = {one.identity: one for one in leavers}
        self.since = since
        self._counts: dict[int, int] = {}  # by leaf

    def take_untrusted(
        self, proposal: MlsProposal, message: bytes, leaves: Iterable[MlsLeaf], vlan_id: VlanId, now: float
    ) -> None:
        """A wish of another member.

        Raises:
            DecodeError: it says something that is not its sender's to say, or is one too many; nothing has changed.
        """
        removal = _farewell(proposal, leaves, vlan_id) if proposal.wish == "leave" else None
        if self._counts.get(proposal.sender, 0) >= WISHES_EACH:
            raise DecodeError("a member has too many wishes in one epoch")
        self._counts[proposal.sender] = self._counts.get(proposal.sender, 0) + 1
        self.messages.append(message)
        self.since = now if self.since is None else self.since
        if removal is not None:
            self.leavers[removal.identity] = removal

    def clear(self) -> None:
        """Another epoch began; what is left to do, if anything, keeps its place."""
        self.messages, self.leavers, self._counts = [], {}, {}


def _farewell(proposal: MlsProposal, leaves: Iterable[MlsLeaf], vlan_id: VlanId) -> Removal:
    """The word of a member that wishes to go. Raises DecodeError."""
    removal = Removal.parse_untrusted(proposal.word)
    sender = {(leaf.identity, leaf.key) for leaf in leaves if leaf.index == proposal.sender}
    is_own = removal.admin == removal.identity and is_genuine(removal, vlan_id, ())
    if (removal.identity, removal.key) not in sender or not is_own:
        raise DecodeError("removal: it is not its sender's own")
    return removal
