"""A group and the steps that it takes: how a commit of ours or of another one becomes the next epoch (SPEC 9.3).

order or message ──▶ tentative step of the MLS group ──▶ allowed? ──▶ kept, logged, Save, what it says to others
                                                             └──────▶ dropped: nothing has changed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from peertap._core import (
    MlsChange,
    MlsError,
    MlsGroup,
    MlsLeaf,
    MlsProposal,
)  # fmt: skip
from peertap.errors import ConfigError, DecodeError, PeerError
from peertap.types import VlanId
from peertap.vlan.agreement import Agreed, between, unproven
from peertap.vlan.commits import MAX_RETURNS, CommitLog, Step, beats, refusal
from peertap.vlan.group_actions import (
    Action,
    EpochBegan,
    Gone,
    Remind,
    Save,
    ToAll,
    Us,
    Welcome,
)  # fmt: skip
from peertap.vlan.lost import Lost
from peertap.vlan.motions import Motions, Waiting
from peertap.vlan.returns import Returns
from peertap.vlan.saved import SavedGroup
from peertap.vlan.wishes import Wishes
from peertap.wire.charter import Charter
from peertap.wire.motion import M, Removal, with_signatures

UPDATE_S: Final = 24 * 3600.0  # PROTOCOL 10: new keys of our own every day
MAX_REASONS: Final = 16


class Steps:
    """The group as it stands. `now` is monotonic, `unix` the time of day, both in seconds."""

    def __init__(self, mls: MlsGroup, us: Us, now: float) -> None:
        self.me: Final = us.public_key
        self.log: Final = CommitLog()
        self.refused: deque[str] = deque(maxlen=MAX_REASONS)  # the last reasons, for status
        self.refusals = 0
        self.is_gone = False
        self._mls = mls
        self._us = us
        self._agreed = self._reached(mls)
        self._motions: Final = Motions(self._vlan_id, us.random)
        self.log.add((), Step(*self.position, None))
        self._wishes = Wishes()
        self._update_at = self._next_update_at(now)
        self._told: dict[bytes, tuple[float, int]] = {}  # whom our position, when, and of which epoch
        self.is_leaving = False  # we wish to go
        self._lost = Lost()
        self._helper: bytes | None = None  # the admin by whose GroupInfo we came back
        self._returns: Final = Returns()
        self._dismissed_at = float("inf")

    @property
    def epoch(self) -> int:
        return self._mls.epoch

    @property
    def mls(self) -> MlsGroup:
        """For the keys of the epoch."""
        return self._mls

    @property
    def charter(self) -> Charter:
        return self._agreed.charter

    @property
    def motions(self) -> dict[str, Waiting]:
        """What waits until more admins agree, by name."""
        return {one.name: one for one in self._motions.all()}

    @property
    def members(self) -> frozenset[bytes]:
        """Identities."""
        return frozenset(self._agreed.roster)

    @property
    def roster(self) -> Mapping[bytes, bytes]:
        """Members' MLS keys by identity."""
        return self._agreed.roster

    @property
    def highest_admin(self) -> bytes | None:
        """Of those who are in: founders may still have to come."""
        return next((one for one in self._charter.admins if one in self._agreed.roster), None)

    @property
    def position(self) -> tuple[int, bytes]:
        """Epoch and transcript hash."""
        return self._mls.epoch, self._mls.transcript_hash

    def _commit(
        self,
        unix: int,
        *,
        adds: Sequence[tuple[bytes, bytes]] = (),
        removes: Sequence[int] = (),
        charter: Charter | None = None,
    ) -> list[Action]:
        charter = charter or self._charter
        leavers = {who: one for who, one in self._wishes.leavers.items() if who != self.me}  # others do that for us
        charter = charter.with_removals([one for who, one in leavers.items() if who not in charter.removed])
        before, rank = self._agreed, self._charter.admins.index(self.me)
        going = {leaf.index for leaf in self._mls.leaves if leaf.identity in leavers}
        removes = [index for index in removes if index not in going]  # their own wish does it
        packages = [package for _, package in adds]
        try:
            context = charter.emit() if charter != self._charter else None
            message, welcome = self._mls.commit(unix, adds=packages, removes=removes, context=context)
            after = self._reached(self._mls)
        except (MlsError, DecodeError) as error:
            raise self._dropped(str(error)) from None
        added = {identity for identity, _ in adds}
        new = after.roster.keys() - before.roster.keys()
        if after.charter != charter or new != added - before.roster.keys() or not added <= after.roster.keys():
            raise self._dropped("it would do something else; a key package is another node's")
        reason = unproven(before, after, self._vlan_id)
        if reason is not None:
            raise self._dropped(reason)
        self._agreed = after
        sent: list[Action] = [ToAll(message), *(Welcome(identity, welcome) for identity, _ in adds)]
        return self._stepped(message, rank, before, sent)

    def _dropped(self, reason: str) -> PeerError:
        """A commit of ours does not come about; the reason may be what members wished for."""
        self._mls.drop_step()
        if self._wishes.messages:
            self._mls.forget_wishes()
            self._wishes.clear()
        return PeerError(f"commit: {reason}", hint="try again: wishes of members were forgotten")

    def _wished(self, proposal: MlsProposal, message: bytes, now: float) -> list[Action]:
        who = next((leaf.identity for leaf in self._mls.leaves if leaf.index == proposal.sender), b"")
        left = set(self._charter.admins) - {who, *self._wishes.leavers}
        is_ours_to_commit = proposal.wish == "leave" and self.me in self._charter.admins
        if is_ours_to_commit and who in self._charter.admins and len(left) < self._charter.threshold:
            self._mls.drop_step()
            return self._refuse("an admin wishes to go, and fewer would be left than have to agree")
        try:
            self._wishes.take_untrusted(proposal, message, self._mls.leaves, self._vlan_id, now)
        except DecodeError as error:
            self._mls.drop_step()
            return self._refuse(str(error))
        return [self._save()]

    def _changed(self, change: MlsChange, message: bytes, unix: int) -> list[Action] | None:
        before = self._agreed
        if change.removed_us:
            return self._removed(change)
        try:
            after = self._reached(self._mls)
            members = frozenset(after.roster)
            reason = refusal(before.charter, after.charter, change, members, unix) or self._too_often(change)
            reason = reason or unproven(before, after, self._vlan_id)
            is_old = any(before.roster.get(leaf.identity) == leaf.key for leaf in change.added)
            if is_old and before.charter.threshold > 1:
                reason = reason or "it lets a member in by its old key package"
        except DecodeError as error:
            reason = str(error)
        if reason is not None:
            self._mls.drop_step()
            return self._refuse(reason)
        self._agreed = after
        who = change.committer.identity if change.committer is not None else b""
        rank = None if change.is_external else before.charter.admins.index(who)
        reminded: list[Action] = []
        if change.is_external and self._returns.is_back(who):
            reminded = [Remind(who, self._mls.rejoin_secrets())]
        return self._stepped(message, rank, before, reminded, returned=who if change.is_external else None)

    def _next_update_at(self, now: float) -> float:
        return now + UPDATE_S * (0.5 + self._us.jitter() / 2)

    def _too_often(self, change: MlsChange) -> str | None:
        """Why a return is one too many; None: it is not."""
        who = change.committer.identity if change.is_external and change.committer is not None else None
        if who is None or self.log.returns_of(who) < MAX_RETURNS:
            return None
        return "its sender came back too often since the last change by an admin"

    def _removed(self, change: MlsChange) -> list[Action] | None:
        """Only an admin removes. Where several have to agree, the commit does not show that they did: we ask."""
        if self._charter.threshold > 1 and not self.is_leaving:
            self._mls.drop_step()
            return None
        if change.committer is None or change.is_external or change.committer.identity not in self._charter.admins:
            self._mls.drop_step()
            return self._refuse("its sender is no admin")
        self.is_gone = True
        return [Gone()]

    def _stepped(
        self,
        message: bytes,
        rank: int | None,
        before: Agreed,
        sent: list[Action],
        *,
        returned: bytes | None = None,
    ) -> list[Action]:
        """A step counts: its record first, then what it says to others."""
        step = Step(*self.position, rank, between(before.charter, self._charter))
        gone = frozenset(before.roster.keys() - self._agreed.roster.keys())
        is_to_prove = self._charter.threshold > 1 and before != self._agreed
        messages = (*self._wishes.messages, message)
        self.log.add(messages, step, returned=returned, before=before if is_to_prove else None)
        self._motions.stepped(self._agreed)
        self._dismissed_at = float("inf")  # who was dismissed is not given a step
        self._returns.stepped(self.members)
        self._wishes.clear()
        if returned == self.me or not beats(self._lost.branch, self.log.steps()):
            self._lost.end()
        self._wishes.since = self._wishes.since if self._returns.condemned else None
        return [self._save(), *sent, EpochBegan(step.epoch, gone)]

    def _save(self) -> Save:
        """Keeps the step, and makes what must be on disk before anything of it is used."""
        last = self.log.last()
        saved = SavedGroup(
            record=self._mls.keep(),
            steps=self.log.steps(),
            returned=tuple(one.returned for one in self.log.all()),
            before=tuple(one.before for one in self.log.all()),
            messages=last.messages or (),
            wishes=tuple(self._wishes.messages),
            leavers=tuple(self._wishes.leavers.values()),
        )
        return Save(saved.emit())

    def _removal(self, identity: bytes) -> Removal:
        return self._signed(Removal(identity, self._leaf_of(identity).key, self._charter.changes + 1))

    def _signed(self, motion: M) -> M:
        """The motion with our signature under it."""
        return with_signatures(motion, ((self.me, self._us.sign(motion.signed(self._vlan_id))),))

    @property
    def _charter(self) -> Charter:
        return self._agreed.charter

    @staticmethod
    def _reached(mls: MlsGroup) -> Agreed:
        """Where a group is. Raises DecodeError: its charter is none."""
        return Agreed(Charter.parse_untrusted(mls.context), {leaf.identity: leaf.key for leaf in mls.leaves})

    def _refuse(self, reason: str) -> list[Action]:
        self.refused.append(reason)
        self.refusals += 1
        return []

    @property
    def _vlan_id(self) -> VlanId:
        return VlanId(self._mls.vlan_id)

    def _leaf_of(self, identity: bytes) -> MlsLeaf:
        for leaf in self._mls.leaves:
            if leaf.identity == identity:
                return leaf
        raise ConfigError("there is no such member", hint="peertap vlan members")
