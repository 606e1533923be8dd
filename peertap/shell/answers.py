"""What the admin socket answers (SPEC 8.3): status, ping, path, trace, rekey, and commands for VLANs with a group."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Protocol

import trio

from peertap.config.model import Config
from peertap.errors import DeviceError
from peertap.identity.node import format_peer_id
from peertap.node.actions import PathStep
from peertap.node.events import Event, PathAsked, PingAsked
from peertap.observe.status import Process, status
from peertap.shell import relay_admin, vlan_admin
from peertap.shell.dataplane import DataPlane
from peertap.shell.discovery import Discovery
from peertap.shell.link import Link
from peertap.shell.ports import Ports
from peertap.shell.tap import OVERHEAD_BYTES
from peertap.shell.whereabouts import Whereabouts
from peertap.types import PeerId, TrunkId, VlanIndex, parse_mac
from peertap.wire.path import MAX_PATH_HOPS, PathAnswer

PING_S: Final = 2.0  # ours: a ping without an answer by then is lost
PATH_S: Final = 3.0  # ours: a node of the way that has not answered by then does not
MAX_TRACE_S: Final = 600.0  # ours


class Runtime(vlan_admin.Runtime, relay_admin.Runtime, Protocol):
    """The running node, as its answers need it."""

    @property
    def config(self) -> Config: ...

    @property
    def links(self) -> Mapping[TrunkId, Link]: ...

    @property
    def ports(self) -> Ports: ...

    @property
    def data_plane(self) -> DataPlane: ...

    @property
    def discovery(self) -> Discovery: ...

    @property
    def started_at(self) -> float: ...

    @property
    def is_ready(self) -> bool: ...

    @property
    def whereabouts(self) -> Whereabouts: ...

    def post(self, event: Event) -> None: ...


class Answers:
    """One for each running node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._vlans = vlan_admin.VlanAdmin(runtime)
        self._relay = relay_admin.RelayAdmin(runtime)
        self._pings: dict[int, trio.MemorySendChannel[float | None]] = {}
        self._last_ping = 0
        self._paths: dict[int, trio.MemorySendChannel[PathStep]] = {}
        self._last_path = 0
        self._tracers: set[trio.MemorySendChannel[tuple[object, ...]]] = set()

    async def answer(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """What a request leads to. Raises: PeerTapError."""
        match request.get("command"):
            case "status":
                yield self._status()
            case "ping":
                async for answer in self._ping(str(request.get("target", "")), request.get("count", 4)):
                    yield answer
            case "path":
                async for answer in self._path(str(request.get("target", ""))):
                    yield answer
            case "trace":
                async for answer in self._trace(request.get("seconds", 5), request.get("mac")):
                    yield answer
            case "rekey":
                began = [link for link in self._runtime.links.values() if link.begins_rekeys]
                for link in began:
                    link.rekey()
                yield {"rekeyed": len(began)}
            case str(name) if name.startswith("vlan "):
                async for answer in self._vlans.answer(name.removeprefix("vlan "), request):
                    yield answer
            case str(name) if name.startswith("relay "):
                async for answer in self._relay.answer(name.removeprefix("relay "), request):
                    yield answer
            case command:
                raise DeviceError(f"no command {str(command)[:40]!r}")

    def _status(self) -> dict[str, Any]:
        runtime = self._runtime
        process = Process(
            name=runtime.config.node,
            pid=os.getpid(),
            uptime_s=time.monotonic() - runtime.started_at,
            ready=runtime.is_ready,
            listen=list(runtime.whereabouts.texts),
            underlay_mtu=runtime.config.underlay_mtu,
            overhead_bytes=OVERHEAD_BYTES,
            taps=runtime.ports.status(),
        )
        found = status(process, runtime.node, runtime.data_plane.engine.snapshot())
        found["not_reached"] = runtime.peers_not_reached()
        found["discovery"] = runtime.discovery.status()
        return found

    async def _ping(self, target: str, count: object) -> AsyncGenerator[dict[str, Any], None]:
        where = self._target(target)
        for number in range(1, min(count if isinstance(count, int) else 4, 10_000) + 1):
            self._last_ping += 1
            sender, receiver = trio.open_memory_channel[float | None](1)
            self._pings[self._last_ping] = sender
            rtt_s: float | None = None
            try:
                self._runtime.post(PingAsked(self._last_ping, where))
                with trio.move_on_after(PING_S):
                    rtt_s = await receiver.receive()
            finally:
                del self._pings[self._last_ping]
            yield {"seq": number, "rtt_s": rtt_s}
            await trio.sleep(0.2 if rtt_s is not None else 0)

    async def _path(self, target: str) -> AsyncGenerator[dict[str, Any], None]:
        index, mac = self._member(target)
        peers = self._runtime.node.vlans[index].introductions.peers.values()
        member = next(peer.member for peer in peers if peer.mac == mac)
        self._last_path += 1
        sender, receiver = trio.open_memory_channel[PathStep](MAX_PATH_HOPS + 1)
        self._paths[self._last_path] = sender
        try:
            self._runtime.post(PathAsked(self._last_path, index, mac))
            with trio.move_on_after(PATH_S):
                async for step in receiver:
                    yield self._step(step, index, member)
                    if step.end != PathAnswer.PASSES:
                        return
        finally:
            del self._paths[self._last_path]

    def _step(self, step: PathStep, vlan: VlanIndex, peer: PeerId) -> dict[str, Any]:
        """A node of the way; the last one is the member, who says no name."""
        owns = step.end == PathAnswer.OWNS
        member, reasons = format_peer_id(peer), [step.why]
        if step.hop == 0:
            node, not_dialled = self._runtime.node, self._runtime.peers_not_reached().get(member)
            reasons += [
                f"{format_peer_id(one)} swallows frames" for one, _ in node.end_to_end.swallows(vlan, peer, node.now)
            ]
            reasons += [f"dialling it failed: {not_dialled}"] if not_dialled else []
        return {
            "hop": step.hop,
            "node": member if owns else format_peer_id(step.node) if step.node is not None else None,
            "end": ("passes", "member", "lost")[step.end],
            "rtt_s": step.rtt_s,
            "transport": step.transport,
            "carrier": step.carrier,
            "link_s": step.link_s,
            "why": "; ".join(filter(None, reasons)),
        }

    def path_step(self, number: int, step: PathStep) -> None:
        """A node of a way answered."""
        if number in self._paths:
            try:
                self._paths[number].send_nowait(step)
            except trio.WouldBlock:
                pass

    def _member(self, text: str) -> tuple[VlanIndex, Any]:
        """What `peertap path` names: a member's peer ID, or what `peertap ping` takes for one."""
        for vlan in self._runtime.node.vlans.values():
            for peer in vlan.introductions.peers.values():
                if vlan.is_inside and text == format_peer_id(peer.member):
                    return vlan.index, peer.mac
        found = self._target(text)
        if isinstance(found, int):
            raise DeviceError(f"{text[:60]} is a neighbour and no member", hint="peertap status shows the trunk to it")
        return found

    def _target(self, text: str) -> tuple[VlanIndex, Any] | TrunkId:
        """What `peertap ping` names: a peer ID, a MAC, or an IP address that the kernel resolved on a TAP."""
        for trunk in self._runtime.node.trunks.values():
            if format_peer_id(trunk.peer) == text:
                return trunk.id
        for vlan in self._runtime.node.vlans.values():
            for peer in vlan.introductions.peers.values():
                if text == format_peer_id(peer.member):
                    return vlan.index, peer.mac
        if text.count(":") == 5:
            mac = parse_mac(text)
            for vlan in self._runtime.node.vlans.values():
                if mac in vlan.member_macs():
                    return vlan.index, mac
            raise DeviceError(f"no known member has the MAC {text}", hint="peertap status lists the members")
        found = self._runtime.ports.neighbour(text)
        there = self._runtime.node.vlans.get(found[0]) if found is not None else None
        if found is not None and there is not None and found[1] in there.member_macs():
            return found
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
            self._runtime.data_plane.engine.trace(duration_s, wanted)
            with trio.move_on_after(duration_s):
                async for at_s, vlan, step, text in receiver:
                    yield {"at_s": at_s, "vlan": vlan, "step": step, "text": text}
        finally:
            self._tracers.discard(sender)

    def traced(self, line: tuple[object, ...]) -> None:
        """A line of a trace."""
        for tracer in self._tracers:
            try:
                tracer.send_nowait(line)
            except trio.WouldBlock:
                pass

    def ponged(self, number: int, rtt_s: float | None) -> None:
        """A ping came back."""
        if number in self._pings:
            self._pings[number].send_nowait(rtt_s)
