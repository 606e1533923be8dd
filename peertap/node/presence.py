"""What this node says of itself to the mesh, and hears of others (SPEC 11)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from peertap.mesh.policy import RelayPolicy
from peertap.mesh.presence import Message, Presences, Seen
from peertap.node.actions import Action, Log, Send
from peertap.node.locals import LocalVlans
from peertap.node.trunk import Trunk
from peertap.trunk.handshake import VERSIONS
from peertap.types import PeerId, TrunkId
from peertap.vlan.introductions import Identity
from peertap.wire.presence import MAX_ADDRESSES, MAX_VLANS, Presence

BUSY_ABOVE: Final = 0.85  # ours: of one core; the busiest thread of the data plane has hardly any time left
BUSY_UNTIL: Final = 0.6  # ours: and well below it is not busy any more
LOAD_SMOOTHING: Final = 0.25  # ours: weight of a new sample; one each few seconds
FULL_LOAD: Final = 255  # SPEC 11.1
NEVER: Final = float("inf")


class State(Protocol):
    """What presence depends on."""

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...

    @property
    def is_leaf(self) -> bool: ...

    @property
    def is_full(self) -> bool: ...

    @property
    def now_unix(self) -> float: ...


class OurPresence:
    """One for each node."""

    def __init__(
        self,
        state: State,
        identity: Identity,
        vlans: LocalVlans,
        policy: RelayPolicy,
        addresses: tuple[str, ...],
        chance: Callable[[], float],
        say: Callable[[Action], None],
        now: float,
    ) -> None:
        """Args: addresses: where others may dial us, told to all if we relay for others; chance: from 0 up to 1."""
        self.refused: Final[Counter[str]] = Counter()
        self._state = state
        self._vlans = vlans
        self._policy = policy
        self._addresses = tuple(one for one in addresses if "/tcp/" in one and "/ws" not in one)[:MAX_ADDRESSES]
        self._say = say
        self._load = 0.0
        self._is_busy = False
        self._has_left = False
        self._facts: tuple[object, ...] = ()
        self._named: Counter[TrunkId] = Counter()  # refusals of a neighbour; said at 1, 2, 4, 8 …
        self._mesh: Final = Presences(identity.peer_id, identity.sign, self._rtt_of, chance, now)

    def seen(self) -> dict[PeerId, Seen]:
        """All nodes that are there, as far as we hear."""
        return self._mesh.seen(self._state.now_unix)

    def refused_from(self, trunk: TrunkId) -> int:
        """How many messages of a neighbour were refused, for which it is to blame."""
        return self._named[trunk]

    # Neighbours

    def met(self, trunk: Trunk, now: float) -> None:
        """A neighbour said what it is."""
        self._mesh.add_neighbour(trunk.id, trunk.peer, now, self._state.now_unix, relays=trunk.relays)

    def lost(self, trunk: TrunkId, now: float) -> None:
        """Its trunk is gone."""
        self._named.pop(trunk, None)
        self._mesh.remove_neighbour(trunk, now, self._state.now_unix)

    def received_untrusted(self, trunk: Trunk, message: Message, now: float) -> None:
        """Takes a neighbour's message; whoever brings what is forged or too much is named in the log."""
        why = self._mesh.received_untrusted(trunk.id, message, now, self._state.now_unix)
        if why is None:
            return
        self.refused[why] += 1
        self._named[trunk.id] += 1
        count = self._named[trunk.id]
        if count & (count - 1) == 0:
            fields = {"peer": trunk.peer, "author": message.author, "reason": why, "count": count}
            self._say(Log("warning", "presence refused", fields))

    # Ourselves

    def load_seen(self, load: float) -> None:
        """The share of one core that the busiest thread of the data plane took of late."""
        self._load += LOAD_SMOOTHING * (load - self._load)
        self._mesh.load = min(round(self._load * FULL_LOAD), FULL_LOAD)
        is_busy = self._load > (BUSY_UNTIL if self._is_busy else BUSY_ABOVE)
        if is_busy != self._is_busy:
            self._is_busy = is_busy
            self._say(Log("info", "load", {"is_busy": is_busy, "load": round(self._load, 2)}))

    @property
    def load(self) -> float:
        """The smoothed share of one core."""
        return self._load

    def settle(self, now: float) -> None:
        """Says what we are, where that changed, and passes on what is due."""
        policy, state, vlans = self._policy, self._state, self._vlans.all.values()
        public = tuple(vlan.source.vlan_id for vlan in vlans if vlan.source.is_public)
        facts = (policy.relays, policy.wants_grants, state.is_leaf, state.is_full, self._is_busy, public)
        if facts != self._facts:
            self._facts = facts
            relays, wants_grants, is_leaf, is_full, is_busy, _ = facts
            own = Presence(
                sequence=0,
                lifetime_s=0,
                relays=relays,
                wants_grants=wants_grants,
                is_leaf=is_leaf,
                is_full=is_full,
                is_busy=is_busy,
                versions=VERSIONS,
                vlans=tuple(sorted(public))[:MAX_VLANS],
                addresses=self._addresses if relays else (),
            )
            self._mesh.describe(own, now, state.now_unix)
        self._send(now)

    def leave(self, now: float) -> None:
        """The node goes down, and says no more than that."""
        self._mesh.leave(self._state.now_unix)
        self._send(now)
        self._has_left = True

    # Time

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        return NEVER if self._has_left else self._mesh.next_deadline()

    def tick(self, now: float) -> None:
        """Says what is due."""
        if not self._has_left:
            self._mesh.tick(now, self._state.now_unix)

    def expire(self) -> None:
        """Forgets what is long over."""
        self._mesh.expire(self._state.now_unix)

    # Inside

    def _send(self, now: float) -> None:
        for trunk, message in self._mesh.take(now):
            if trunk in self._state.trunks:
                self._say(Send(trunk, message))

    def _rtt_of(self, trunk: TrunkId) -> float | None:
        found = self._state.trunks.get(trunk)
        return None if found is None else found.rtt_s
