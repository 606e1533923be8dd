"""Who may change whom this node relays for, and what follows when that changes (SPEC 6.4, 15)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from peertap.errors import ConfigError, DeviceError, PeerError
from peertap.mesh.fabric import Fabric
from peertap.mesh.policy import GRACE_S, MAX_RULES, Mode
from peertap.node.actions import Action, Log, SaveRelayState, Send
from peertap.node.barrier import Barrier
from peertap.node.relay_state import MAX_SEQUENCES, RelayState
from peertap.node.relaying import Relaying
from peertap.node.role import OurRole
from peertap.node.tables import NO_LIMITS, RelayLimits
from peertap.node.trunk import Trunk
from peertap.types import PeerId, TrunkId, public_key_of
from peertap.vlan.grants import checked_carriage
from peertap.vlan.introductions import Identity
from peertap.wire.relay import Carriage, Change, Outcome, RelayResult, RelayUpdate, Verdict
from peertap.wire.routes import signed_by

NOTHING_SAVED: Final = RelayState()
MAX_RESULTS: Final = 64  # ours: answers to updates of ours that nobody has looked at
MAX_JUMP: Final = 1 << 40  # ours: a relay that says that it has seen more is not believed: 2^40 ms are 35 years


class State(Protocol):
    """What the control of a relay depends on."""

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...

    @property
    def fabric(self) -> Fabric: ...

    @property
    def now_unix(self) -> float: ...

    @property
    def role(self) -> OurRole: ...


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What goes beside the policy: who may send updates, what is carried at most, and what was kept on disk."""

    controllers: frozenset[PeerId] = frozenset()
    limits: RelayLimits = NO_LIMITS
    saved: RelayState = NOTHING_SAVED


