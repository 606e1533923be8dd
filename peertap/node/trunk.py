"""One trunk session as the node keeps it: keys of its epochs, labels, carrier, liveness."""

from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

from peertap._core import HopReceiveKey, HopSendKey
from peertap.mesh.allowance import Allowance
from peertap.mesh.score import UNKNOWN_RTT_S, link_cost
from peertap.node.carrier import CarrierChoice
from peertap.node.events import EpochKeys, TrunkOpened
from peertap.node.labels import Labels
from peertap.node.round_trip import MEASURE_S, RoundTrip
from peertap.node.tables import Address, TrunkTable
from peertap.wire.control import Indexes, Ping

PING_AFTER_S: Final = 3.0  # ours: silence for so long is asked about; sooner costs an idle hub 0.2 % of a core a trunk
PING_AFTER_ON_UDP_S: Final = 9.0  # ours: the data plane watches that path, and its loss is asked about at once
PING_GAP_S: Final = 0.75  # ours: and asked again
SILENT_AFTER_S: Final = 0.5  # ours: its udp path gone, a stream that is alive has answered by then
SILENT_AFTER_ROUND_TRIPS: Final = 4  # ours: or by then
DEAD_AFTER_S: Final = 5.0  # ours: a dead neighbour is noticed within 5 s
DEAD_AFTER_PINGS: Final = 3  # ours: a node that slept itself first asks again
MAX_REFRESHES: Final = 64  # ours: VLANs that a neighbour may ask for at once
REFRESHES_PER_S: Final = 4.0  # ours: and over time
MAX_GRANTS: Final = 1024  # ours: proofs of VLANs that are verified for a neighbour at once; one has 256 VLANs at most
GRANTS_PER_S: Final = 16.0  # ours: and over time
MAX_UPDATES: Final = 16  # ours: relay updates that are verified for a neighbour at once
UPDATES_PER_S: Final = 4.0  # ours: and over time
MAX_POLICIES: Final = 16  # ours: that a neighbour may say at once; each has all VLANs proven to it, with signatures
POLICIES_PER_S: Final = 2.0  # ours: and over time
MAX_DIGESTS: Final = 8  # ours: at once: 2,048 VTags each, and each costs a look through all routes
DIGESTS_PER_S: Final = 8 / 60  # ours: and over time
MAX_ASKS: Final = 16  # ours: questions about the way that a neighbour may ask at once
ASKS_PER_S: Final = 4.0  # ours: and over time
OLD_EPOCH_S: Final = 10.0  # ours: an old epoch's packets are opened for so long
SMOOTHING: Final = 0.25  # ours: weight of a new share of lost packets
MAX_ADDRESSES: Final = 16  # ours: libp2p addresses remembered for dialling


