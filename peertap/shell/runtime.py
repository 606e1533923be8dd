"""A running node: the pure Node between libp2p, the data plane, the TAPs and the admin socket."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import structlog
import trio

from peertap._core import StaticSecret
from peertap.config.address import PeerAddress, parse_address
from peertap.config.compare import changes
from peertap.config.model import MAX_CONNECTIONS, Config
from peertap.errors import ConfigError, DeviceError, PeerTapError, TrunkError
from peertap.identity.node import NodeIdentity, format_peer_id
from peertap.mesh.book import Source
from peertap.mesh.policy import RelayPolicy
from peertap.mesh.roles import Wish
from peertap.node.actions import (
    Action,
    Apply,
    Choose,
    ClosePort,
    CloseTrunk,
    DropRecord,
    ForgetHosts,
    Log,
    OpenPort,
    PlaceHosts,
    Probe,
    ReportPath,
    ReportPing,
    SaveRecord,
    SaveRelayState,
    Send,
    SendControl,
    SendFrame,
    SendGroupControl,
    SendIntro,
    WriteFrame,
)
from peertap.node.carrier import WHERE_SEEN
from peertap.node.commands import Command
from peertap.node.events import (
    FROM_OTHERS,
    Event,
    LoadMeasured,
    MessageReceived,
    PolicyChanged,
    StopAsked,
    TimePassed,
    TrunkClosed,
    TrunkOpened,
)
from peertap.node.node import Node
from peertap.node.relay_control import RelayCommand, RelaySettings
from peertap.node.vlan import VlanSettings
from peertap.observe import logs
from peertap.shell import admin
from peertap.shell.alarm import Alarm
from peertap.shell.answers import Answers
from peertap.shell.dataplane import DataPlane
from peertap.shell.dial import Dialler
from peertap.shell.discovery import Discovery
from peertap.shell.host import FRAMES_PROTOCOL, TRUNK_PROTOCOL, Connection, Stream, running_host
from peertap.shell.link import FRAMES_PROOF_BYTES, FRAMES_S, Link, shake_hands
from peertap.shell.load import LoadMeter
from peertap.shell.lock import lock_node
from peertap.shell.masters import watch_masters
from peertap.shell.notify import notify, watchdog_gap_s
from peertap.shell.ports import Ports
from peertap.shell.settings import relay_policy, relay_rights, switching, ways
from peertap.shell.store import Store
from peertap.shell.tap import UDP_IPV6_BYTES
from peertap.shell.vlan_admin import node_name
from peertap.shell.whereabouts import Whereabouts, check_ports, listen_addresses
from peertap.trunk.handshake import HandshakeFailed
from peertap.types import PeerId, TrunkId, VlanIndex
from peertap.vlan.membership import GroupMembership, StaticMembership
from peertap.vlan.record import Port, VlanRecord
from peertap.wire.codec import packed_ip
from peertap.wire.control import MAX_ENDPOINTS, CloseCode, Endpoints, Serving

STOP_S: Final = 1.2  # ours: to say goodbye; the first signal ends the node within 2 s
MAX_HANDSHAKES: Final = 64  # ours: unproven trunks at a time, half of them with strangers
MAX_HANDSHAKES_PER_SOURCE: Final = 8  # ours: of one IP address
MEASURE_S: Final = 5.0  # ours: how often the node hears how busy it is


class NotSaved(DeviceError):
    """What must be on disk is not: the node ends before it says anything that relies on it."""


class Runtime:
    """One node in this process."""

    def __init__(
        self, config: Config, log: structlog.typing.FilteringBoundLogger, reload: Callable[[], Config]
    ) -> None:
        self.config = config
        self._log = log
        self._reload = reload
        self.links: dict[TrunkId, Link] = {}
        self._handshakes = 0
        self._shaking: Counter[str] = Counter()  # handshakes under way, by IP address
        self._last_trunk = 0
        self.is_ready = False
        self._stopping = False
        self._stopped = trio.Event()
        self._no_links = trio.Event()
        self._woken = trio.Event()
        self._changed = trio.Event()
        self._failures: dict[PeerId, str] = {}
        self._fatal: NotSaved | None = None

    async def run(self) -> None:
        """Runs until a signal ends it.

        Raises: PeerTapError.
        """
        config = self.config
        self.started_at = time.monotonic()
        self._store = store = Store(config.state_dir)
        identity = store.load_identity()
        with lock_node(config.state_dir, config.node):
            vlans, records = self._static_vlans(store), store.load_records()
            self._relay_state = store.load_relay_state()
            check_ports(self.config.listen)
            self.data_plane = DataPlane(
                config.listen.udp or 0,
                self.post,
                self._batch_ready,
                self._traced,
                self._offload_refused,
                config.without_offloads,
            )
            self.ports = Ports(self.data_plane, identity.peer_id, config.underlay_mtu)
            try:
                await self._run_host(identity, vlans, records)
            finally:
                self.data_plane.engine.stop()
                self.ports.close_all()

    # Starting

    def _static_vlans(self, store: Store) -> list[VlanSettings]:
        found = []
        for vlan in self.config.vlans:
            secret = store.load_vlan_secret(self.config.secret_path(vlan))
            membership = StaticMembership(vlan.label, StaticSecret(secret.secret), is_public=vlan.public)
            mtu = 0 if vlan.tap.mtu == "auto" else vlan.tap.mtu
            port = Port(vlan.tap.name, tuple(map(str, vlan.tap.address)), mtu, vlan.bridge)
            found.append(VlanSettings(membership, bridge=vlan.bridge, port=port))
        return found

    async def _run_host(
        self, identity: NodeIdentity, vlans: Sequence[VlanSettings], records: Sequence[VlanRecord]
    ) -> None:
        config = self.config
        async with running_host(identity, listen_addresses(self.config.listen)) as host:
            self._host = host
            self._identity = identity
            self.whereabouts = Whereabouts(config, identity.text, self.ports.names)
            self.node = self._new_node(identity, vlans, records)
            self.dialler = Dialler(host, identity.peer_id, self._dialled, self._dial_failed)
            self._dialling = trio.CancelScope()
            self.discovery = Discovery(self, host, identity, self._store, self._log)
            self._answers = Answers(self)
            self._carry_out(self.node.start())
            admin_socket = admin.listen(self.config.admin_socket)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                host.handle(TRUNK_PROTOCOL, self._accepted)
                host.handle(FRAMES_PROTOCOL, self._accepted_frames)
                nursery.start_soon(self.data_plane.run)
                nursery.start_soon(self.data_plane.watch_traffic, lambda: len(self.links) > 1)
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._measure)
                nursery.start_soon(watch_masters, self.ports, self.post)
                nursery.start_soon(self._watch_signals)
                nursery.start_soon(self._dial)
                nursery.start_soon(admin.serve, admin_socket, self.config.admin_socket, self._answers.answer)
                self._follow_peers(self.config)
                gap_s = watchdog_gap_s()
                if gap_s is not None:
                    nursery.start_soon(self._feed_watchdog, gap_s)
                self.is_ready = True
                notify("READY=1")
                self._log.info("ready", node=self.config.node, peer_id=identity.text)
                await self._stopped.wait()
                nursery.cancel_scope.cancel()
        if self._fatal is not None:
            raise self._fatal

    def _new_node(self, identity: NodeIdentity, vlans: Sequence[VlanSettings], records: Sequence[VlanRecord]) -> Node:
        config = self.config
        port = self.data_plane.engine.udp_port
        addresses = [WHERE_SEEN, *(str(one.address.ip) for one in self.whereabouts.underlay)]
        udp_allowed = config.carrier == "auto" and config.listen.udp is not None
        candidates = [(packed_ip(address), port) for address in addresses][:MAX_ENDPOINTS] if udp_allowed else []
        return Node(
            identity,
            vlans,
            RelayPolicy(*relay_policy(config)),
            endpoints=Endpoints(tuple(candidates), self.whereabouts.texts),
            random=secrets.token_bytes,
            now=time.monotonic(),
            now_unix=time.time(),
            payload_bytes=config.underlay_mtu - UDP_IPV6_BYTES,
            udp_allowed=udp_allowed,
            role=Wish(config.role),
            name=node_name(config.node),
            records=records,
            switching=switching(config),
            relay=RelaySettings(*relay_rights(config), self._relay_state),
            connection_limit=config.connection_limit,
            chooses_relays=config.discovery.relays,
            ways=ways(config),
        )

    def dial_addresses(self) -> list[str]:
        """Multiaddrs by which others may find this node: its own, and those of relays that it uses."""
        own = [text for text in self.whereabouts.texts if "/tcp/" in text and "/ws/" not in text]
        relays = sorted({trunk.peer for trunk in self.node.trunks.values() if trunk.relays})
        return [*own[:4], *(text for peer in relays[:4] for text in self.dialler.book.addresses(peer)[:1])]

    def free_interface(self) -> str:
        """A name that no interface has."""
        taken = {name for _, name in socket.if_nameindex()} | {vlan.tap.name for vlan in self.config.vlans}
        taken |= {vlan.record.port.interface for vlan in self.node.groups.vlans.values()}
        return next(name for number in range(len(taken) + 1) if (name := f"ptap{number}") not in taken)

    def _open_port(self, index: VlanIndex) -> None:
        """Makes a VLAN's interface. Raises DeviceError while the node starts; later the VLAN goes without."""
        vlan = self.node.vlans[index]
        if vlan.port is None:
            return
        try:
            tap, addresses = self.ports.open(vlan, vlan.port)
        except DeviceError as error:
            if not self.is_ready and not isinstance(vlan.source, GroupMembership):
                raise  # what a command made must not keep the node from starting
            self._log.error("interface not opened", vlan=vlan.source.label, reason=str(error))
            return
        self.node.overlay.extend(address.network for address in addresses)
        warning = vlan.source.warning
        self._log.info("interface up", vlan=vlan.source.label, tap=tap.name, mtu=tap.mtu, warning=warning)

    # Events and actions

    def post(self, event: Event) -> None:
        """Hands the node an event and carries out what it wants.

        What comes from others must not end the node, even where it finds a bug of ours: that trunk ends, or the packet
        is dropped, and the log says so. Once something could not be kept on disk nothing happens any more.
        """
        if self._fatal is not None:
            return
        if isinstance(event, TrunkClosed):
            self._learn_addresses(event.trunk)
        if isinstance(event, MessageReceived) and isinstance(event.message, Serving):
            self.discovery.told(event.trunk, event.message)
        try:
            self._carry_out(self.node.handle(event, time.monotonic()))
        except Exception as error:
            if not isinstance(event, FROM_OTHERS) or isinstance(error, NotSaved):
                raise
            self._report_bug(error)
            if isinstance(event, MessageReceived) and event.trunk in self.links:
                self.links[event.trunk].close(CloseCode.INTERNAL, "internal error")
        if isinstance(event, TrunkOpened) and (serving := self.discovery.serving()) is not None:
            self._carry_out([Send(event.trunk, serving)])
        self._wake()

    def _learn_addresses(self, number: TrunkId) -> None:
        """Before a trunk is forgotten: where the neighbour said that it listens."""
        trunk = self.node.trunks.get(number)
        if trunk is not None and trunk.addresses and self.dialler.book.is_chosen(trunk.peer):
            self.dialler.learn(Source.TOLD, trunk.peer, trunk.addresses)

    def _report_bug(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        self._log.error(
            "internal error", error=f"{type(error).__name__}: {error}", where=f"{where.name}:{where.lineno}"
        )

    def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(trunk, message):
                    if trunk in self.links:
                        self.links[trunk].send(message)
                case CloseTrunk(trunk, code, reason):
                    if trunk in self.links:
                        self.links[trunk].close(code, reason)
                case Apply(version, tables):
                    self.data_plane.apply(version, tables)
                case SendIntro(hops, nonce, sealed):
                    self.data_plane.engine.send_intro(list(hops), nonce, sealed)
                case SendControl(vlan, member, message, by):
                    self.data_plane.engine.send_control(vlan, member, message, by)
                case SendGroupControl(vlan, message):
                    self.data_plane.engine.send_group_control(vlan, message)
                case PlaceHosts(vlan, places):
                    self.data_plane.place(vlan, places)
                case ForgetHosts(vlan, hosts, refused):
                    self.data_plane.forget(vlan, hosts, refused=refused)
                case WriteFrame(vlan, frame):
                    self.data_plane.engine.write_frame(vlan, frame)
                case SendFrame(vlan, frame):
                    self.data_plane.engine.send_frame(vlan, frame)
                case Probe(trunk, address):
                    self.data_plane.engine.probe(trunk, address)
                case ReportPing(number, rtt_s):
                    self._answers.ponged(number, rtt_s)
                case ReportPath(number, step):
                    self._answers.path_step(number, step)
                case SaveRecord(label, record):
                    self._keep(f"the state of VLAN {label}", partial(self._store.save_record, label, record))
                    self.discovery.changed()
                case SaveRelayState(state):
                    self._keep("the relay policy", partial(self._store.save_relay_state, state))
                case DropRecord(label):
                    self._store.drop_record(label)
                    self._follow_peers(self.config)
                    self.discovery.changed()
                case OpenPort(vlan):
                    self._open_port(vlan)
                case ClosePort(vlan):
                    self.ports.close(vlan)
                case Choose(relays):
                    self.dialler.choose(relays)
                case Log(level, event, fields):
                    getattr(self._log, level)(event, **{name: _shown(value) for name, value in fields.items()})

    def _traced(self, line: tuple[object, ...]) -> None:
        self._answers.traced(line)

    async def next_change(self) -> None:
        """Waits until something happens to the node."""
        await self._changed.wait()

    def _keep(self, what: str, save: Callable[[], None]) -> None:
        """Keeps something on disk. Raises NotSaved: nothing that relies on it may be done."""
        try:
            save()
        except PeerTapError as error:
            self._fatal = NotSaved(f"{what} cannot be kept: {error.what}", hint=error.hint)
            self._stopped.set()
            raise self._fatal from None

    def peers_not_reached(self) -> dict[str, str]:
        """Peer IDs that cannot be dialled now, with the reason."""
        return {format_peer_id(peer): reason for peer, reason in self._failures.items()}

    def command(self, command: Command | RelayCommand) -> dict[str, Any]:
        """Does what the operator wants of a VLAN with a group, or of our relaying. Raises PeerTapError."""
        if self._fatal is not None:
            raise self._fatal
        actions, answer = self.node.command(command, time.monotonic())
        self._carry_out(actions)
        self._follow_peers(self.config)
        self._wake()
        return answer

    def _wake(self) -> None:
        self._woken.set()
        self._changed.set()
        self._changed = trio.Event()

    async def _keep_time(self) -> None:
        alarm = Alarm()
        while True:
            self._woken = trio.Event()
            due_at, now = self.node.next_deadline(), time.monotonic()
            alarm.set(due_at, now)
            with trio.move_on_after(max(0.0, due_at - now)) as wait:
                await self._woken.wait()
            if wait.cancelled_caught:
                self.post(TimePassed(late_s=alarm.rang(time.monotonic())))
                await trio.lowlevel.checkpoint()

    async def _measure(self) -> None:
        """Tells the node how busy it is, and what its trunks lose."""
        meter = LoadMeter()
        while True:
            await trio.sleep(MEASURE_S)
            trunks: dict[TrunkId, dict[str, Any]] = self.data_plane.engine.snapshot()["trunks"]  # type: ignore[assignment]
            self.post(LoadMeasured(meter.read(), {number: one["loss"] for number, one in trunks.items()}))

    def _batch_ready(self, trunk: TrunkId) -> None:
        if trunk in self.links:
            self.links[trunk].frames_ready.set()

    # Trunks

    async def _accepted(self, connection: Connection, stream: Stream) -> None:
        """A neighbour opened a trunk; runs it until it ends."""
        source = connection.host or ""
        if not self._admits(connection, source):
            await stream.close()
            await connection.close()
            return
        self._shaking[source] += 1
        try:
            link = await self._new_link(connection, stream, dialled=False)
        except TrunkError:
            return
        finally:
            self._shaking[source] -= 1
            if not self._shaking[source]:
                del self._shaking[source]
        await self._run_link(link)

    def _admits(self, connection: Connection, source: str) -> bool:
        """Whether another handshake may begin: strangers leave room for configured peers, and one source for others."""
        if len(self.links) >= MAX_CONNECTIONS:
            return False
        if self.dialler.book.is_chosen(connection.peer):
            return self._handshakes < MAX_HANDSHAKES
        if self.node.is_full:
            return False
        return self._handshakes < MAX_HANDSHAKES // 2 and self._shaking[source] < MAX_HANDSHAKES_PER_SOURCE

    async def _dialled(self, connection: Connection) -> None:
        """Makes a trunk of a connection that we dialled.

        Raises: TrunkError.
        """
        try:
            stream = await self._host.open(connection, TRUNK_PROTOCOL)
        except TrunkError:
            await connection.close()
            raise
        link = await self._new_link(connection, stream, dialled=True)
        self._nursery.start_soon(self._run_link, link)

    async def _new_link(self, connection: Connection, stream: Stream, *, dialled: bool) -> Link:
        """Shakes hands.

        Raises: TrunkError.
        """
        self._handshakes += 1
        try:
            agreed = await shake_hands(stream, self._identity, connection, dialled=dialled)
        except (TrunkError, HandshakeFailed) as error:
            self._log.warning("handshake failed", peer=format_peer_id(connection.peer), reason=str(error))
            await stream.close()
            await connection.close()
            raise TrunkError(str(error)) from None
        finally:
            self._handshakes -= 1
        self._last_trunk += 1
        link = Link(
            TrunkId(self._last_trunk), connection, stream, agreed, self._identity, self.post, self.data_plane.engine,
            dialled=dialled, is_wanted=self.dialler.book.is_named(connection.peer), report=self._report_bug,
        )  # fmt: skip
        self.links[link.number] = link
        self.dialler.trunk_up(connection.peer, connection.transport, connection.dialled)
        self._failures.pop(connection.peer, None)
        return link

    async def _run_link(self, link: Link) -> None:
        try:
            await link.run(self._host)
        finally:
            del self.links[link.number]
            if not self.links and self._stopping:
                self._no_links.set()
            self.dialler.trunk_down(link.connection.peer, link.connection.transport)

    async def _accepted_frames(self, connection: Connection, stream: Stream) -> None:
        """A neighbour opened the frame stream of a trunk on the same connection."""
        try:
            with trio.fail_after(FRAMES_S):
                proof = await stream.read_exactly(FRAMES_PROOF_BYTES)
        except (TrunkError, trio.TooSlowError):
            await stream.close()
            return
        for link in list(self.links.values()):
            if link.connection.raw is connection.raw and await link.adopt_frames(stream, proof):
                return
        await stream.close()

    def _follow_peers(self, config: Config) -> None:
        """The configured peers, and those by which VLANs with a group are found, are always wanted."""
        by_records: dict[PeerId, list[PeerAddress]] = {}
        for address in self._addresses_of_groups():
            by_records.setdefault(address.peer_id, []).append(address)
        self.dialler.replace(Source.CONFIGURED, {addresses[0].peer_id: addresses for addresses in config.peers})
        self.dialler.replace(Source.RECORD, by_records)

    def _addresses_of_groups(self) -> list[PeerAddress]:
        found = []
        for text in self.node.groups.dial():
            try:
                found.append(parse_address(text))
            except ConfigError as error:
                self._log.warning("address not understood", address=text[:80], reason=error.what)
        return found

    async def _dial(self) -> None:
        """Dials, and looks for others, until the node goes down."""
        with self._dialling:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.dialler.run)
                nursery.start_soon(self._discover)

    async def _discover(self) -> None:
        """What strangers announce must not end the node, even where it finds a bug of ours."""
        try:
            await self.discovery.run()
        except Exception as error:
            self._report_bug(error)

    def neighbours(self) -> Iterator[tuple[TrunkId, Connection]]:
        """The trunks that are up."""
        return ((number, link.connection) for number, link in self.links.items())

    def _dial_failed(self, peer: PeerId, reason: str) -> None:
        if not self.dialler.book.is_named(peer):
            self._log.debug("peer not reached", peer=format_peer_id(peer), reason=reason)
        elif self._failures.get(peer) != reason:
            self._failures[peer] = reason
            self._log.info("peer not reached", peer=format_peer_id(peer), reason=reason)

    # The process

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as arrivals:
            async for number in arrivals:
                if number == signal.SIGHUP:
                    self._reload_config()
                elif self._stopping:
                    os._exit(1)
                else:
                    self.is_ready = False
                    self._nursery.start_soon(self._stop)

    async def _stop(self) -> None:
        self._stopping = True
        notify("STOPPING=1")
        self._log.info("stopping")
        self.discovery.note()
        self._dialling.cancel()
        self.post(StopAsked())
        if not self.links:
            self._no_links.set()
        with trio.move_on_after(STOP_S):
            await self._no_links.wait()
        self._stopped.set()

    def _reload_config(self) -> None:
        """SIGHUP: takes up what can be taken up, says what cannot."""
        try:
            new = self._reload()
        except PeerTapError as error:
            self._log.error("configuration not reloaded", reason=str(error))
            return
        reloadable, restart = changes(self.config, new)
        self.config = self.config.model_copy(
            update={
                "peers": new.peers,
                "relay": new.relay,
                "log": self.config.log.model_copy(update={"level": new.log.level}),
            }
        )
        logs.set_level(new.log.level)
        self._follow_peers(new)
        self.post(PolicyChanged(*relay_policy(new), *relay_rights(new)))
        self._log.info("configuration reloaded", changed=list(reloadable), needs_restart=list(restart))

    async def _feed_watchdog(self, gap_s: float) -> None:
        while True:
            notify("WATCHDOG=1")
            await trio.sleep(gap_s)

    def _offload_refused(self, trunk: TrunkId, text: str) -> None:
        """Said once for each path; the data plane has gone on already."""
        found = self.node.trunks.get(trunk)
        peer = format_peer_id(found.peer) if found is not None else None
        self._log.warning("the system refused an offload", peer=peer, now=text)


def _shown(value: object) -> object:
    """Peer IDs as text, tuples as host:port; never raw bytes."""
    if isinstance(value, bytes):
        return format_peer_id(PeerId(value)) if len(value) == 38 else value.hex()
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]}:{value[1]}"
    return value
