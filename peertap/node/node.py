"""The node: takes events, keeps trunks, routes, trees and VLANs in step, and says what to do (DESIGN 2).

    handle(event, now) ─▶ change the state ─▶ settle: routes ▸ trees ▸ labels ▸ tables ─▶ actions

Anything that the other side may rely on (Bound, Indexes, Confirm) is said only after TablesApplied for tables that
contain it.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from peertap.errors import PeerError
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
    Probe,
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
from peertap.node.events import (
    ControlReceived,
    Event,
    ForgerySeen,
    IntroReceived,
    KeySpent,
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
from peertap.node.paths import Paths
from peertap.node.pings import Pings
from peertap.node.relay_control import RelayCommand, RelayControl, RelaySettings
from peertap.node.relaying import Relaying
from peertap.node.role import OurRole
from peertap.node.tables import Address, Hop, Passage, TableSet
from peertap.node.trunk import Trunk, indexes
from peertap.node.vlan import REFRESH_S, LocalVlan, VlanSettings
from peertap.types import PeerId, TrunkId, VlanIndex
from peertap.vlan.introductions import Identity
from peertap.vlan.record import VlanRecord
from peertap.wire.control import (
    Bind,
    Bound,
    Close,
    CloseCode,
    Endpoints,
    Grant,
    Indexes,
    Message,
    Ping,
    Policy,
    Pong,
    Refresh,
    Serving,
    Unbind,
)
from peertap.wire.path import PathAnswer, PathAsk
from peertap.wire.relay import RelayResult, RelayUpdate

ANOTHER_IS_KEPT: Final = "another trunk to the same node is kept"
LEAVE_S: Final = 1.0  # ours: a neighbour that was told to close has done so long before
REPLACE_AFTER_S: Final = 1.0  # ours: labels of the newer trunk are bound long before
TABLE_EXPIRY_S: Final = 60.0  # ours: how often routes are looked through for expired ones
TRANSPORT_RANK: Final = {"tcp": 0, "ws": 1, "quic": 2}  # docs/decisions/0003: what carries frames, and fails, best


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
    ) -> None:
        """A node with these static VLANs, and those with a group that `records` are of.

        Args:
            name: what this node calls itself, for whoever approves newcomers.

        Raises:
            DecodeError: a record is damaged.
        """
        self.identity: Final = identity
        self.trunks: dict[TrunkId, Trunk] = {}
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
        self._payload_bytes = payload_bytes
        self._udp_allowed = udp_allowed
        self._out: list[Action] = []
        relay = relay or RelaySettings()
        self.carried: Final = Carried(policy.own)
        self.carried.limits = relay.limits
        self._barrier: Final = Barrier()
        self.relaying: Final = Relaying(self, policy, self.say)
        self.relay_control: Final = RelayControl(self, identity, self.relaying, self._barrier, self.say, relay)
        carries = self.relaying.carries
        self.fabric: Final = Fabric(self._locals, carries)
        self.role: Final = OurRole(self, self._locals, policy, role, self.say)
        self._compiler = Compiler(self)
        self.meetings: Final = Meetings(self, self._compiler, self._barrier, self.say)
        self._accusations: Final = Accusations(self, self.say)
        self.bridges: Final = Bridges(self, switching or SwitchSettings(), random, self._accusations, self.say, now)
        self.groups: Final = Groups(self, Ourselves(identity, random), name)
        self._pings: Final = Pings(self, random, self.say)
        self._member_control: Final = MemberControl(self, self._pings, self.bridges, self.groups)
        self._paths: Final = Paths(self, self._compiler.hop, carries, policy, identity.peer_id, random, self.say)
        self.multicast: Final = Multicast(self, random, self.say)
        self._refresh_at = now + REFRESH_S
        self._expire_at = now + TABLE_EXPIRY_S
        self._stopping = False
        self._dirty = True
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
                self._closed(event, now)
            case TrunkRekeyed():
                self._rekeyed(event, now)
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
                self._path_found(event.trunk, event.address, event.rtt_s, now)
            case PathLost():
                self._path_lost(event.trunk, now)
            case SourceSeen():
                if event.trunk in self.trunks and self._udp_allowed:
                    self.trunks[event.trunk].roaming = event.address
                    self._out.append(Probe(event.trunk, event.address))
            case ControlReceived():
                self._member_control.received_untrusted(event, now)
            case PingAsked():
                self._pings.ask(event, now)
            case PathAsked():
                self._paths.ask(event, now)
            case PolicyChanged():
                self._policy_changed(event, now)
            case TimePassed():
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
        parts = (self.fabric, self.groups, self._locals, self.role, self.bridges, self.relay_control)
        dues: list[float | None] = [self._refresh_at, self._expire_at, self.multicast.next_deadline(self._now)]
        dues += [part.next_deadline() for part in parts]
        for trunk in self.trunks.values():
            dues += [trunk.next_deadline(), trunk.close_at]
        dues += [vlan.introductions.next_deadline() for vlan in self.vlans.values()]
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
        trunk = Trunk(event, udp_allowed=self._udp_allowed, max_payload=self._payload_bytes, now=now)
        if self._stopping:
            self._out.append(CloseTrunk(trunk.id, CloseCode.SHUTDOWN, "the node is going down"))
            return
        self.trunks[trunk.id] = trunk
        self._dirty = True
        if self.identity.peer_id < trunk.peer:
            self._keep_one(trunk, now)
        self._log("info", "trunk up", trunk, transport=trunk.transport, dialled=trunk.dialled)
        self.role.introduce(trunk)
        self._out.append(Send(trunk.id, self._endpoints))
        self._barrier.defer(Send(trunk.id, indexes(event.keys)))

    def _policy_changed(self, event: PolicyChanged, now: float) -> None:
        """What is not carried any more goes; what stays notices nothing."""
        self._dirty |= self.carried.limits != event.limits
        self.carried.limits = event.limits
        self.policy.names_itself = event.names_itself
        self.relay_control.configure(event.mode, event.patterns, event.controllers, now)

    def _keep_one(self, newest: Trunk, now: float) -> None:
        """Of the trunks to one peer, the cheapest transport stays, the newest among equals (SPEC 4.5)."""
        trunks = [one for one in self.trunks.values() if one.peer == newest.peer and not one.is_leaving]
        kept = min(trunks, key=lambda one: (TRANSPORT_RANK[one.transport], -one.id))
        for one in trunks:
            one.close_at = None if one is kept else now + REPLACE_AFTER_S
            if one is not kept:
                self.fabric.retire(one.id, now)

    def _judge(self, trunk: Trunk, now: float) -> None:
        """Whether anything goes by it: a neighbour that seems gone is gone around, long before it is given up."""
        before, trunk.is_silent = trunk.is_silent, trunk.seems_gone(now)
        if self.fabric.has_neighbour(trunk.id) and trunk.is_silent != before:
            self._log("info", "trunk silent" if trunk.is_silent else "trunk heard again", trunk)
            self.fabric.silence(trunk.id, now, is_silent=trunk.is_silent)

    def _rekeyed(self, event: TrunkRekeyed, now: float) -> None:
        if event.trunk in self.trunks:
            self._dirty = True
            self.trunks[event.trunk].begin_epoch(event.keys, now)
            self._barrier.defer(Send(event.trunk, indexes(event.keys)))

    def _closed(self, event: TrunkClosed, now: float) -> None:
        trunk = self.trunks.pop(event.trunk, None)
        if trunk is None:
            return
        self._log("info", "trunk down", trunk, reason=ANOTHER_IS_KEPT if trunk.is_leaving else event.reason)
        self._lose(trunk, now)

    def _leave(self, trunk: Trunk, now: float) -> None:
        """The neighbour is to close the trunk: what it sends until then still arrives (SPEC 4.5)."""
        trunk.is_leaving, trunk.close_at = True, now + LEAVE_S
        self._out.append(Send(trunk.id, Close(CloseCode.REPLACED, ANOTHER_IS_KEPT)))
        self._lose(trunk, now)

    def _lose(self, trunk: Trunk, now: float) -> None:
        """Nothing goes by this trunk any more."""
        self._dirty = True
        self.fabric.remove_neighbour(trunk.id, now)

    def _close(self, trunk: Trunk, code: CloseCode, reason: str, now: float) -> None:
        self._out.append(CloseTrunk(trunk.id, code, reason))
        self._closed(TrunkClosed(trunk.id, reason), now)

    def _path_found(self, number: TrunkId, address: Address, rtt_s: float, now: float) -> None:
        trunk = self.trunks.get(number)
        if trunk is None:
            return
        change = trunk.path_found(address, rtt_s, now)
        self.fabric.set_cost(trunk.id, trunk.cost, now)
        if change is not None:
            self._dirty = True
            self._log("info", change, trunk, carrier="udp", remote=address)
        self._judge(trunk, now)

    def _path_lost(self, number: TrunkId, now: float) -> None:
        trunk = self.trunks.get(number)
        if trunk is not None and trunk.path_lost(now):
            self._dirty = True
            self._log("info", "carrier", trunk, carrier=trunk.choice.name)

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
            self._judge(trunk, now)
        except PeerError as error:
            self._close(trunk, CloseCode.MALFORMED, str(error), now)

    def _dispatch(self, trunk: Trunk, message: Message, now: float) -> None:
        match message:
            case Ping():
                self._out.append(Send(trunk.id, Pong(message.id)))
            case Pong():
                self._ponged(trunk, message, now)
            case Policy():
                self._policy(trunk, message, now)
            case Endpoints():
                found = (unpacked(ip, port, trunk.host) for ip, port in message.udp)
                udp = [one for one in found if one is not None and not self._is_overlay(one)]
                trunk.learn_endpoints(udp, message.addresses, now)
            case Indexes():
                self._dirty |= trunk.peer_ready(message, now)
            case Grant():
                self.relaying.granted(message, now)
            case RelayUpdate():
                self.relay_control.updated_untrusted(trunk, message, now)
            case RelayResult():
                self.relay_control.answered(trunk, message)
            case Refresh() if not trunk.refreshes.take(now):
                pass
            case _ if isinstance(message, MeshMessage):
                self.fabric.received_untrusted(trunk.id, message, now, self.now_unix)
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

    def _policy(self, trunk: Trunk, message: Policy, now: float) -> None:
        is_news = (trunk.relays, trunk.wants_grants) != (message.relays, message.wants_grants)
        trunk.relays, trunk.wants_grants, trunk.is_leaf = message.relays, message.wants_grants, message.is_leaf
        self.relaying.prove_all(trunk)
        if self.fabric.has_neighbour(trunk.id):
            self.fabric.neighbour_is_leaf(trunk.id, trunk.cost, is_leaf=trunk.is_leaf)
            if is_news and trunk.refreshes.take(now):
                self.fabric.refresh_all(trunk.id)
        else:
            self.fabric.add_neighbour(
                trunk.id, cost=trunk.cost, mtu=trunk.max_payload, is_silent=trunk.is_silent, is_leaf=trunk.is_leaf
            )
            if trunk.close_at is not None:
                self.fabric.retire(trunk.id, self._now)

    def _ponged(self, trunk: Trunk, message: Pong, now: float) -> None:
        self._pings.answered(message.id, now)
        trunk.ponged(message.id, now)
        self.fabric.set_cost(trunk.id, trunk.cost, now)

    # Time

    def _time(self, now: float) -> None:
        for trunk in list(self.trunks.values()):
            if trunk.is_dead(now):
                self._close(trunk, CloseCode.TIMEOUT, "nothing heard", now)
            elif trunk.close_at is not None and trunk.close_at <= now:
                if trunk.is_leaving:
                    self._close(trunk, CloseCode.REPLACED, ANOTHER_IS_KEPT, now)
                else:
                    self._leave(trunk, now)
            else:
                self._judge(trunk, now)
                self._out += [Send(trunk.id, ping) for ping in trunk.pings_due(now, self._random)]
                self._out += [Probe(trunk.id, address) for address in trunk.probes_due(now)]
                self._dirty |= trunk.drop_old_epochs(now) or trunk.labels.cut
        self.fabric.tick(now)
        self.meetings.tick(now)
        self.bridges.tick(now)
        self.groups.tick(now)
        self._locals.tick(self.relaying, now)
        self.relay_control.tick(now)
        self.multicast.tick(now)
        if self._expire_at <= now:
            self._expire_at = now + TABLE_EXPIRY_S
            self.fabric.expire(now, self.now_unix)
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
        self.fabric.leave()
        self._locals.withdraw(now)
        self._say_routes()
        for trunk_id in list(self.trunks):
            self._close(self.trunks[trunk_id], CloseCode.SHUTDOWN, "the node is going down", now)

    # Settling

    def _settle(self, now: float) -> None:
        """Brings trees, labels and tables in step with routes."""
        if not self._stopping:
            self.role.look(now)
            self.multicast.settle(now)
            self._dirty |= bool(self.fabric.settle(now)) | self.routes.take_ways_changed()
            self.role.ask()
        self._say_routes()
        if self._take_dirty():
            self._follow_changes(now)
        self.multicast.follow(self.tables, now)
        for action in self._barrier.release():
            if isinstance(action, Met):
                self.groups.met(action, now)
                self.bridges.met(action.vlan, action.member, now)
            elif isinstance(action, Renumber):
                self._renumber(action.vlan)
            elif isinstance(action, Reclaim):
                self._locals.reclaim(action.vlan, now)
            elif not isinstance(action, Send) or action.trunk in self.trunks:
                self._out.append(action)

    def _take_dirty(self) -> bool:
        """Whether anything that the tables are made of changed: most events change nothing, and cost nothing then."""
        dirty = self._dirty or self.trees.changed or self.subscriptions.changed or self._locals.changed
        dirty |= self.bridges.changed
        for vlan in self.vlans.values():
            dirty |= vlan.introductions.changed
            vlan.introductions.changed = False
        self._dirty = self.trees.changed = self.subscriptions.changed = self._locals.changed = False
        self.bridges.changed = False
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

    def _say_routes(self) -> None:
        self._out += [Send(trunk, message) for trunk, message in self.fabric.take() if trunk in self.trunks]

    def _log(self, level: str, event: str, trunk: Trunk, **fields: object) -> None:
        self._out.append(Log(level, event, {"peer": trunk.peer, "trunk": trunk.id, **fields}))

    def _taken(self) -> list[Action]:
        out, self._out = self._out, []
        return out
