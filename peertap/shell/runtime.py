"""A running node: the pure Node between libp2p, the data plane, the TAPs and the admin socket."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final

import structlog
import trio

from peertap._core import StaticSecret
from peertap.config.address import PeerAddress
from peertap.config.compare import changes
from peertap.config.model import Config
from peertap.errors import DeviceError, PeerTapError, TrunkError
from peertap.identity.node import NodeIdentity, format_peer_id
from peertap.mesh.policy import Mode, RelayPolicy
from peertap.node.actions import Action, Apply, CloseTrunk, Log, Probe, ReportPing, Send, SendControl, SendIntro
from peertap.node.carrier import WHERE_SEEN, packed
from peertap.node.events import (
    ControlReceived,
    Event,
    IntroReceived,
    KeySpent,
    MessageReceived,
    PathFound,
    PingAsked,
    PolicyChanged,
    SourceSeen,
    StopAsked,
    TimePassed,
    TrunkClosed,
    UnknownKidSeen,
)
from peertap.node.node import Node
from peertap.node.vlan import VlanSettings
from peertap.observe import logs
from peertap.observe.status import Process, TapStatus, status
from peertap.shell import admin
from peertap.shell.dataplane import DataPlane
from peertap.shell.dial import Dialling
from peertap.shell.host import FRAMES_PROTOCOL, TRUNK_PROTOCOL, Connection, Stream, running_host
from peertap.shell.interfaces import LocalAddress, local_addresses, port_is_free
from peertap.shell.link import FRAMES_PROOF_BYTES, FRAMES_S, Link, shake_hands
from peertap.shell.lock import lock_node
from peertap.shell.notify import notify, watchdog_gap_s
from peertap.shell.store import Store
from peertap.shell.tap import OVERHEAD_BYTES, UDP_IPV6_BYTES, Tap, default_mtu
from peertap.trunk.handshake import HandshakeFailed
from peertap.types import PeerId, TrunkId, VlanIndex, parse_mac
from peertap.vlan.membership import StaticMembership
from peertap.wire.control import MAX_ENDPOINTS, CloseCode, Endpoints

STOP_S: Final = 1.2  # ours: to say goodbye; the first signal ends the node within 2 s
MAX_HANDSHAKES: Final = 64  # ours: unproven trunks at a time, half of them with strangers
MAX_HANDSHAKES_PER_SOURCE: Final = 8  # ours: of one IP address
MAX_TRUNKS: Final = 1024  # ours: a node that needs more neighbours is a mesh of its own
PING_S: Final = 2.0  # ours: a ping without an answer by then is lost
MAX_TRACE_S: Final = 600.0  # ours
FROM_OTHERS: Final = (MessageReceived, IntroReceived, UnknownKidSeen, ControlReceived, SourceSeen, PathFound, KeySpent)


class Runtime:
    """One node in this process."""

    def __init__(
        self, config: Config, log: structlog.typing.FilteringBoundLogger, reload: Callable[[], Config]
    ) -> None:
        self._config = config
        self._log = log
        self._reload = reload
        self._links: dict[TrunkId, Link] = {}
        self._dialling: dict[PeerId, tuple[Dialling, trio.CancelScope, tuple[PeerAddress, ...]]] = {}
        self._handshakes = 0
        self._shaking: Counter[str] = Counter()  # handshakes under way, by IP address
        self._last_trunk = 0
        self._taps: dict[VlanIndex, Tap] = {}
        self._ready = False
        self._stopping = False
        self._stopped = trio.Event()
        self._no_links = trio.Event()
        self._woken = trio.Event()
        self._pings: dict[int, trio.MemorySendChannel[float | None]] = {}
        self._last_ping = 0
        self._tracers: set[trio.MemorySendChannel[tuple[object, ...]]] = set()
        self._failures: dict[PeerId, str] = {}

    async def run(self) -> None:
        """Runs until a signal ends it.

        Raises: PeerTapError.
        """
        config = self._config
        self._started_at = time.monotonic()
        store = Store(config.state_dir)
        identity = store.load_identity()
        with lock_node(config.state_dir, config.node):
            memberships = self._memberships(store)
            self._check_ports()
            self._data_plane = DataPlane(
                config.listen.udp or 0,
                self.post,
                self._batch_ready,
                self._traced,
                self._offload_refused,
                config.without_offloads,
            )
            try:
                await self._run_host(identity, memberships)
            finally:
                self._data_plane.engine.stop()
                for tap in self._taps.values():
                    tap.close()

    # Starting

    def _memberships(self, store: Store) -> list[StaticMembership]:
        found = []
        for vlan in self._config.vlans:
            secret = store.load_vlan_secret(self._config.secret_path(vlan))
            found.append(StaticMembership(vlan.label, StaticSecret(secret.secret)))
        return found

    async def _run_host(self, identity: NodeIdentity, memberships: Sequence[StaticMembership]) -> None:
        async with running_host(identity, self._listen_addresses()) as host:
            self._host = host
            self._identity = identity
            self.node = self._new_node(identity, memberships)
            self._open_taps(memberships)
            admin_socket = admin.listen(self._config.admin_socket)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                host.handle(TRUNK_PROTOCOL, self._accepted)
                host.handle(FRAMES_PROTOCOL, self._accepted_frames)
                self._carry_out(self.node.start())
                nursery.start_soon(self._data_plane.run)
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._watch_signals)
                nursery.start_soon(admin.serve, admin_socket, self._config.admin_socket, self._answer)
                self._follow_peers(self._config)
                gap_s = watchdog_gap_s()
                if gap_s is not None:
                    nursery.start_soon(self._feed_watchdog, gap_s)
                self._ready = True
                notify("READY=1")
                self._log.info("ready", node=self._config.node, peer_id=identity.text)
                await self._stopped.wait()
                nursery.cancel_scope.cancel()

    def _check_ports(self) -> None:
        """py-libp2p shares ports silently with whoever has them (SO_REUSEPORT): look first.

        Raises: DeviceError.
        """
        listen, tcp, udp = self._config.listen, socket.SOCK_STREAM, socket.SOCK_DGRAM
        for key, kind, port in (
            ("tcp", tcp, listen.tcp), ("websocket", tcp, listen.websocket), ("quic", udp, listen.quic),
            ("udp", udp, listen.udp),
        ):  # fmt: skip
            if port and not port_is_free(kind, port):
                raise DeviceError(
                    f"listen.{key}: port {port} is taken by another program",
                    hint="choose another one; `peertap init --node NAME` does so for a second node",
                )

    def _listen_addresses(self) -> list[str]:
        listen = self._config.listen
        out = []
        for address in listen.address:
            base = f"/ip{address.version}/{address}"
            out += [f"{base}/tcp/{listen.tcp}"] if listen.tcp is not None else []
            out += [f"{base}/tcp/{listen.websocket}/ws"] if listen.websocket is not None else []
            out += [f"{base}/udp/{listen.quic}/quic-v1"] if listen.quic is not None else []
        return out

    def _new_node(self, identity: NodeIdentity, memberships: Sequence[StaticMembership]) -> Node:
        config = self._config
        port = self._data_plane.engine.udp_port
        underlay = self._underlay_addresses()
        self._listen_texts = self._listening(underlay)
        addresses = [WHERE_SEEN, *(str(one.address.ip) for one in underlay)]
        udp_allowed = config.carrier == "auto" and config.listen.udp is not None
        candidates = [packed((address, port)) for address in addresses][:MAX_ENDPOINTS] if udp_allowed else []
        settings = [
            VlanSettings(VlanIndex(number), source, vlan.bridge)
            for number, (source, vlan) in enumerate(zip(memberships, config.vlans, strict=True), start=1)
        ]
        mode, patterns = _relay_mode(config)
        return Node(
            identity,
            settings,
            RelayPolicy(mode, patterns),
            endpoints=Endpoints(tuple(candidates), tuple(self._listen_texts)),
            random=secrets.token_bytes,
            now=time.monotonic(),
            now_unix=time.time(),
            payload_bytes=config.underlay_mtu - UDP_IPV6_BYTES,
            udp_allowed=udp_allowed,
            overlay=[address.network for vlan in config.vlans for address in vlan.tap.address],
        )

    def _listening(self, underlay: Sequence[LocalAddress]) -> list[str]:
        """Addresses that others can dial, as far as this machine knows."""
        listen, out = self._config.listen, []
        for one in underlay:
            base, tail = one.multiaddr, f"/p2p/{self._identity.text}"
            out += [f"{base}/tcp/{listen.tcp}{tail}"] if listen.tcp else []
            out += [f"{base}/tcp/{listen.websocket}/ws{tail}"] if listen.websocket else []
            out += [f"{base}/udp/{listen.quic}/quic-v1{tail}"] if listen.quic else []
        return out[:16]

    def _underlay_addresses(self) -> list[LocalAddress]:
        """Where others may reach this machine: not over the node's own VLANs."""
        return local_addresses(without=[vlan.tap.name for vlan in self._config.vlans])

    def _open_taps(self, memberships: Sequence[StaticMembership]) -> None:
        for number, vlan in enumerate(self._config.vlans, start=1):
            index = VlanIndex(number)
            mtu = default_mtu(self._config.underlay_mtu) if vlan.tap.mtu == "auto" else vlan.tap.mtu
            tap = Tap(vlan.tap.name, self.node.vlans[index].mac, mtu, vlan.tap.address)
            self._taps[index] = tap
            self._data_plane.ports[index] = [self._data_plane.engine.add_port(tap.fileno(), tap.name)]
            warning = memberships[number - 1].warning
            self._log.info("interface up", vlan=vlan.label, tap=tap.name, mtu=mtu, warning=warning)

    # Events and actions

    def post(self, event: Event) -> None:
        """Hands the node an event and carries out what it wants.

        What comes from others must not end the node, even where it finds a bug of ours: that trunk ends, or the packet
        is dropped, and the log says so.
        """
        try:
            self._carry_out(self.node.handle(event, time.monotonic()))
        except Exception as error:
            if not isinstance(event, FROM_OTHERS):
                raise
            self._report_bug(error)
            if isinstance(event, MessageReceived) and event.trunk in self._links:
                self._links[event.trunk].close(CloseCode.INTERNAL, "internal error")
        self._woken.set()

    def _report_bug(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        self._log.error(
            "internal error", error=f"{type(error).__name__}: {error}", where=f"{where.name}:{where.lineno}"
        )

    def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(trunk, message):
                    if trunk in self._links:
                        self._links[trunk].send(message)
                case CloseTrunk(trunk, code, reason):
                    if trunk in self._links:
                        self._links[trunk].close(code, reason)
                case Apply(version, tables):
                    self._data_plane.apply(version, tables)
                case SendIntro(hops, nonce, sealed):
                    self._data_plane.engine.send_intro(list(hops), nonce, sealed)
                case SendControl(vlan, member, message):
                    self._data_plane.engine.send_control(vlan, member, message)
                case Probe(trunk, address):
                    self._data_plane.engine.probe(trunk, address)
                case ReportPing(number, rtt_s):
                    if number in self._pings:
                        self._pings[number].send_nowait(rtt_s)
                case Log(level, event, fields):
                    getattr(self._log, level)(event, **{name: _shown(value) for name, value in fields.items()})

    async def _keep_time(self) -> None:
        while True:
            self._woken = trio.Event()
            wait_s = self.node.next_deadline() - time.monotonic()
            if wait_s > 0:
                with trio.move_on_after(wait_s):
                    await self._woken.wait()
                    continue
            self.post(TimePassed())
            await trio.lowlevel.checkpoint()

    def _batch_ready(self, trunk: TrunkId) -> None:
        if trunk in self._links:
            self._links[trunk].frames_ready.set()

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
        if len(self._links) >= MAX_TRUNKS:
            return False
        if connection.peer in self._dialling:
            return self._handshakes < MAX_HANDSHAKES
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
            TrunkId(self._last_trunk), connection, stream, agreed, self._identity, self.post, self._data_plane.engine,
            dialled=dialled, report=self._report_bug,
        )  # fmt: skip
        self._links[link.number] = link
        if connection.peer in self._dialling:
            self._dialling[connection.peer][0].trunk_up(connection.transport)
        self._failures.pop(connection.peer, None)
        return link

    async def _run_link(self, link: Link) -> None:
        try:
            await link.run(self._host)
        finally:
            peer, trunk = link.connection.peer, self.node.trunks.get(link.number)
            del self._links[link.number]
            if not self._links and self._stopping:
                self._no_links.set()
            if peer in self._dialling:
                dialling = self._dialling[peer][0]
                if trunk is not None and trunk.addresses:
                    dialling.learn(trunk.addresses)
                dialling.trunk_down(link.connection.transport)
            self.post(TrunkClosed(link.number, link.closed_reason))

    async def _accepted_frames(self, connection: Connection, stream: Stream) -> None:
        """A neighbour opened the frame stream of a trunk on the same connection."""
        try:
            with trio.fail_after(FRAMES_S):
                proof = await stream.read_exactly(FRAMES_PROOF_BYTES)
        except (TrunkError, trio.TooSlowError):
            await stream.close()
            return
        for link in list(self._links.values()):
            if link.connection.raw is connection.raw and await link.adopt_frames(stream, proof):
                return
        await stream.close()

    def _follow_peers(self, config: Config) -> None:
        """Dials exactly the configured peers."""
        wanted = {addresses[0].peer_id: tuple(addresses) for addresses in config.peers}
        for peer, (_, scope, addresses) in list(self._dialling.items()):
            if wanted.get(peer) != addresses:
                scope.cancel()
                del self._dialling[peer]
        for peer, addresses in wanted.items():
            if peer not in self._dialling and peer != self._identity.peer_id:
                dialling = Dialling(self._host, peer, addresses, self._dialled, self._dial_failed)
                for link in self._links.values():
                    if link.connection.peer == peer:
                        dialling.trunk_up(link.connection.transport)
                scope = trio.CancelScope()
                self._dialling[peer] = (dialling, scope, addresses)
                self._nursery.start_soon(self._dial, dialling, scope)

    @staticmethod
    async def _dial(dialling: Dialling, scope: trio.CancelScope) -> None:
        with scope:
            await dialling.run()

    def _dial_failed(self, peer: PeerId, reason: str) -> None:
        if self._failures.get(peer) != reason:
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
                    self._ready = False
                    self._nursery.start_soon(self._stop)

    async def _stop(self) -> None:
        self._stopping = True
        notify("STOPPING=1")
        self._log.info("stopping")
        for _, scope, _ in self._dialling.values():
            scope.cancel()
        self.post(StopAsked())
        if not self._links:
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
        reloadable, restart = changes(self._config, new)
        self._config = self._config.model_copy(
            update={
                "peers": new.peers,
                "relay": new.relay,
                "log": self._config.log.model_copy(update={"level": new.log.level}),
            }
        )
        logs.set_level(new.log.level)
        self._follow_peers(new)
        self.post(PolicyChanged(*_relay_mode(new)))
        self._log.info("configuration reloaded", changed=list(reloadable), needs_restart=list(restart))

    async def _feed_watchdog(self, gap_s: float) -> None:
        while True:
            notify("WATCHDOG=1")
            await trio.sleep(gap_s)

    # The admin socket

    async def _answer(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        match request.get("command"):
            case "status":
                yield self._status()
            case "ping":
                async for answer in self._ping(str(request.get("target", "")), request.get("count", 4)):
                    yield answer
            case "trace":
                async for answer in self._trace(request.get("seconds", 5), request.get("mac")):
                    yield answer
            case "rekey":
                began = [link for link in self._links.values() if link.begins_rekeys]
                for link in began:
                    link.rekey()
                yield {"rekeyed": len(began)}
            case command:
                raise DeviceError(f"no command {str(command)[:40]!r}")

    def _status(self) -> dict[str, Any]:
        taps = {
            index: TapStatus(tap.name, tap.mtu, tuple(str(one) for one in self._config.vlans[index - 1].tap.address))
            for index, tap in self._taps.items()
        }
        process = Process(
            name=self._config.node,
            pid=os.getpid(),
            uptime_s=time.monotonic() - self._started_at,
            ready=self._ready,
            listen=self._listen_texts,
            underlay_mtu=self._config.underlay_mtu,
            overhead_bytes=OVERHEAD_BYTES,
            taps=taps,
        )
        found = status(process, self.node, self._data_plane.engine.snapshot())
        found["not_reached"] = {format_peer_id(peer): reason for peer, reason in self._failures.items()}
        return found

    async def _ping(self, target: str, count: object) -> AsyncGenerator[dict[str, Any], None]:
        where = self._target(target)
        for number in range(1, min(count if isinstance(count, int) else 4, 10_000) + 1):
            self._last_ping += 1
            sender, receiver = trio.open_memory_channel[float | None](1)
            self._pings[self._last_ping] = sender
            rtt_s: float | None = None
            try:
                self.post(PingAsked(self._last_ping, where))
                with trio.move_on_after(PING_S):
                    rtt_s = await receiver.receive()
            finally:
                del self._pings[self._last_ping]
            yield {"seq": number, "rtt_s": rtt_s}
            await trio.sleep(0.2 if rtt_s is not None else 0)

    def _target(self, text: str) -> tuple[VlanIndex, Any] | TrunkId:
        """What `peertap ping` names: a peer ID, a MAC, or an IP address that the kernel resolved on a TAP."""
        for trunk in self.node.trunks.values():
            if format_peer_id(trunk.peer) == text:
                return trunk.id
        for vlan in self.node.vlans.values():
            for peer in vlan.introductions.peers.values():
                if text == format_peer_id(peer.member):
                    return vlan.index, peer.mac
        if text.count(":") == 5:
            mac = parse_mac(text)
            for vlan in self.node.vlans.values():
                if mac in vlan.member_macs():
                    return vlan.index, mac
            raise DeviceError(f"no known member has the MAC {text}", hint="peertap status lists the members")
        for index, tap in self._taps.items():
            found = tap.neighbour(text)
            if found is not None and found in self.node.vlans[index].member_macs():
                return index, found
        raise DeviceError(
            f"{text[:60]!r} is no neighbour's or member's peer ID, no member's MAC, no IP address resolved on a TAP",
            hint="peertap status lists the members; an IP address must have been spoken to before",
        )

    async def _trace(self, seconds: object, mac: object) -> AsyncGenerator[dict[str, Any], None]:
        if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TRACE_S:
            raise DeviceError(f"trace: seconds must be above 0 and at most {MAX_TRACE_S:.0f}")
        duration_s = float(seconds)
        wanted = parse_mac(mac) if isinstance(mac, str) else None
        sender, receiver = trio.open_memory_channel[tuple[object, ...]](4096)
        self._tracers.add(sender)
        try:
            self._data_plane.engine.trace(duration_s, wanted)
            with trio.move_on_after(duration_s):
                async for at_s, vlan, step, text in receiver:
                    yield {"at_s": at_s, "vlan": vlan, "step": step, "text": text}
        finally:
            self._tracers.discard(sender)

    def _offload_refused(self, trunk: TrunkId, text: str) -> None:
        """Said once for each path; the data plane has gone on already."""
        found = self.node.trunks.get(trunk)
        peer = format_peer_id(found.peer) if found is not None else None
        self._log.warning("the system refused an offload", peer=peer, now=text)

    def _traced(self, line: tuple[object, ...]) -> None:
        for tracer in self._tracers:
            try:
                tracer.send_nowait(line)
            except trio.WouldBlock:
                pass


def _relay_mode(config: Config) -> tuple[Mode, tuple[str, ...]]:
    if config.relay is None:
        return Mode.NONE, ()
    return Mode(config.relay.mode), tuple(config.relay.vlans)


def _shown(value: object) -> object:
    """Peer IDs as text, tuples as host:port; never raw bytes."""
    if isinstance(value, bytes):
        return format_peer_id(PeerId(value)) if len(value) == 38 else value.hex()
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]}:{value[1]}"
    return value
