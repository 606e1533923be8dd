"""The neighbours of a node: trunks come up, are judged, fall silent and go; the routes follow (SPEC 4.5, 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from peertap.mesh.fabric import Fabric
from peertap.node.actions import Action, CloseTrunk, Log, Probe, Send
from peertap.node.barrier import Barrier
from peertap.node.events import PathFound, TrunkOpened, TrunkRekeyed
from peertap.node.relaying import Relaying
from peertap.node.tables import Address
from peertap.node.trunk import Trunk, indexes
from peertap.types import PeerId, TrunkId
from peertap.wire.control import Close, CloseCode, Policy, Pong

if TYPE_CHECKING:
    from peertap.node.presence import OurPresence
    from peertap.node.relays import OurRelays

ANOTHER_IS_KEPT: Final = "another trunk to the same node is kept"
LATE_FOR_S: Final = 2.0  # ours: so long after this node was late its measurements are taken for that
LEAVE_S: Final = 1.0  # ours: a neighbour that was told to close has done so long before
REPLACE_AFTER_S: Final = 1.0  # ours: labels of the newer trunk are bound long before
TRANSPORT_RANK: Final = {"tcp": 0, "ws": 1, "quic": 2}  # docs/decisions/0003: what carries frames, and fails, best


class State(Protocol):
    """What the neighbours matter to."""

    @property
    def fabric(self) -> Fabric: ...

    @property
    def relaying(self) -> Relaying: ...

    @property
    def presence(self) -> OurPresence: ...

    @property
    def relays(self) -> OurRelays: ...


class Neighbours:
    """All trunks, by number; `changed` says that tables have to follow."""

    def __init__(
        self,
        state: State,
        me: PeerId,
        barrier: Barrier,
        random: Callable[[int], bytes],
        say: Callable[[Action], None],
        *,
        payload_bytes: int,
        udp_allowed: bool,
        now: float,
    ) -> None:
        self.trunks: Final[dict[TrunkId, Trunk]] = {}
        self.changed = False
        self._late_s, self._late_until = 0.0, now
        self._state = state
        self._me = me
        self._barrier = barrier
        self._random = random
        self._say = say
        self._payload_bytes = payload_bytes
        self._udp_allowed = udp_allowed
        self._waiting: dict[TrunkId, Policy] = {}  # of those that said too many; the last of each counts

    # They come

    def opened(self, event: TrunkOpened, now: float) -> Trunk:
        """A trunk came up."""
        trunk = Trunk(event, udp_allowed=self._udp_allowed, max_payload=self._payload_bytes, now=now)
        self.trunks[trunk.id] = trunk
        self.changed = True
        if self._me < trunk.peer:
            self._keep_one(trunk, now)
        self.log("info", "trunk up", trunk, transport=trunk.transport, dialled=trunk.dialled)
        return trunk

    def rekeyed(self, event: TrunkRekeyed, now: float) -> None:
        """A trunk has another epoch's keys."""
        if event.trunk in self.trunks:
            self.changed = True
            self.trunks[event.trunk].begin_epoch(event.keys, now)
            self._barrier.defer(Send(event.trunk, indexes(event.keys)))

    def policy_untrusted(self, trunk: Trunk, message: Policy, now: float) -> None:
        """A neighbour says what it relays, and its role: now, or later where it does so too often."""
        if trunk.policies.take(now):
            self._waiting.pop(trunk.id, None)
            self._introduced(trunk, message, now)
        else:
            self._waiting[trunk.id] = message

    # They are judged

    def judge(self, trunk: Trunk, now: float) -> None:
        """Whether anything goes by it: a neighbour that seems gone is gone around, long before it is given up."""
        before, trunk.is_silent = trunk.is_silent, trunk.seems_gone(now)
        if self._state.fabric.has_neighbour(trunk.id) and trunk.is_silent != before:
            self.log("info", "trunk silent" if trunk.is_silent else "trunk heard again", trunk)
            self._state.fabric.silence(trunk.id, now, is_silent=trunk.is_silent)

    def path_found(self, event: PathFound, now: float) -> None:
        """A probe came back by the udp carrier."""
        trunk = self.trunks.get(event.trunk)
        if trunk is None:
            return
        change = trunk.path_found(event.address, event.rtt_s, now, self._lateness(now))
        self._state.fabric.set_cost(trunk.id, trunk.cost, now)
        if change is not None:
            self.changed = True
            self.log("info", change, trunk, carrier="udp", remote=event.address)
        self.judge(trunk, now)

    def path_lost(self, number: TrunkId, now: float) -> None:
        """The udp carrier is silent."""
        trunk = self.trunks.get(number)
        if trunk is not None and trunk.path_lost(now):
            self.changed = True
            self.log("info", "carrier", trunk, carrier=trunk.choice.name)

    def roamed(self, number: TrunkId, address: Address) -> None:
        """Authentic packets come from elsewhere: that path is probed before it is used."""
        if number in self.trunks and self._udp_allowed:
            self.trunks[number].roaming = address
            self._say(Probe(number, address))

    def ponged(self, trunk: Trunk, message: Pong, now: float) -> None:
        """It answered a ping."""
        trunk.ponged(message.id, now, self._lateness(now))
        self._state.fabric.set_cost(trunk.id, trunk.cost, now)

    def was_late(self, late_s: float, now: float) -> None:
        """This node came to something so late: what it measures now may be that."""
        if late_s >= self._late_s or now >= self._late_until:
            self._late_s, self._late_until = late_s, now + LATE_FOR_S

    def losses_measured(self, losses: Mapping[TrunkId, float], now: float) -> None:
        """What share of packets trunks lost of late."""
        for trunk in self.trunks.values():
            if trunk.id in losses:
                trunk.loss_measured(losses[trunk.id])
                self._state.fabric.set_cost(trunk.id, trunk.cost, now)

    def tick(self, now: float) -> None:
        """Asks who was silent, and gives up who stays so."""
        for trunk in list(self.trunks.values()):
            if trunk.is_dead(now):
                self.close(trunk, CloseCode.TIMEOUT, "nothing heard", now)
            elif trunk.close_at is not None and trunk.close_at <= now:
                if trunk.is_leaving:
                    self.close(trunk, CloseCode.REPLACED, ANOTHER_IS_KEPT, now)
                else:
                    self._leave(trunk, now)
            else:
                self.judge(trunk, now)
                for ping in trunk.pings_due(now, self._random):
                    self._say(Send(trunk.id, ping))
                for address in trunk.probes_due(now):
                    self._say(Probe(trunk.id, address))
                self.changed |= trunk.drop_old_epochs(now) or trunk.labels.cut
        for number, message in list(self._waiting.items()):
            trunk = self.trunks[number]
            if trunk.policies.ready_at() <= now:
                self.policy_untrusted(trunk, message, now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        dues = [due for trunk in self.trunks.values() for due in (trunk.next_deadline(), trunk.close_at)]
        dues += [self.trunks[one].policies.ready_at() for one in self._waiting]
        return min((due for due in dues if due is not None), default=None)

    # They go

    def closed(self, number: TrunkId, reason: str, now: float) -> None:
        """A trunk is gone."""
        trunk = self.trunks.pop(number, None)
        if trunk is not None:
            self.log("info", "trunk down", trunk, reason=ANOTHER_IS_KEPT if trunk.is_leaving else reason)
            self._state.relays.lost(trunk, now)
            self._lose(trunk, now)

    def close(self, trunk: Trunk, code: CloseCode, reason: str, now: float) -> None:
        """Ends a trunk."""
        self._say(CloseTrunk(trunk.id, code, reason))
        self.closed(trunk.id, reason, now)

    # Inside

    def _lateness(self, now: float) -> float:
        return self._late_s if now < self._late_until else 0.0

    def _introduced(self, trunk: Trunk, message: Policy, now: float) -> None:
        """From now on it hears of routes."""
        fabric = self._state.fabric
        is_news = (trunk.relays, trunk.wants_grants) != (message.relays, message.wants_grants)
        trunk.relays, trunk.wants_grants, trunk.is_leaf = message.relays, message.wants_grants, message.is_leaf
        self._state.relaying.prove_all(trunk)
        if fabric.has_neighbour(trunk.id):
            fabric.neighbour_is_leaf(trunk.id, is_leaf=trunk.is_leaf)
            if is_news and trunk.refreshes.take(now):
                fabric.refresh_all(trunk.id)
        else:
            fabric.add_neighbour(
                trunk.id, cost=trunk.cost, mtu=trunk.max_payload, is_silent=trunk.is_silent, is_leaf=trunk.is_leaf
            )
            if trunk.close_at is not None:
                fabric.retire(trunk.id, now)
        self._state.presence.met(trunk, now)

    def _keep_one(self, newest: Trunk, now: float) -> None:
        """Of the trunks to one peer, the cheapest transport stays, the newest among equals (SPEC 4.5)."""
        trunks = [one for one in self.trunks.values() if one.peer == newest.peer and not one.is_leaving]
        kept = min(trunks, key=lambda one: (TRANSPORT_RANK[one.transport], -one.id))
        for one in trunks:
            one.close_at = None if one is kept else now + REPLACE_AFTER_S
            if one is not kept:
                self._state.fabric.retire(one.id, now)

    def _leave(self, trunk: Trunk, now: float) -> None:
        """The neighbour is to close the trunk: what it sends until then still arrives (SPEC 4.5)."""
        trunk.is_leaving, trunk.close_at = True, now + LEAVE_S
        self._say(Send(trunk.id, Close(CloseCode.REPLACED, ANOTHER_IS_KEPT)))
        self._lose(trunk, now)

    def _lose(self, trunk: Trunk, now: float) -> None:
        """Nothing goes by this trunk any more."""
        self.changed = True
        self._waiting.pop(trunk.id, None)
        self._state.fabric.remove_neighbour(trunk.id, now)
        self._state.presence.lost(trunk.id, now)

    def log(self, level: str, event: str, trunk: Trunk, **fields: object) -> None:
        """Something about a neighbour, for the log."""
        self._say(Log(level, event, {"peer": trunk.peer, "trunk": trunk.id, **fields}))
