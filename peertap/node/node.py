"""The node: takes events, keeps trunks, routes, trees and VLANs in step, and says what to do (DESIGN 2).

    handle(event, now) ─▶ change the state ─▶ settle: routes ▸ trees ▸ labels ▸ tables ─▶ actions

Anything that the other side may rely on (Bound, Indexes, Confirm) is said only after TablesApplied for tables that
contain it.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from peertap.errors import PeerError
from peertap.mesh.allowance import Allowance
from peertap.mesh.fabric import Fabric, MeshMessage
from peertap.mesh.policy import RelayPolicy
from peertap.mesh.roles import Wish
from peertap.mesh.routes import RouteTable
from peertap.mesh.subscriptions import Subscriptions
from peertap.mesh.tree import Trees
from peertap.node.accusations import Accusations
from peertap.node.actions import (
    Action,
    Apply,
    CloseTrunk,
    Log,
    Met,
    Reclaim,
    Renumber,
    Send,
)
from peertap.node.barrier import Barrier
from peertap.node.bridges import Bridges, SwitchSettings
from peertap.node.carried import Carried
from peertap.node.carrier import unpacked
from peertap.node.commands import Command
from peertap.node.compile import Compiler
from peertap.node.end_to_end import EndToEnd
from peertap.node.events import (
    ControlReceived,
    Event,
    ForgerySeen,
    IntroReceived,
    KeySpent,
    LoadMeasured,
    MessageReceived,
    MulticastHeard,
    PathAsked,
    PathFound,
    PathLost,
    PingAsked,
    PolicyChanged,
    SourceSeen,
    SpoofSeen,
    StopAsked,
    TablesApplied,
    TimePassed,
    TrafficSeen,
    TrunkClosed,
    TrunkOpened,
    TrunkRekeyed,
    UnknownKidSeen,
)
from peertap.node.group_host import Ourselves
from peertap.node.groups import Groups
from peertap.node.locals import LocalVlans, reaches
from peertap.node.meetings import Meetings
from peertap.node.member_control import MemberControl
from peertap.node.multicast import Multicast
from peertap.node.neighbours import Neighbours
from peertap.node.paths import Paths
from peertap.node.pings import Pings
from peertap.node.presence import OurPresence
from peertap.node.relay_control import RelayCommand, RelayControl, RelaySettings
from peertap.node.relaying import Relaying
from peertap.node.relays import OurRelays
from peertap.node.role import OurRole
from peertap.node.tables import Address, Hop, Passage, TableSet
from peertap.node.trunk import Trunk, indexes
from peertap.node.vlan import REFRESH_S, LocalVlan, VlanSettings
from peertap.node.ways import WaySettings
from peertap.types import PeerId, TrunkId, VlanIndex
from peertap.vlan.introductions import Identity
from peertap.vlan.record import VlanRecord
from peertap.wire.control import (
    Bind,
    Bound,
    CloseCode,
    Digest,
    Endpoints,
    Grant,
    Indexes,
    Message,
    Ping,
    Policy,
    Pong,
    Refresh,
    Routes,
    Serving,
    Unbind,
)
from peertap.wire.path import PathAnswer, PathAsk
from peertap.wire.presence import SignedLinkDown, SignedPresence
from peertap.wire.relay import RelayResult, RelayUpdate

TABLES_AT_ONCE: Final = 16  # ours: so often tables follow a change without waiting
TABLES_PACE_S: Final = 0.1  # ours: then so often, or with the next announcement: in a storm most are soon outdated
TABLE_EXPIRY_S: Final = 60.0  # ours: how often routes are looked through for expired ones


class Node:
    """One node. Pure: whoever owns it brings events and the time, and carries the actions out."""

    def __init__(
        self,
        identity: Identity,
        vlans: Sequence[VlanSettings],
        policy: RelayPolicy,
        *,
        endpoints: Endpoints,
        random: Callable[[int], bytes],
        now: float,
        now_unix: float,
        payload_bytes: int,
        udp_allowed: bool = True,
        role: Wish = Wish.AUTO,
        name: str = "",
        records: Sequence[VlanRecord] = (),
        switching: SwitchSettings | None = None,
        relay: RelaySettings | None = None,
        connection_limit: int = 256,
        chooses_relays: bool = True,
        ways: WaySettings | None = None,
    ) -> None:
        """A node with these static VLANs, and those with a group that `records` are of.

        Args:
            name: what this node calls itself, for whoever approves newcomers.
            connection_limit: trunks; strangers beyond it are turned away.
            chooses_relays: it dials relays that it hears of (SPEC 11.3).

        Raises:
            DecodeError: a record is damaged.
        """
        self.identity: Final = identity
        self.policy: Final = policy
        self._locals: Final = LocalVlans(self, identity, random, self.say)
        self.vlans: Final = self._locals.all
        self.overlay: Final[list[IPv4Network | IPv6Network]] = []  # of our own VLANs: no trunk runs over them
        self.tables = TableSet((), (), ())
        policy.own = self._locals.is_ours
        self._endpoints = endpoints
        self._random = random
        self._now = now
        self._unix_offset = now_unix - now
        self._out: list[Action] = []
        relay = relay or RelaySettings()
        self.carried: Final = Carried(policy.own)
        self.carried.limits = relay.limits
        self._barrier: Final = Barrier()
        self._neighbours: Final = Neighbours(
            self, identity.peer_id, self._barrier, random, self.say,
            payload_bytes=payload_bytes, udp_allowed=udp_allowed, now=now,
        )  # fmt: skip
        self.trunks: Final = self._neighbours.trunks
        self.relaying: Final = Relaying(self, policy, self.say)
        self.relay_control: Final = RelayControl(self, identity, self.relaying, self._barrier, self.say, relay)
        carries = self.relaying.carries
        self.fabric: Final = Fabric(self._locals, carries)
        self.role: Final = OurRole(self, self._locals, policy, role, self.say)
        self.presence: Final = OurPresence(
            self, identity, self._locals, policy, endpoints.addresses, self._chance, self.say, now
        )
        self.relays: Final = OurRelays(
            self, self._neighbours, self._chance, self.say, limit=connection_limit, chooses=chooses_relays, now=now
        )
        self.ways: Final = ways or WaySettings()
        self._compiler = Compiler(self, self.ways)
        self.meetings: Final = Meetings(self, self._compiler, self._barrier, self.say)
        self._accusations: Final = Accusations(self, self.say)
        self.bridges: Final = Bridges(self, switching or SwitchSettings(), random, self._accusations, self.say, now)
        self.groups: Final = Groups(self, Ourselves(identity, random), name)
        self._pings: Final = Pings(self, random, self.say)
        self.end_to_end: Final = EndToEnd(self, self._compiler, random, self.say)
        self._member_control: Final = MemberControl(self, self._pings, self.end_to_end, self.bridges, self.groups)
        self._paths: Final = Paths(self, self._compiler.hop, carries, policy, identity.peer_id, random, self.say)
        self.multicast: Final = Multicast(self, random, self.say)
        self._refresh_at = now + REFRESH_S
        self._expire_at = now + TABLE_EXPIRY_S
        self._stopping = False
        self._dirty = True
        self._is_behind = False  # the tables do not have what changed last
        self._follow_at = now
        self._pace: Final = Allowance(TABLES_AT_ONCE, 1 / TABLES_PACE_S, now)
        self.role.begin(now)
        for one in vlans:
            self.open_vlan(one)
        self.groups.restore(records, now)
        self._settle(now)

    def start(self) -> list[Action]:
        """The actions of the beginning: the first tables."""
        return self._taken()

    def handle(self, event: Event, now: float) -> list[Action]:
        """Takes one event; returns what to do."""
        self._now = now
        match event:
            case TrunkOpened():
                self._opened(event, now)
            case TrunkClosed():
                self._neighbours.closed(event.trunk, event.reason, now)
            case TrunkRekeyed():
                self._neighbours.rekeyed(event, now)
            case MessageReceived():
                self._message(event.trunk, event.message, now)
            case TablesApplied():
                self._barrier.applied(event.version)
            case IntroReceived():
                self.meetings.introduced(event, now)
            case UnknownKidSeen():
                self.meetings.unknown_kid(event, now)
            case KeySpent():
                self.meetings.key_spent(event, now)
            case SpoofSeen():
                self._accusations.spoofed(event, now)
            case MulticastHeard():
                self.multicast.heard(event, now)
            case ForgerySeen():
                self._accusations.forged(event, now)
            case PathFound():
                self._neighbours.path_found(event, now)
            case PathLost():
                self._neighbours.path_lost(event.trunk, now)
            case SourceSeen():
                self._neighbours.roamed(event.trunk, event.address)
            case ControlReceived():
                self._member_control.received_untrusted(event, now)
            case PingAsked():
                self._pings.ask(event, now)
            case PathAsked():
                self._paths.ask(event, now)
            case TrafficSeen():
                self.end_to_end.traffic(event, now)
            case PolicyChanged():
                self._policy_changed(event, now)
            case LoadMeasured():
                self.presence.load_seen(event.load)
                self._neighbours.losses_measured(event.losses, now)
            case TimePassed(late_s):
                self._neighbours.was_late(late_s, now)
                self._time(now)
            case StopAsked():
                self._stop(now)
            case _:
                self.bridges.handle(event, now)
        self._settle(now)
        return self._taken()

    def command(self, command: Command | RelayCommand, now: float) -> tuple[list[Action], dict[str, Any]]:
        """Does what the operator wants of VLANs with a group, or of our relaying; returns what to do, and what to say.

        Raises:
            ConfigError, PeerError: it cannot be done, and nothing has changed.
        """
        self._now = now
        parts = self.relay_control if isinstance(command, RelayCommand) else self.groups
        answer = parts.command(command, now)  # type: ignore[arg-type]
        self._settle(now)
        return self._taken(), answer

    def next_deadline(self) -> float:
        """When TimePassed is due."""
        parts = (
            *(self._neighbours, self.presence, self.relays, self.fabric),
            *(self.groups, self._locals, self.role, self.bridges),
        )
        dues: list[float | None] = [self._refresh_at, self._expire_at]
        dues += [part.next_deadline() for part in parts]
        timed = (self.relay_control, self.multicast, self.end_to_end)
        dues += [part.next_deadline(self._now) for part in timed]
        dues += [vlan.introductions.next_deadline() for vlan in self.vlans.values()]
        dues += [self._follow_at] if self._is_behind else []
        return min(due for due in dues if due is not None)

    def group_hops(self, vlan: VlanIndex) -> tuple[Hop, ...]:
        """Where a VLAN's group frames go now."""
        return self._compiler.group_hops(self.vlans[vlan])

    # What its parts ask of us

    def passage(self, vlan: LocalVlan) -> Passage:
        """What passes a VLAN's port now."""
        return self.bridges.passage(vlan)

    @property
    def is_leaf(self) -> bool:
        return self.role.is_leaf

    @property
    def is_full(self) -> bool:
        return self.relays.is_full

    @property
    def routes(self) -> RouteTable:
        return self.fabric.routes

    @property
    def trees(self) -> Trees:
        return self.fabric.trees

    @property
    def subscriptions(self) -> Subscriptions:
        return self.fabric.subscriptions

    @property
    def now(self) -> float:
        return self._now

    @property
    def now_unix(self) -> float:
        return self._now + self._unix_offset

    def random(self, size: int) -> bytes:
        return self._random(size)

    def _chance(self) -> float:
        """A number from 0 up to 1."""
        return int.from_bytes(self._random(4), "big") / (1 << 32)

    def say(self, action: Action) -> None:
        """One more thing to do."""
        self._out.append(action)

    def open_vlan(self, settings: VlanSettings) -> VlanIndex:
        """Takes part in a VLAN from now on."""
        return self._locals.open(settings, self.relaying, self._now)

    def close_vlan(self, index: VlanIndex) -> None:
        """Takes part no longer."""
        self._locals.close(index, self.relaying, self._now)

    def use_names(self, index: VlanIndex) -> None:
        """The VLAN has another routing secret."""
        self._locals.use_names(index, self.relaying, self._now)

    def _renumber(self, index: VlanIndex) -> None:
        """Takes part anew, with another virtual MAC."""
        vlan = self.vlans.get(index)
        if vlan is None:
            return
        self._out.append(Log("warning", "another member has this MAC: ours changes", {"vlan": vlan.source.label}))
        settings = vlan.renumbered()
        if not self.groups.renumber(index, settings):
            self.close_vlan(index)
            self.open_vlan(settings)

    def reaches(self, index: VlanIndex, member: PeerId) -> bool:
        """Whether a sealed letter can go to a member now."""
        return reaches(self.vlans[index], member, self._compiler)

    # Trunks

    def _opened(self, event: TrunkOpened, now: float) -> None:
        if self._stopping:
            self._out.append(CloseTrunk(event.trunk, CloseCode.SHUTDOWN, "the node is going down"))
            return
        trunk = self._neighbours.opened(event, now)
        self.role.introduce(trunk)
        self._out.append(Send(trunk.id, self._endpoints))
        self._barrier.defer(Send(trunk.id, indexes(event.keys)))

    def _policy_changed(self, event: PolicyChanged, now: float) -> None:
        """What is not carried any more goes; what stays notices nothing."""
        self._dirty |= self.carried.limits != event.limits
        self.carried.limits = event.limits
        self.policy.names_itself = event.names_itself
        self.relay_control.configure(event.mode, event.patterns, event.controllers, now)

    # Messages

    def _message(self, number: TrunkId, message: Message, now: float) -> None:
        trunk = self.trunks.get(number)
        if trunk is None:
            return
        self._dirty |= trunk.heard(now)
        if trunk.is_leaving:
            return
        try:
            self._dispatch(trunk, message, now)
            self._neighbours.judge(trunk, now)
        except PeerError as error:
            self._neighbours.close(trunk, CloseCode.MALFORMED, str(error), now)

    def _dispatch(self, trunk: Trunk, message: Message, now: float) -> None:
        match message:
            case Ping():
                self._out.append(Send(trunk.id, Pong(message.id)))
            case Pong():
                self._pings.answered(message.id, now)
                self._neighbours.ponged(trunk, message, now)
            case Policy():
                self._neighbours.policy_untrusted(trunk, message, now)
            case Endpoints():
                found = (unpacked(ip, port, trunk.host) for ip, port in message.udp)
                udp = [one for one in found if one is not None and not self._is_overlay(one)]
                trunk.learn_endpoints(udp, message.addresses, now)
            case Indexes():
                self._dirty |= trunk.peer_ready(message, now)
            case Grant() if not trunk.grants.take(now):
                pass
            case Grant():
                self.relaying.granted(message, now)
            case RelayUpdate():
                self.relay_control.updated_untrusted(trunk, message, now)
            case RelayResult():
                self.relay_control.answered(trunk, message)
            case Refresh() if not trunk.refreshes.take(now):
                pass
            case Digest() if not trunk.digests.take(now):
                pass
            case SignedPresence() | SignedLinkDown():
                self.presence.received_untrusted(trunk, message, now)
            case _ if isinstance(message, MeshMessage):
                self.fabric.received_untrusted(trunk.id, message, now, self.now_unix)
                if isinstance(message, Routes):
                    self._accusations.misleads(trunk, self.routes.refusals(trunk.id), now)
                    self._accusations.floods(trunk, self.fabric.inflow.held_back[trunk.id], now)
                elif isinstance(message, Digest):
                    self._accusations.differs(trunk, self.fabric.differed[trunk.id], now)
            case Bind():
                self._dirty = True
                trunk.labels.bind_untrusted(message)
            case Bound():
                self._dirty |= trunk.labels.bound(message)
            case PathAsk():
                self._paths.asked_untrusted(trunk, message, now)
            case PathAnswer():
                self._paths.answered_untrusted(trunk, message, now)
            case Unbind():
                self._dirty |= trunk.labels.unbind_untrusted(message)
            case Serving():
                pass  # the shell's discovery took it
            case _:
                raise PeerError(f"{type(message).__name__} does not belong here")

    def _is_overlay(self, address: Address) -> bool:
        ip = ip_address(address[0])
        return any(ip in network for network in self.overlay if network.version == ip.version)

    # Time

    def _time(self, now: float) -> None:
        self._neighbours.tick(now)
        self.presence.tick(now)
        self.relays.tick(now)
        self.fabric.tick(now)
        self.meetings.tick(now)
        self.bridges.tick(now)
        self.end_to_end.tick(now)
        self.groups.tick(now)
        self._locals.tick(self.relaying, now)
        self.relay_control.tick(now)
        self.multicast.tick(now)
        if self._expire_at <= now:
            self._expire_at = now + TABLE_EXPIRY_S
            self.fabric.expire(now, self.now_unix)
            self.presence.expire()
            self.relay_control.expire(now)
            self.meetings.forget_gone(now)
        if self._refresh_at <= now:
            self._refresh_at = now + REFRESH_S
            self._locals.refresh(now)
            for trunk in self.trunks.values():
                self.relaying.prove_all(trunk)

    def _stop(self, now: float) -> None:
        """Withdraws everything and says goodbye."""
        self._stopping = True
        self.presence.leave(now)
        self.fabric.leave()
        self._locals.withdraw(now)
        self._out += self._routes_to_say()
        for trunk in list(self.trunks.values()):
            self._neighbours.close(trunk, CloseCode.SHUTDOWN, "the node is going down", now)

    # Settling

    def _settle(self, now: float) -> None:
        """Brings trees, labels and tables in step with routes."""
        if not self._stopping:
            self.role.look(now)
            self.multicast.settle(now)
            self.role.ask(now)
            self._dirty |= bool(self.fabric.settle(now)) | self.routes.take_ways_changed()
            self.presence.settle(now)
        said = self._routes_to_say()
        is_urgent = self._take_urgent() or self._stopping
        self._is_behind |= self._take_dirty() or is_urgent
        is_urgent |= any(isinstance(one.message, Routes) for one in said)  # tables go before what is announced
        if self._is_behind and (is_urgent or now >= self._follow_at):
            self._is_behind, self._follow_at = False, self._pace.again_at(now)
            self._follow_changes(now)
        self._out += said
        self.multicast.follow(self.tables, now)
        for action in self._barrier.release(is_behind=self._is_behind):
            if isinstance(action, Met):
                self.groups.met(action, now)
                self.bridges.met(action.vlan, action.member, now)
            elif isinstance(action, Renumber):
                self._renumber(action.vlan)
            elif isinstance(action, Reclaim):
                self._locals.reclaim(action.vlan, now)
            elif not isinstance(action, Send) or action.trunk in self.trunks:
                self._out.append(action)

    def _take_urgent(self) -> bool:
        """Whether members, keys, ports or trunks changed, which tables follow at once."""
        urgent = self._locals.changed or self.bridges.changed or self._neighbours.changed
        for vlan in self.vlans.values():
            urgent |= vlan.introductions.changed
            vlan.introductions.changed = False
        self._locals.changed = self.bridges.changed = self._neighbours.changed = False
        return urgent

    def _take_dirty(self) -> bool:
        """Whether ways changed, which tables follow at their pace. Most events change nothing, and cost nothing."""
        dirty = self._dirty or self.trees.changed or self.subscriptions.changed
        self._dirty = self.trees.changed = self.subscriptions.changed = False
        return dirty

    def _follow_changes(self, now: float) -> None:
        for trunk_id, wanted in self._compiler.wanted_labels().items():
            for message in self.trunks[trunk_id].labels.want(wanted, now):
                self._out.append(Send(trunk_id, message))
        for vlan in self.vlans.values():
            self.meetings.greet(vlan, now)
        self.bridges.follow(now)
        self._publish()

    def _publish(self) -> None:
        """Gives changed tables to the data plane; what was deferred follows when it has them."""
        tables, confirmed = self._compiler.tables()
        for trunk_id, label in confirmed:
            if self.trunks[trunk_id].labels.confirm(label):
                self._barrier.defer(Send(trunk_id, Bound(label)))
        if tables != self.tables or self._barrier.version == 0:
            self.tables = tables
            self._out.append(Apply(self._barrier.publish(), tables))

    def _routes_to_say(self) -> list[Send]:
        return [Send(trunk, message) for trunk, message in self.fabric.take(self._now) if trunk in self.trunks]

    def _taken(self) -> list[Action]:
        out, self._out = self._out, []
        return out
