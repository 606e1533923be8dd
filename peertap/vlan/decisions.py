"""What admins decide: who is in, and who may do what, alone or once enough of them agree (SPEC 9.7).

command ──▶ enough signatures? ──▶ commit                  one is enough in most VLANs
                   └──▶ Move to the other admins ──▶ they agree ──▶ Move ──▶ who asked commits, or another one later
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peertap._core import mls_key_package_owner
from peertap.errors import ConfigError, PeerError
from peertap.vlan.agreement import fits, is_agreed_on, is_first
from peertap.vlan.group_actions import Action, Admit, Dismiss, Move
from peertap.vlan.motions import STAND_IN_S, Waiting
from peertap.vlan.steps import Steps
from peertap.wire.charter import Charter, SpentInvite
from peertap.wire.motion import MAX_ADMINS, Admission, M, Motion, Removal, Roles, signers


class Decisions(Steps):
    """The group, as far as admins steer it. `now` is monotonic, `unix` the time of day, both in seconds."""

    # Commands

    def admit(
        self, packages: Sequence[tuple[bytes, bytes]], unix: int, *, used: SpentInvite | None = None
    ) -> list[Action]:
        """Adds members by (identity, key package); `used` is the invite that they came with, as it is spent then.

        Where more admins have to agree they are asked, and `Admit` comes once they have.

        Raises:
            ConfigError: we are no admin.
            PeerError: a key package is none, or not for this group.
        """
        self._require_admin("admit members")
        newcomers = {identity for identity, _ in packages}
        lost = [leaf.index for leaf in self._mls.leaves if leaf.identity in newcomers]
        charter = self._charter.with_newcomers(newcomers, used, unix)
        if self._charter.threshold > 1:
            admissions = [self._admission(*one) for one in packages]
            open_ones = [one for one in admissions if not self._is_agreed(one)]
            if open_ones:
                return [action for one in open_ones for action in self._move(one)]
            for one in admissions:
                charter = charter.with_admission(self._trimmed(one))
        return self._commit(unix, adds=packages, removes=lost, charter=charter)

    def kick(self, identity: bytes, unix: int) -> list[Action]:
        """Removes a member, who needs a new invite after that.

        Raises:
            ConfigError: we are no admin, there is no such member, it is us, or too few admins would be left.
        """
        self._require_admin("remove members")
        self._leaf_of(identity)
        if identity == self.me:
            raise ConfigError("a node cannot kick itself", hint="peertap vlan leave")
        self._require_enough_admins(identity)
        return self._decide(self._signed(self._motions.like(self._removal(identity))), unix)

    def promote(self, identity: bytes, unix: int) -> list[Action]:
        """Makes a member an admin, of the lowest rank.

        Raises:
            ConfigError: we are no admin, there is no such member, or there are too many admins.
        """
        self._require_admin("promote")
        self._leaf_of(identity)
        if identity not in self._charter.admins and len(self._charter.admins) >= MAX_ADMINS:
            raise ConfigError(f"there are {MAX_ADMINS} admins already", hint="peertap vlan demote MEMBER")
        return self._give_roles(self._charter.with_admin(identity), unix)

    def demote(self, identity: bytes, unix: int) -> list[Action]:
        """Makes an admin a member like others.

        Raises:
            ConfigError: we are no admin, it is none, or it is the last one.
        """
        self._require_admin("demote")
        if identity not in self._charter.admins:
            raise ConfigError("this member is no admin")
        self._require_enough_admins(identity)
        return self._give_roles(self._charter.without_admin(identity), unix)

    def allow_bridging(self, identity: bytes, unix: int, *, is_allowed: bool) -> list[Action]:
        """Says whether other MACs may be behind a member.

        Raises:
            ConfigError: we are no admin, or there is no such member.
        """
        self._require_admin("say who may bridge")
        self._leaf_of(identity)
        return self._give_roles(self._charter.with_bridge(identity, is_allowed=is_allowed), unix)

    def agree(self, name: str, now: float, unix: int) -> list[Action]:
        """Our signature under a change that waits.

        Raises:
            ConfigError: we are no admin, or nothing of that name waits.
            PeerError: it cannot be carried out.
        """
        waiting = self._waiting(name)
        waiting.motion = self._signed(waiting.motion)
        waiting.is_refused = False
        return [Move(waiting.motion), *self._agreed_on(waiting, now, unix)]

    def refuse(self, name: str) -> None:
        """We do not want a change that waits, and are not shown it again. Raises ConfigError: as above.

        Our own we ask for no more; those who have our signature keep it.
        """
        waiting = self._waiting(name)
        waiting.is_refused = True
        if waiting.by == self.me:
            self._motions.forget(waiting)

    # What other admins send

    def moved_untrusted(self, motion: Motion, admin: bytes, now: float, unix: int) -> list[Action]:
        """Another admin asks for a change, or has agreed to one."""
        admins = self._charter.admins
        if self.is_gone or self._lost.never_resumes or self._charter.threshold == 1 or self.me not in admins:
            return []
        if admin not in admins or not fits(motion, self._agreed):
            return []
        waiting = self._motions.take_untrusted(motion, admin, admins)
        return [] if waiting is None else self._agreed_on(waiting, now, unix)

    # Inside

    def _decide(self, motion: Motion, unix: int) -> list[Action]:
        """Carries out what is agreed on, or asks the other admins."""
        return self._carry_out(motion, unix) if self._is_agreed(motion) else self._move(motion)

    def _give_roles(self, charter: Charter, unix: int) -> list[Action]:
        if charter == self._charter:
            return []
        if charter.threshold == 1:
            return self._commit(unix, charter=charter)
        roles = Roles(charter.changes + 1, charter.admins, charter.bridges)
        return self._decide(self._signed(roles), unix)

    def _step_down(self, unix: int) -> list[Action]:
        """We wish to go: where one admin is enough we are none from now on, else our role ends as we go."""
        is_needed = self.me in self._charter.admins and self._charter.threshold == 1
        return self.demote(self.me, unix) if is_needed else []

    def _admission(self, identity: bytes, package: bytes) -> Admission:
        owner = mls_key_package_owner(package)
        if owner is None or owner[0] != identity:
            raise PeerError("commit: a key package is none, or another node's")
        return self._signed(self._motions.like(Admission(*owner, self._charter.changes + 1)))

    def _move(self, motion: Motion) -> list[Action]:
        """Asks the other admins; if one of them asked for the same, our signature is another one under that."""
        waiting = self._motions.take_untrusted(motion, self.me, self._charter.admins)
        if waiting is None:
            raise ConfigError("too many changes wait for other admins", hint="peertap vlan members lists them")
        return [Move(waiting.motion)]

    def _agreed_on(self, waiting: Waiting, now: float, unix: int) -> list[Action]:
        """Carries out a change once enough admins have signed it: who asked for it does, another one much later."""
        if not self._is_agreed(waiting.motion):
            return []
        if waiting.by == self.me:
            return self._carry_out(waiting.motion, unix)
        if not waiting.is_agreed:
            waiting.is_agreed = True
            waiting.next_at = now + STAND_IN_S * (1 + self._charter.admins.index(self.me))
        return []

    def _pursue_all(self, now: float, unix: int) -> list[Action]:
        actions: list[Action] = []
        for one in self._motions.due(now):
            try:
                actions += self._pursue(one, unix)
            except (PeerError, ConfigError) as error:  # it waits on; the others have their turn
                actions += self._refuse(str(error))
        return actions

    def _pursue(self, waiting: Waiting, unix: int) -> list[Action]:
        """It still waits: other admins are asked again, or we stand in for who asked."""
        is_void = not fits(waiting.motion, self._agreed)  # another one that was due with it made it so
        if is_void or waiting.is_refused or self.me not in self._charter.admins:
            return []
        is_agreed, is_admission = self._is_agreed(waiting.motion), isinstance(waiting.motion, Admission)
        if is_agreed and not is_admission:
            return self._carry_out(waiting.motion, unix)
        is_for_others = waiting.by == self.me or is_agreed  # only who has the key package can admit somebody
        return [Move(waiting.motion)] if is_for_others else []

    def _carry_out(self, motion: Motion, unix: int) -> list[Action]:
        motion = self._trimmed(motion)
        match motion:
            case Removal(identity) if identity == self.me:
                return []  # another admin does it
            case Removal(identity):
                self._require_enough_admins(identity)
                charter = self._charter.with_removals([motion])
                done = self._commit(unix, removes=[self._leaf_of(identity).index], charter=charter)
                return [*done, Dismiss(identity, motion)] if self._charter.threshold > 1 else done
            case Roles():
                return self._commit(unix, charter=self._charter.with_roles(motion))
            case Admission(identity):
                return [Admit(identity)]

    def _waiting(self, name: str) -> Waiting:
        self._require_admin("agree to changes")
        waiting = self._motions.named(name)
        if waiting is None:
            raise ConfigError("nothing like that waits", hint="peertap vlan members lists what does")
        return waiting

    def _is_agreed(self, motion: Motion) -> bool:
        return is_agreed_on(motion, self._charter, self._vlan_id, is_first=is_first(motion, self._agreed))

    def _trimmed(self, motion: M) -> M:
        """The change with as many signatures as it needs: everybody keeps them."""
        signed = signers(motion, self._vlan_id, self._charter.admins)
        good = tuple(one for one in motion.signatures if one[0] in signed)
        return replace(motion, signatures=good[: self._charter.threshold])

    def _require_admin(self, what: str) -> None:
        if self._lost.never_resumes:
            raise ConfigError("this node's state is a backup: it waits until an admin lets it come back")
        if self.me not in self._charter.admins:
            raise ConfigError(f"only admins {what}, and this node is none", hint="ask an admin to promote it")

    def _require_enough_admins(self, without: bytes) -> None:
        left, threshold = set(self._charter.admins) - {without}, self._charter.threshold
        if without in self._charter.admins and (not left & self.members or len(left) < threshold):
            fewer = f"{threshold} admins have to agree, and fewer would be left"
            raise ConfigError(
                "this is the last admin" if threshold == 1 else fewer, hint="peertap vlan promote MEMBER first"
            )
