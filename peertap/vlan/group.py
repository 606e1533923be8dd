"""Our place in a VLAN's group: what is asked of it, what others did, and what is to be done then (PROTOCOL 10).

    command ──▶ commit ──▶ Save, ToAll, Welcome, EpochBegan
    commit of another ──▶ allowed? ──▶ Save, EpochBegan             else dropped: nothing has changed
    wish of another ──▶ the highest admin present commits it within a minute, the next ones later
    position of another ──▶ behind: Give │ ahead: Tell where we are │ elsewhere, and we are an admin: Show our branch
    branch of an admin ──▶ ours wins: Show it │ it wins, or went on too far: ask admins for a GroupInfo, rejoin

A step's actions are in order: what follows a Save is done once the record is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from peertap._core import (
    MlsError,
    MlsGroup,
    MlsMember,
    MlsProposal,
    mls_group_info_position,
    mls_message_epoch,
)  # fmt: skip
from peertap.errors import DecodeError, PeerError
from peertap.vlan.agreement import GOOD_FOR, Agreed, follow, is_agreed_on, unproven, unproven_leap
from peertap.vlan.commits import Step, beats, charter_vlan_id, fixed_refusal, fork, spending_refusal, wins
from peertap.vlan.decisions import Decisions
from peertap.vlan.group_actions import (
    Action,
    AskAdmins,
    Dismiss,
    EpochBegan,
    Give,
    GiveInfo,
    Gone,
    Show,
    Tell,
    ToAll,
    Us,
    at_once,
)  # fmt: skip
from peertap.vlan.saved import SavedGroup
from peertap.vlan.wishes import Wishes
from peertap.wire.charter import Charter
from peertap.wire.motion import Removal
from peertap.wire.routes import signed_by

COMMIT_AFTER_S: Final = 10.0  # PROTOCOL 10: commits that can wait are batched, at most one in 10 s
RANK_STEP_S: Final = 10.0  # ours: each lower admin waits so much longer, so that one of them commits
RANK_MOST_S: Final = 50.0  # PROTOCOL 10: within 60 s
DISMISSED_S: Final = 10.0  # ours: who was told that it is removed believes it unless somebody gives it a step meanwhile
TELL_GAP_S: Final = 1.0  # ours: our position is told once in so long


class Group(Decisions):
    """A VLAN's group as one member sees it. `now` is monotonic, `unix` the time of day, both in seconds."""

    @classmethod
    def create(cls, member: MlsMember, us: Us, charter: Charter, now: float, unix: int) -> tuple[Group, list[Action]]:
        """A new group with us alone."""
        mls = member.create(charter.emit(), unix)
        group = cls(mls, us, now)
        return group, [group._save(), EpochBegan(mls.epoch)]

    @classmethod
    def restore(cls, saved: SavedGroup, us: Us, now: float) -> Group:
        """The group of a former process.

        Raises:
            DecodeError: the record is damaged.
        """
        try:
            group = cls(MlsGroup.restore(saved.record), us, now)
        except MlsError as error:
            raise DecodeError(f"group state: {error}") from None
        messages = (*(None for _ in saved.steps[1:]), saved.messages)
        for given, step, who, before in zip(messages, saved.steps, saved.returned, saved.before, strict=True):
            group.log.add(given, step, returned=who, before=before)
        group._wishes = Wishes(saved.wishes, saved.leavers, now if saved.wishes else None)
        group.is_leaving = group.me in group._wishes.leavers
        return group

    @classmethod
    def join(
        cls, member: MlsMember, us: Us, welcome: bytes, vlan_id: bytes, now: float, unix: int
    ) -> tuple[Group, list[Action]]:
        """The group that a Welcome opens.

        Raises:
            PeerError: it is not for us, or its charter is not this VLAN's.
        """
        try:
            mls = member.join(welcome, unix)
            group = cls(mls, us, now)
        except (MlsError, DecodeError) as error:
            raise PeerError(f"welcome: {error}") from None
        charter = group.charter
        if charter_vlan_id(charter) != vlan_id:
            raise PeerError("welcome: the charter is another VLAN's")
        ours = [one for one in charter.admissions if one.identity == group.me]
        proven = [is_agreed_on(one, charter, charter_vlan_id(charter), is_first=True) for one in ours]
        if charter.threshold > 1 and not any(proven):
            raise PeerError("welcome: not enough admins agreed on us")
        return group, [group._save(), EpochBegan(mls.epoch)]

    def come_back(self, now: float) -> None:
        """Our state comes from a backup: it serves to return, by an admin, and for nothing else."""
        self._lost.begin(now, never_resumes=True)

    @property
    def wishes(self) -> tuple[bytes, ...]:
        """What members wished for in this epoch, as far as we know."""
        return tuple(self._wishes.messages)

    @property
    def helpers(self) -> frozenset[bytes]:
        """Who can let us come back."""
        return frozenset(one for one in self.members if one != self.me and self._may_help(one, self.me))

    @property
    def is_returning(self) -> bool:
        """Whether our state may not be used before we have come back."""
        return self._lost.never_resumes

    # Commands

    def rotate(self, unix: int) -> list[Action]:
        """New keys: by a commit of ours, or by a wish for one where we are no admin."""
        if self.me in self._charter.admins:
            return self._commit(unix)
        if self._wishes.has_update:
            return []  # the next commit takes it up
        actions = self._wish(self._mls.propose_update)
        self._wishes.has_update = True
        return actions

    def leave(self, unix: int) -> list[Action]:
        """A wish to go; `Gone` comes when an admin has committed it. Raises ConfigError: others need us as an admin."""
        if self.members == {self.me}:
            self.is_gone = True
            return [Gone()]
        if self.is_leaving:
            return []
        if self.me not in self._charter.admins:
            self.is_leaving = True
            return self._wish(self._propose_leave)
        self._require_enough_admins(self.me)
        self.is_leaving = True
        return [*self._step_down(unix), *self._wish(self._propose_leave)]

    # What others send

    def received_untrusted(self, message: bytes, sender: bytes, now: float, unix: int) -> list[Action]:
        """A commit or wish, from whoever passed it on. What is not right is counted in `refused`.

        Its sender learns where we are if it belongs elsewhere: two admins that never lost sight of each other may have
        committed at once, and nothing else would say so.
        """
        followed = self._follow(message, now, unix)
        return self._tell(sender, now) if followed is None else followed

    def told_position(self, sender: bytes, epoch: int, transcript_hash: bytes, now: float) -> list[Action]:
        """Where another member is. Who is on another branch is shown ours if we are an admin: others decide nothing."""
        removal = next((one for one in self._charter.removals if one.identity == sender), None)
        if self.is_gone or self._lost.never_resumes:
            return []
        if removal is not None:
            return [Dismiss(sender, removal)]
        if sender not in self.members or (epoch, transcript_hash) == self.position:
            return []
        if epoch > self.epoch:
            return self._tell(sender, now)
        messages = self.log.since(epoch, transcript_hash)
        if messages:
            return [Give(sender, tuple(messages))]
        return [self._show(sender)] if self._shows else []

    @property
    def _shows(self) -> bool:
        """Whether our word on branches counts for others; an admin that leaves is none here, but on other branches."""
        return self.me in self._charter.admins or self.is_leaving

    def given(self, messages: Sequence[bytes], sender: bytes, now: float, unix: int) -> list[Action]:
        """What we lacked, in order. If we cannot follow, admins are asked; an admin follows another's word alone."""
        if sender not in self.members:
            return []
        before, refusals = self.epoch, self.refusals
        each = [self._follow(message, now, unix) for message in messages]
        actions = at_once([action for one in each for action in one or ()])
        if self.epoch > before and not self.is_gone:
            actions.append(Tell(sender, *self.position))  # there may be more than a letter holds
        cannot = self.epoch == before and self.refusals > refusals
        if cannot and not self.is_gone and self.me not in self._charter.admins:
            actions += self._lose(now)
        return actions

    def shown_untrusted(self, shown: Show, admin: bytes, now: float) -> list[Action]:
        """An admin's branch. If it wins we are lost, else the admin is; removals of both count."""
        is_theirs = admin in self._charter.admins and signed_by(admin, shown.signature, shown.signed(self._vlan_id))
        if self.is_gone or self._lost.never_resumes or shown.identity != self.me or not is_theirs:
            return []
        parts = fork(self.log.steps(), shown.steps)
        if parts is None:
            too_far = bool(shown.steps) and shown.steps[0].epoch > self.epoch
            return self._lose(now) if too_far else []
        shared, ours, theirs = parts
        if not theirs or not self._were_agreed_on(shared, theirs):
            return []
        if not wins(ours, theirs):
            if not beats(self._lost.branch, shown.steps):
                self._lost.branch = shown.steps
            return self._lose(now)
        self._condemn(theirs, now)
        return [self._show(admin)] if self._shows else []

    def asked_by_lost(self, sender: bytes, ask: AskAdmins, now: float) -> list[Action]:
        """A member is lost. Admins help one at a time: not two can come back at one point."""
        if sender not in self.members or self.is_gone or not self._may_help(self.me, sender):
            return []
        self._condemn(ask.steps, now)
        if sender in self._returns.condemned or self._lost.is_new(now):
            return []
        self._returns.ask(sender, ask.nonce)
        return self._help(now)

    def rejoin_untrusted(self, info: GiveInfo, admin: bytes, now: float, unix: int) -> list[Action]:
        """Comes back into a group that went on without us, where an admin says it is."""
        lost = self._lost
        if self.is_gone or info.identity != self.me or not lost.nonce:
            return []
        signed = info.signed(self._vlan_id, lost.nonce)
        position = mls_group_info_position(info.group_info)
        is_signed = self._may_help(admin, self.me) and signed_by(admin, info.signature, signed)
        if not is_signed or not info.steps or position != info.steps[-1].position:
            return self._refuse("a GroupInfo that no admin signed for us")
        parts = fork(self.log.steps(), info.steps)
        is_behind = parts is not None and not parts[2] and position != self.position
        is_hasty = parts is None and self._charter.threshold > 1 and lost.is_new(now) and not lost.never_resumes
        is_better = not lost.never_resumes and beats(self.log.steps(), info.steps)
        if is_behind or is_hasty or is_better or beats(lost.branch, info.steps):
            return []  # this admin has yet to hear of what we know, or others may know a step that we know
        lost.nonce = b""
        if position == self.position and not lost.never_resumes:
            lost.end()
            return []
        shared = parts[0] if parts is not None else self.epoch
        new = [one for one in info.steps if one.epoch > shared]
        try:
            mls, commit = self._mls.rejoin(info.group_info, shared, unix)
            after = self._reached(mls)
        except (MlsError, DecodeError) as error:
            return self._refuse(str(error))
        charter = after.charter
        if charter_vlan_id(charter) != self._vlan_id or self.me in charter.removed:
            return self._refuse("a GroupInfo of another VLAN, or of one that we were removed from")
        if parts is None:  # nobody can say what they did
            new = [replace(one, motions=()) for one in new]
        reason = self._return_refusal(after, None if parts is None else shared, new, unix)
        if reason is not None:
            return self._refuse(f"a GroupInfo that does not follow: {reason}")
        before = self.log.agreed_at(shared) or self._agreed
        self.log.cut(shared)
        for step in new:
            is_to_prove = charter.threshold > 1 and bool(step.motions)
            self.log.add(None, step, before=before if is_to_prove else None)
            before = (follow(before, step.motions, self._vlan_id) if is_to_prove else None) or before
        self._mls, self._agreed, self._wishes, self._helper = mls, after, Wishes(since=self._wishes.since), admin
        return self._stepped(commit, None, after, [ToAll(commit)], returned=self.me)

    def dismissed_untrusted(self, removal: Removal, now: float) -> list[Action]:
        """Somebody says that we were removed: an admin's word counts, and our own if we wish to go."""
        is_ours = (removal.identity, removal.key) == (self.me, self._leaf_of(self.me).key)
        is_old = self._charter.threshold > 1 and removal.number + GOOD_FOR <= self._charter.changes + 1
        counts = is_ours and (self.is_leaving if removal.is_own else not is_old)
        if self.is_gone or not counts or not is_agreed_on(removal, self._charter, self._vlan_id):
            return []
        if self._charter.threshold > 1 and not removal.is_own:  # more than one former admin would have to lie
            self.is_gone = True
            return [Gone()]
        if self._dismissed_at == float("inf"):  # whoever said so may itself be gone: others may give us what we lack
            self._dismissed_at = now + DISMISSED_S
        return []

    def reminded_untrusted(self, secrets: bytes, admin: bytes) -> list[Action]:
        """Rejoin secrets of epochs that we missed, of the admin that helped us."""
        if admin != self._helper:
            return []
        self._helper = None
        try:
            self._mls.take_rejoin_secrets(secrets)
        except MlsError as error:
            return self._refuse(str(error))
        return [self._save()]

    # Time

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        if self.is_gone:
            return None
        again = float("-inf") if self._must_wish_again() else float("inf")
        waits = self._returns.next_at(), self._motions.next_at()
        return min(self._update_at, self._commit_at(), self._lost.next_at(), self._dismissed_at, again, *waits)

    def tick(self, now: float, unix: int) -> list[Action]:
        """Commits what was wished for, and gives ourselves new keys every day."""
        if self.is_gone:
            return []
        if self._dismissed_at <= now:
            self.is_gone = True
            return [Gone()]
        if self._lost.is_due(now):
            return self._ask_admins(now)
        if self._lost.never_resumes:
            return []
        if self._returns.next_at() <= now:
            return self._help(now)
        if self._motions.next_at() <= now:
            return self._pursue_all(now, unix)
        if self._commit_at() <= now:
            return self._commit_wishes(now, unix)
        if self._must_wish_again():
            return [*self._step_down(unix), *self._wish(self._propose_leave)]
        if self._update_at <= now:
            self._update_at = self._next_update_at(now)
            return self.rotate(unix)
        return []

    def _must_wish_again(self) -> bool:
        """A commit did not take up our wish to go, or a branch won on which we are an admin still."""
        is_last = self.members.intersection(self._charter.admins) == {self.me}
        return self.is_leaving and not is_last and self.me not in self._wishes.leavers

    def _commit_at(self) -> float:
        since = self._wishes.since
        if since is None or self.me not in self._charter.admins or self.is_leaving:
            return float("inf")
        return since + COMMIT_AFTER_S + min(RANK_STEP_S * self._charter.admins.index(self.me), RANK_MOST_S)

    # Inside

    def _follow(self, message: bytes, now: float, unix: int) -> list[Action] | None:
        """Takes up a commit or wish of our epoch; None: it belongs elsewhere."""
        epoch = mls_message_epoch(message)
        if self.is_gone or self._lost.never_resumes or epoch is None:
            return []
        if message in self._wishes.messages or self.log.has(epoch, message):
            return []
        if epoch != self.epoch:
            return None
        try:
            received = self._mls.process(message, unix)
        except MlsError as error:
            self._refuse(str(error))
            return None
        if isinstance(received, MlsProposal):
            return self._wished(received, message, now)
        return self._changed(received, message, unix)

    def _commit_wishes(self, now: float, unix: int) -> list[Action]:
        """What members wished for, and the removals of a branch that lost."""
        condemned = self._returns.possible(self._agreed, self._vlan_id)
        if not condemned and not self._wishes.messages:
            self._wishes.since = None  # what was to be done cannot be
            return []
        gone = [leaf.index for one in condemned for leaf in self._mls.leaves if leaf.identity == one.identity]
        charter = self._charter.with_removals(condemned)
        try:
            return self._commit(unix, removes=gone, charter=charter)
        except PeerError as error:
            self._wishes.since = now  # later again
            return self._refuse(str(error))

    def _propose_leave(self) -> bytes:
        removal = self._removal(self.me)
        message = self._mls.propose_leave(removal.emit())
        self._wishes.leavers[self.me] = removal  # so that the next process knows
        return message

    def _wish(self, propose: Callable[[], bytes]) -> list[Action]:
        try:
            message = propose()
        except MlsError as error:
            raise PeerError(f"wish: {error}", hint="it was made already; an admin takes note of it") from None
        self._wishes.messages.append(message)
        return [self._save(), ToAll(message)]

    def _tell(self, sender: bytes, now: float) -> list[Action]:
        """Our position, to a member that is elsewhere, and an admin's branch; the same one seldom."""
        at, epoch = self._told.get(sender, (float("-inf"), 0))
        if sender not in self.members or (now < at + TELL_GAP_S and epoch == self.epoch):
            return []
        told = {who: one for who, one in self._told.items() if who in self.members}
        self._told = told | {sender: (now, self.epoch)}
        shown = [self._show(sender)] if self._shows else []
        return [Tell(sender, *self.position), *shown]

    def _show(self, identity: bytes) -> Show:
        unsigned = Show(identity, self.log.steps())
        return replace(unsigned, signature=self._us.sign(unsigned.signed(self._vlan_id)))

    def _condemn(self, theirs: Sequence[Step], now: float) -> None:
        """Who was removed on a branch that lost, by an admin or by itself, goes here too before anybody comes back."""
        others = {who: key for who, key in self._agreed.roster.items() if who != self.me}
        if self._returns.condemn(theirs, replace(self._agreed, roster=others), self._vlan_id):
            self._wishes.since = now - COMMIT_AFTER_S

    def _help(self, now: float) -> list[Action]:
        """A GroupInfo for the next one that is lost, if it is its turn."""
        turn = self._returns.take_turn(now)
        if turn is None:
            return []
        unsigned = GiveInfo(turn[0], self._mls.group_info(), self.log.steps())
        return [replace(unsigned, signature=self._us.sign(unsigned.signed(self._vlan_id, turn[1])))]

    def _lose(self, now: float) -> list[Action]:
        """Another branch won, or went on too far."""
        if self._lost.is_lost:
            return []
        self._lost.begin(now)
        return self._ask_admins(now)

    def _ask_admins(self, now: float) -> list[Action]:
        return [AskAdmins(self.log.steps(), self._lost.question(now, self._us.random, self._us.jitter()))]

    def _may_help(self, helper: bytes, lost: bytes) -> bool:
        """An admin may let somebody come back; the only admin itself is helped by any member."""
        is_only = self.members.intersection(self._charter.admins) == {lost}
        return helper in self._charter.admins or (is_only and helper in self.members)

    def _were_agreed_on(self, shared: int, steps: Sequence[Step]) -> bool:
        """Whether admins agreed on what steps after a common epoch did; where one is enough its word is."""
        before = self.log.agreed_at(shared) or self._agreed
        motions = [motion for step in steps for motion in step.motions]
        return before.charter.threshold == 1 or follow(before, motions, self._vlan_id) is not None

    def _return_refusal(self, after: Agreed, shared: int | None, steps: Sequence[Step], unix: int) -> str | None:
        """Why we do not come back into a group; `shared`: the last epoch in common, if there is one."""
        now = self._agreed
        before = now if shared is None else self.log.agreed_at(shared) or now
        reason = fixed_refusal(before.charter, after.charter)
        if reason is not None or now.charter.threshold == 1:
            return reason
        agreed = [one for one in now.charter.removals if not one.is_own]  # who went by itself will wish to again
        if any(after.roster.get(one.identity) == one.key for one in agreed):
            return "somebody is in it who was removed"
        if shared is not None:
            reason = unproven(before, after, self._vlan_id, [motion for step in steps for motion in step.motions])
        elif steps and steps[0].epoch <= self.epoch and not self._lost.never_resumes:
            reason = "it shows no step that we know, though it cannot be long that we were away"
        else:
            reason = unproven_leap(before, after, self._vlan_id)
        newcomers = len(set(after.charter.admissions) - set(before.charter.admissions))
        return reason or spending_refusal(before.charter, after.charter, unix, newcomers=newcomers)