@dataclass(frozen=True, slots=True)
class ChangeRules:
    """The operator changes our own rules."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class TakeCarriage:
    """The operator was given a carriage grant for this relay."""

    carriage: Carriage


@dataclass(frozen=True, slots=True)
class Steer:
    """A relay is to change its rules: it is sent an update with a sequence above this one."""

    relay: PeerId
    changes: tuple[Change, ...]
    above: int = 0


RelayCommand = ChangeRules | TakeCarriage | Steer


class RelayControl:
    """Changes our own policy, by the operator's word and controllers' updates; has other relays change theirs."""

    def __init__(
        self,
        state: State,
        identity: Identity,
        relaying: Relaying,
        barrier: Barrier,
        say: Callable[[Action], None],
        settings: RelaySettings,
    ) -> None:
        self.policy: Final = relaying.policy
        self.controllers = settings.controllers
        self.refused: Final[Counter[str]] = Counter()
        self.results: Final[dict[int, RelayResult]] = {}
        self._steered: Final[dict[int, PeerId]] = {}  # updates of ours that were not answered yet
        self._state = state
        self._identity = identity
        self._relaying = relaying
        self._barrier = barrier
        self._say = say
        self._said = 0  # the last sequence of ours
        self._grace_until: float | None = None
        self._sequences = dict(settings.saved.sequences)
        self.policy.change(settings.saved.rules)

    # Our own policy

    def command(self, command: RelayCommand, now: float) -> dict[str, Any]:
        """Does what the operator wants.

        Raises:
            ConfigError, DeviceError, PeerError: it cannot be done, and nothing has changed.
        """
        match command:
            case ChangeRules(changes):
                self.change(changes, now)
                return {"rules": len(self.policy.rules)}
            case TakeCarriage(carriage):
                return {"vlan_id": self.take(carriage, now).pattern, "until": carriage.until}
            case Steer(relay, changes, above):
                return {"sequence": self.steer(relay, changes, above)}

    def configure(self, mode: Mode, patterns: tuple[str, ...], controllers: Iterable[PeerId], now: float) -> None:
        """The configuration was read again."""
        self.controllers = frozenset(controllers)
        if (mode, patterns) != (self.policy.mode, self.policy.patterns):
            self._change(lambda: self.policy.configure(mode, patterns), now)

    def change(self, changes: Sequence[Change], now: float) -> None:
        """The operator changes rules.

        Raises:
            ConfigError: there is no room for them.
        """
        if not self.policy.has_room(changes):
            raise ConfigError(f"more than {MAX_RULES} rules", hint="patterns with * take the place of many")
        self._change(lambda: self.policy.change(changes), now)
        self._save()

    def take(self, carriage: Carriage, now: float) -> Change:
        """The operator takes a carriage grant in; returns the rule that it makes.

        Raises:
            ConfigError: it is for another relay, over, or not valid.
        """
        if carriage.relay != self._identity.peer_id:
            raise ConfigError("this carriage grant is for another relay", hint="ask for one with this node's peer ID")
        proven = checked_carriage(carriage, self._state.now_unix)
        if proven is None:
            raise ConfigError("this carriage grant is over or not valid", hint="peertap vlan grant makes a new one")
        vtag, vlan, expiry = proven
        rule = Change(Verdict.ALLOW, vlan.hex(), carriage.until)
        self.change((rule,), now)
        was_carried = self._relaying.carries(vtag)
        self.policy.granted(vtag, vlan, expiry)
        if self._relaying.carries(vtag) and not was_carried:
            self._relaying.ask_for(vtag)
        return rule

    # Updates

    def steer(self, relay: PeerId, changes: Sequence[Change], above: int = 0) -> int:
        """Sends a relay an update signed by us; returns its sequence.

        Args:
            above: the last sequence that the relay has seen of us, as it says.

        Raises:
            DeviceError: it is no neighbour.
            PeerError: it says that it has seen a sequence that cannot be.
        """
        trunk = next((one for one in self._state.trunks.values() if one.peer == relay and not one.is_leaving), None)
        if trunk is None:
            raise DeviceError("no trunk to that relay is up", hint="peertap status lists the neighbours")
        now_ms = int(self._state.now_unix * 1000)
        if above > now_ms + MAX_JUMP:
            raise PeerError("the relay says that it has seen a sequence number that this node cannot have sent")
        self._said = max(self._said, above, now_ms - 1) + 1
        unsigned = RelayUpdate(relay, self._identity.peer_id, self._said, tuple(changes), b"")
        signature = self._identity.sign(unsigned.signed_part())
        signed = RelayUpdate(relay, self._identity.peer_id, self._said, tuple(changes), signature)
        self._steered[self._said] = relay
        while len(self._steered) > MAX_RESULTS:
            del self._steered[next(iter(self._steered))]
        self._say(Send(trunk.id, signed))
        return self._said

    def answered(self, trunk: Trunk, result: RelayResult) -> None:
        """A relay says what became of an update of ours."""
        if self._steered.get(result.sequence) == trunk.peer:
            del self._steered[result.sequence]
            self.results[result.sequence] = result
            while len(self.results) > MAX_RESULTS:
                del self.results[next(iter(self.results))]

    def updated_untrusted(self, trunk: Trunk, update: RelayUpdate, now: float) -> None:
        """Somebody wants to change our rules: all of it is done, on disk and then in the data plane, or nothing."""
        if not trunk.updates.take(now):
            self.refused["too often"] += 1
            return
        outcome, why = self._judge(update)
        if why is not None:
            self.refused[why] += 1
            fields = {"reason": why, "peer": trunk.peer, "controller": update.controller, "sequence": update.sequence}
            self._say(Log("warning", "relay update refused", fields))
            last = 0 if outcome is Outcome.REFUSED else self._sequences.get(update.controller, 0)
            self._say(Send(trunk.id, RelayResult(update.sequence, outcome, last)))
            return
        self._sequences.pop(update.controller, None)
        self._sequences[update.controller] = update.sequence
        for peer in [peer for peer in self._sequences if peer not in self.controllers]:
            if len(self._sequences) > MAX_SEQUENCES:
                del self._sequences[peer]
        self._change(lambda: self.policy.change(update.changes), now)
        self._save()
        texts = [f"{change.verdict.name.lower()} {change.pattern}" for change in update.changes[:8]]
        fields = {"controller": update.controller, "sequence": update.sequence, "changes": texts}
        self._say(Log("info", "relay policy changed", fields))
        self._barrier.defer(Send(trunk.id, RelayResult(update.sequence, Outcome.DONE, update.sequence)))

    # Time

    def next_deadline(self, now: float) -> float:
        """When `tick` has something to do."""
        rule_ends_at = now + max(0.0, self.policy.ends_at - self._state.now_unix)
        return rule_ends_at if self._grace_until is None else min(rule_ends_at, self._grace_until)

    def tick(self, now: float) -> None:
        """A rule's time is over; who was asked for a proof has had the time."""
        if self.policy.ends_at <= self._state.now_unix:
            self._change(lambda: self.policy.end_rules(self._state.now_unix), now)
            self._save()
        if self._grace_until is not None and self._grace_until <= now:
            self._grace_until = None
            self.policy.end_grace()
            self._forget(now)

    def expire(self, now: float) -> None:
        """Proofs that are over go, with what was carried by them."""
        self.policy.end_proofs(self._state.now_unix)
        self._forget(now)

    # Inside

    def _judge(self, update: RelayUpdate) -> tuple[Outcome, str | None]:
        if update.relay != self._identity.peer_id:
            return Outcome.REFUSED, "another relay"
        if update.controller not in self.controllers:
            return Outcome.REFUSED, "no controller"
        if not signed_by(public_key_of(update.controller), update.signature, update.signed_part()):
            return Outcome.REFUSED, "forged"
        if update.sequence <= self._sequences.get(update.controller, 0):
            return Outcome.OLD, "old"
        if not self.policy.has_room(update.changes):
            return Outcome.FULL, "full"
        return Outcome.DONE, None

    def _change(self, change: Callable[[], None], now: float) -> None:
        """Another policy: what is no longer carried goes, what is from now on is asked for; the rest stays."""
        wanted = self.policy.wants_grants
        before = {vtag for vtag in self.policy.proven if self._relaying.carries(vtag)}
        in_use = [vtag for vtag in self._state.fabric.vtags() if self._relaying.carries(vtag)]
        change()
        if self.policy.wants_grants and not wanted:
            self.policy.tolerate(in_use)
            self._grace_until = now + GRACE_S
        self._state.role.follow(now)  # who is asked for proofs anew gives those that we refused before, too
        self._forget(now)
        for vtag in self.policy.proven:
            if vtag not in before and self._relaying.carries(vtag):
                self._relaying.ask_for(vtag)

    def _forget(self, now: float) -> None:
        for vtag in self._state.fabric.vtags():
            if not self._relaying.carries(vtag):
                self._state.fabric.forget(vtag, now)

    def _save(self) -> None:
        self._say(SaveRelayState(RelayState(tuple(self.policy.rules.values()), self._sequences).emit()))
