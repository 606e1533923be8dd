"""Members of one VLAN's group and what passes between them, without a network: real MLS, no delays, some are away."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

from peertap._core import AES_256_GCM, MlsMember, MlsSigner, mls_credential_message
from peertap.identity.node import NodeIdentity
from peertap.vlan.commits import charter_vlan_id
from peertap.vlan.group import Group
from peertap.vlan.group_actions import (
    Action,
    Admit,
    AskAdmins,
    Dismiss,
    EpochBegan,
    Give,
    GiveInfo,
    Move,
    Remind,
    Save,
    Show,
    Tell,
    ToAll,
    Welcome,
)
from peertap.vlan.saved import SavedGroup
from peertap.wire.charter import Charter
from tests.support.identities import identity

HYBRID, CLASSICAL = 0xF1A1, 1
UNIX = 1_800_000_000
NOT_AFTER = UNIX + 365 * 86_400
ROUTING = bytes(32)
MAX_ACTIONS = 5000


def key_of(name: str) -> bytes:
    return identity(name).public_key


def charter_of(*founders: str, threshold: int = 1) -> Charter:
    admins = tuple(map(key_of, founders))
    return Charter(
        label="town",
        name_nonce=bytes(16),
        creators=tuple(sorted(admins)),
        threshold=threshold,
        aead=AES_256_GCM,
        lobby=bytes(32),
        admins=admins,
    )


def credential(who: NodeIdentity, vlan_id: bytes, suite: int, key: bytes) -> bytes:
    signature = who.sign(mls_credential_message(vlan_id, who.public_key, suite, NOT_AFTER, key))
    return who.public_key + NOT_AFTER.to_bytes(8, "big") + signature


def member(name: str, vlan_id: bytes, suite: int = CLASSICAL) -> MlsMember:
    signer = MlsSigner(suite)
    return MlsMember(signer, vlan_id, credential(identity(name), vlan_id, suite, signer.public))


@dataclass(frozen=True)
class Us:
    """A node, as far as its group needs it."""

    name: str

    @property
    def public_key(self) -> bytes:
        return key_of(self.name)

    def sign(self, message: bytes) -> bytes:
        return identity(self.name).sign(message)

    def random(self, size: int) -> bytes:
        return os.urandom(size)

    def jitter(self) -> float:
        return int.from_bytes(self.public_key[:2], "big") / 65536


@dataclass
class Citizen:
    """A member, its disk, and what it was told."""

    name: str
    group: Group
    state: bytes = b""
    is_away: bool = False
    side: int = 0
    epochs: list[int] = field(default_factory=list)

    def restart(self, now: float) -> None:
        """A new process with what is on disk."""
        self.group = Group.restore(SavedGroup.parse(self.state), Us(self.name), now)


class Town:
    """All members; what one sends reaches all who are not away, at once."""

    def __init__(
        self, *others: str, suite: int = CLASSICAL, founders: tuple[str, ...] = (), threshold: int = 1
    ) -> None:
        """Args: founders: admins from the beginning, beside the mayor; threshold: of them have to agree."""
        self.now, self.suite = 1000.0, suite
        charter = charter_of("mayor", *founders, threshold=threshold)
        self.vlan_id = charter_vlan_id(charter)
        mayor = member("mayor", self.vlan_id, suite)
        group, actions = Group.create(mayor, Us("mayor"), charter, self.now, self.unix)
        self.citizens = {"mayor": Citizen("mayor", group)}
        self.newcomers: dict[bytes, tuple[str, MlsMember]] = {}
        self.packages: dict[bytes, bytes] = {}
        self._todo: deque[tuple[Citizen, Action]] = deque()
        self._busy = False
        self.done = 0  # actions
        self.crash_at = 0  # instead of this one its actor's process ends, and starts again
        self.chance: random.Random | None = None  # picks who acts next; None: who has waited longest
        self.do("mayor", actions)
        for name in founders:
            self.invite(name)
        for name in others:
            self.invite(name)
            self.agree_on(*founders[: threshold - 1])

    @property
    def unix(self) -> int:
        return UNIX + int(self.now)

    @property
    def times(self) -> tuple[float, int]:
        return self.now, self.unix

    def __getitem__(self, name: str) -> Group:
        return self.citizens[name].group

    def invite(self, name: str, by: str = "mayor") -> None:
        newcomer = member(name, self.vlan_id, self.suite)
        self.newcomers[key_of(name)] = (name, newcomer)
        self.packages[key_of(name)] = newcomer.key_package(self.unix)
        self.do(by, self[by].admit([(key_of(name), self.packages[key_of(name)])], self.unix))

    def agree_on(self, *names: str) -> None:
        """These admins agree to all that waits."""
        for name in names:
            for motion in list(self[name].motions):
                if motion in self[name].motions:
                    self.do(name, self[name].agree(motion, *self.times))

    def do(self, name: str, actions: list[Action]) -> None:
        """Carries out one member's actions, and all that follow from them, in order."""
        self._todo += [(self.citizens[name], action) for action in actions]
        if self._busy:
            return
        self._busy = True
        for _ in range(MAX_ACTIONS):
            if not self._todo:
                break
            me, action = self._next()
            self.done += 1
            if self.done == self.crash_at:
                self._crash(me)
            else:
                self._carry_out(me, action)
        assert not self._todo, "they never stop talking"
        self._busy = False

    def _next(self) -> tuple[Citizen, Action]:
        """What one member does next; what it does after that stays in order."""
        if self.chance is not None:
            who = self.chance.choice(sorted({one.name for one, _ in self._todo}))
            at = next(index for index, (one, _) in enumerate(self._todo) if one.name == who)
            self._todo.rotate(-at)
        return self._todo.popleft()

    def _crash(self, me: Citizen) -> None:
        self._todo = deque(one for one in self._todo if one[0] is not me)
        me.restart(self.now)

    def _carry_out(self, me: Citizen, action: Action) -> None:
        match action:
            case Save(state):
                me.state = state
            case ToAll(message):
                for other in self._present(me.name):
                    self._reach(
                        me, other, lambda group: group.received_untrusted(message, key_of(me.name), self.now, self.unix)
                    )
            case Welcome(who, message):
                name, mls = self.newcomers.pop(who)
                group, actions = Group.join(mls, Us(name), message, self.vlan_id, self.now, self.unix)
                self.citizens[name] = Citizen(name, group, side=me.side)
                self.do(name, actions)
            case Tell(who, epoch, transcript_hash):
                self._reach(
                    me, who, lambda group: group.told_position(key_of(me.name), epoch, transcript_hash, self.now)
                )
            case Give(who, messages):
                self._reach(me, who, lambda group: group.given(messages, key_of(me.name), *self.times))
            case Show(who):
                self._reach(me, who, lambda group: group.shown_untrusted(action, key_of(me.name), self.now))
            case AskAdmins():
                for other in self._present(me.name):
                    self._reach(me, other, lambda group: group.asked_by_lost(key_of(me.name), action, self.now))
            case GiveInfo(who):
                self._reach(me, who, lambda group: group.rejoin_untrusted(action, key_of(me.name), *self.times))
            case Dismiss(who, removal):
                self._reach(me, who, lambda group: group.dismissed_untrusted(removal, self.now))
            case Remind(who, secrets):
                self._reach(me, who, lambda group: group.reminded_untrusted(secrets, key_of(me.name)))
            case Move():
                for other in self._present(me.name):
                    if key_of(other.name) in me.group.charter.admins:
                        self._reach(
                            me, other, lambda group: group.moved_untrusted(action.motion, key_of(me.name), *self.times)
                        )
            case Admit(who) if who in self.packages:
                self.do(me.name, me.group.admit([(who, self.packages[who])], self.unix))
            case EpochBegan(epoch, _):
                me.epochs.append(epoch)

    def _reach(self, me: Citizen, who: Citizen | bytes, what: Callable[[Group], list[Action]]) -> None:
        one = who if isinstance(who, Citizen) else self._named(who)
        if not one.is_away and not one.group.is_gone and one.side == me.side:
            self.do(one.name, what(one.group))

    def pass_time(self, seconds: float) -> None:
        """A second at a time, everybody's clock."""
        for _ in range(int(seconds)):
            self.now += 1
            for one in list(self.citizens.values()):
                if not one.is_away:
                    self.do(one.name, one.group.tick(self.now, self.unix))

    def come_back(self, name: str) -> None:
        """Who was away says where it is, and is told where others are."""
        one = self.citizens[name]
        one.is_away = False
        for other in self._present(name):
            self.meet(name, other.name)
        self.pass_time(20)

    def split(self, *names: str) -> None:
        """These on one side, all others on another."""
        for one in self.citizens.values():
            one.side = int(one.name in names)

    def heal(self, seconds: int = 5) -> None:
        """One network again; each second everybody tells everybody where it is."""
        self.split()
        for _ in range(seconds):
            names = [one.name for one in self.members() if not one.is_away]
            for a, b in combinations(names, 2):
                if not (self[a].is_gone or self[b].is_gone):
                    self.meet(a, b)
            self.pass_time(1)

    def meet_once(self, chance: random.Random) -> None:
        """One network again, as real nodes find it: every pair meets once, at some time, and nobody repeats itself."""
        self.split()
        pairs = list(combinations([one.name for one in self.members()], 2))
        chance.shuffle(pairs)
        for a, b in pairs:
            if not (self[a].is_gone or self[b].is_gone):
                self.meet(a, b)
            if chance.random() < 0.2:
                self.pass_time(1)

    def meet(self, a: str, b: str) -> None:
        """Each tells the other where it is."""
        for one, other in ((a, b), (b, a)):
            epoch, transcript_hash = self[one].position
            self.do(other, self[other].told_position(key_of(one), epoch, transcript_hash, self.now))

    def members(self) -> list[Citizen]:
        return [one for one in self.citizens.values() if not one.group.is_gone]

    def agree(self, *names: str) -> None:
        """These, and nobody else, are members, all in one epoch with one set of keys."""
        assert {one.name for one in self.members()} == set(names)
        mayor = self.members()[0].group
        for one in self.members():
            assert one.group.position == mayor.position, one.name
            assert one.group.charter == mayor.charter
            assert one.group.members == {key_of(name) for name in names}
            assert one.group.mls.keys(ROUTING).mls_id == mayor.mls.keys(ROUTING).mls_id

    def _present(self, but: str) -> list[Citizen]:
        side = self.citizens[but].side
        return [one for one in self.members() if one.name != but and not one.is_away and one.side == side]

    def _named(self, who: bytes) -> Citizen:
        return next(one for one in self.citizens.values() if key_of(one.name) == who)