class Trunk:
    """A trunk that is up."""

    def __init__(self, opened: TrunkOpened, *, udp_allowed: bool, max_payload: int, now: float) -> None:
        self.id: Final = opened.trunk
        self.peer: Final = opened.peer
        self.transport: Final = opened.transport
        self.dialled: Final = opened.dialled
        self.host: Final = opened.host
        self.is_from_outside: Final = (  # found us over the Internet
            not opened.dialled and opened.host is not None and ip_address(opened.host).is_global
        )
        self.is_wanted: Final = opened.is_wanted
        self.aead: Final = opened.aead
        self.max_payload: Final = max_payload
        self.labels: Final = Labels()
        self.choice: Final = CarrierChoice(udp_allowed=udp_allowed, has_stream=opened.carries_frames, now=now)
        self.relays = False
        self.wants_grants = False
        self.is_leaf = False
        self.named: Final = Counter[str]()  # what it is to blame for, as the log has it
        self.addresses: tuple[str, ...] = ()
        self.roaming: Address | None = None
        self.close_at: float | None = None
        self.is_leaving = False  # it takes frames until the neighbour closes, and nothing else
        self.is_silent = self.choice.name == "none"  # as the routes know it
        self.cost = link_cost(UNKNOWN_RTT_S)  # more than it will turn out: what falls is feasible
        self._round_trip: Final = RoundTrip()
        self.loss = 0.0  # share of lost packets, 0 to 1, smoothed
        self.epoch = opened.keys.epoch
        self._epochs: dict[int, EpochKeys] = {opened.keys.epoch: opened.keys}
        self._sending: tuple[HopSendKey, HopSendKey] | None = None
        self._old_until: dict[int, float] = {}
        self._heard_at = now
        self._pinged_at = now
        self._pings: dict[int, float] = {}
        self.refreshes: Final = Allowance(MAX_REFRESHES, REFRESHES_PER_S, now)  # each costs a look through all routes
        self.grants: Final = Allowance(MAX_GRANTS, GRANTS_PER_S, now)
        self.updates: Final = Allowance(MAX_UPDATES, UPDATES_PER_S, now)
        self.policies: Final = Allowance(MAX_POLICIES, POLICIES_PER_S, now)
        self.digests: Final = Allowance(MAX_DIGESTS, DIGESTS_PER_S, now)
        self.asks: Final = Allowance(MAX_ASKS, ASKS_PER_S, now)
        self._unanswered = 0
        self._doubted_at: float | None = None  # its udp path went, and nothing was heard since

    @property
    def rtt_s(self) -> float | None:
        """The round trip, smoothed; None: not measured yet."""
        return self._round_trip.rtt_s

    # Keys

    def begin_epoch(self, keys: EpochKeys, now: float) -> None:
        """New hop keys to open with; those to send with follow when the neighbour is ready."""
        for epoch in self._epochs:
            self._old_until.setdefault(epoch, now + OLD_EPOCH_S)
        self._epochs[keys.epoch] = keys

    def peer_ready(self, message: Indexes, now: float) -> bool:
        """The neighbour opens this epoch's packets: send under it; returns whether that is news."""
        keys = self._epochs.get(message.epoch)
        if keys is None or (self._sending is not None and message.epoch <= self.epoch):
            return False
        self._sending = keys.send(message.udp, message.stream)
        self.epoch = message.epoch
        return True

    def drop_old_epochs(self, now: float) -> bool:
        """Forgets epochs whose time is over; returns whether there were any."""
        before = len(self._epochs)
        for epoch, until in list(self._old_until.items()):
            if until <= now:
                if epoch == self.epoch:
                    self._old_until[epoch] = now + OLD_EPOCH_S  # the neighbour is not ready for the new one yet
                    continue
                del self._epochs[epoch], self._old_until[epoch]
        return len(self._epochs) != before

    def table(self) -> TrunkTable:
        receive: list[HopReceiveKey] = [key for keys in self._epochs.values() for key in keys.receive]
        send_udp, send_stream = self._sending or (None, None)
        carrier = self.choice.name if self._sending is not None else "none"
        return TrunkTable(
            id=self.id,
            carrier=carrier,
            remote=self.choice.remote,
            send_udp=send_udp,
            send_stream=send_stream,
            receive=tuple(receive),
            max_payload=self.max_payload,
            in_doubt=self._doubted_at is not None and self.choice.remote is None,
        )

    # Where the neighbour is

    def learn_endpoints(self, udp: Sequence[Address], addresses: Sequence[str], now: float) -> None:
        """The neighbour says where it can be reached."""
        self.choice.offer(udp, now)
        self.addresses = tuple(addresses[:MAX_ADDRESSES])

    def probes_due(self, now: float) -> list[Address]:
        if self._sending is None:
            return []
        remote, due = self.choice.remote, self.choice.due(now)
        if remote is not None and self._round_trip.due_at <= now:  # the data plane asks where it is silent only
            self._round_trip.asked(now)
            due.append(remote)
        return due

    # Liveness

    def heard(self, now: float) -> bool:
        """The neighbour said something; returns whether it was in doubt."""
        was_in_doubt, self._doubted_at = self._doubted_at is not None, None
        self._heard_at = now
        self._unanswered = 0
        return was_in_doubt

    def path_found(self, address: Address, rtt_s: float, now: float, late_s: float = 0.0) -> str | None:
        """A probe came back; returns what changes by it, for the log."""
        self.rtt_measured(rtt_s, now, late_s)
        if self.roaming == address and self.choice.remote not in (None, address):
            self.choice.roam(address)
            return "trunk roamed"
        return "carrier" if self.choice.found(address) else None

    def path_lost(self, now: float) -> bool:
        """The udp path is gone: perhaps the neighbour is, too. Returns whether the carrier changes."""
        if not self.choice.lost(now):
            return False
        self._doubted_at = now
        return True

    def seems_gone(self, now: float) -> bool:
        """Whether it had the time to answer by its stream, and did not; or there is nothing to carry frames."""
        return self.choice.name == "none" or self._seems_gone_at() <= now

    def _seems_gone_at(self) -> float:
        if self._doubted_at is None:
            return float("inf")
        return self._doubted_at + max(SILENT_AFTER_S, SILENT_AFTER_ROUND_TRIPS * (self.rtt_s or 0.0))

    def pings_due(self, now: float, random: Callable[[int], bytes]) -> list[Ping]:
        """A Ping where the neighbour was silent, or its round trip is old."""
        if self._ping_at() > now:
            return []
        number = int.from_bytes(random(8), "big")
        self._pings = {one: at for one, at in self._pings.items() if at + MEASURE_S > now}
        self._pings[number] = self._pinged_at = now
        self._unanswered += 1
        return [Ping(number)]

    def _ping_at(self) -> float:
        if self._doubted_at is not None and self._pinged_at < self._doubted_at:
            return self._doubted_at
        if self.choice.remote is not None:
            due = self._heard_at + PING_AFTER_ON_UDP_S
        else:
            due = min(self._heard_at + PING_AFTER_S, self._round_trip.due_at)
        return max(due, self._pinged_at + PING_GAP_S)

    def ponged(self, number: int, now: float, late_s: float = 0.0) -> None:
        sent_at = self._pings.pop(number, None)
        if sent_at is not None and self.choice.remote is None:
            self.rtt_measured(now - sent_at, now, late_s)

    def rtt_measured(self, rtt_s: float, now: float, late_s: float = 0.0) -> None:
        """Its round trip was measured; the cost follows in steps. Args: late_s: how late this node was of late."""
        self._round_trip.measured(rtt_s, now, late_s)
        self._follow_cost()

    def loss_measured(self, loss: float) -> None:
        """Smooths the share of lost packets; the cost follows in steps."""
        self.loss += SMOOTHING * (loss - self.loss)
        self._follow_cost()

    def _follow_cost(self) -> None:
        if self.rtt_s is not None:
            self.cost = link_cost(self.rtt_s, self.loss, self.cost)

    def is_dead(self, now: float) -> bool:
        return self._heard_at + DEAD_AFTER_S <= now and self._unanswered >= DEAD_AFTER_PINGS

    def next_deadline(self) -> float:
        dues = [self._ping_at()] if self.is_silent else [self._ping_at(), self._seems_gone_at()]
        if self._unanswered >= DEAD_AFTER_PINGS:
            dues.append(self._heard_at + DEAD_AFTER_S)
        probe_at = self.choice.next_deadline()
        if self._sending is not None and probe_at is not None:
            dues.append(probe_at)
        if self._sending is not None and self.choice.remote is not None:
            dues.append(self._round_trip.due_at)
        dues += self._old_until.values()
        return min(dues)


def indexes(keys: EpochKeys) -> Indexes:
    """What the neighbour is told of an epoch, once our data plane opens its packets."""
    return Indexes(keys.epoch, keys.udp_index, keys.stream_index)
