"""The data plane's handle: tables in, events out (DATAPATH, "The engine's contract with Python")."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from peertap import _core
from peertap.errors import StateError
from peertap.node.events import (
    ControlReceived,
    Event,
    ForgerySeen,
    GroupControlReceived,
    HostGone,
    HostSeen,
    HostsListed,
    IntroReceived,
    KeySpent,
    LoopProbeHeard,
    MulticastHeard,
    PathFound,
    PathLost,
    SourceSeen,
    SpoofSeen,
    StormSeen,
    TablesApplied,
    Traffic,
    TrafficSeen,
    UnknownKidSeen,
)
from peertap.node.tables import Passage, TableSet
from peertap.types import Mac, TrunkId, VlanIndex
from peertap.wire.macs import Host

RESYNC_GAP_S: Final = 1.0  # ours: a neighbour can make events overflow, a snapshot is dear
TRAFFIC_GAP_S: Final = 0.5  # ours: a way that swallows frames is noticed that much later
EVENTS_PER_TURN: Final = 32  # ours: then others get their turn


class DataPlane:
    """Owns the engine; turns its events into the node's."""

    def __init__(
        self,
        udp_port: int,
        post: Callable[[Event], None],
        batch_ready: Callable[[TrunkId], None],
        traced: Callable[[tuple[object, ...]], None],
        offload_refused: Callable[[TrunkId, str], None],
        without: Sequence[str] = (),
    ) -> None:
        self.engine: Final = _core.Engine(udp_port=udp_port, without=list(without))
        self.ports: dict[VlanIndex, list[int]] = {}
        self._post = post
        self._batch_ready = batch_ready
        self._traced = traced
        self._offload_refused = offload_refused
        self._resynced_at = float("-inf")
        self._resync_due = False
        self._versions: dict[int, int] = {}
        self._kinds: dict[str, Callable[..., Event | None]] = {
            "applied": self._applied,
            "intro": lambda vlan, _trunk, token, nonce, sealed: IntroReceived(VlanIndex(vlan), token, nonce, sealed),
            "unknown_kid": lambda vlan, kid, _trunk: UnknownKidSeen(VlanIndex(vlan), kid),
            "control": lambda vlan, member, message: ControlReceived(VlanIndex(vlan), member, message),
            "spoofed": lambda vlan, member, what: SpoofSeen(VlanIndex(vlan), member, what),
            "forged": lambda vlan, kid, trunk: ForgerySeen(VlanIndex(vlan), kid, TrunkId(trunk)),
            "mac_seen": lambda vlan, mac, vid: HostSeen(VlanIndex(vlan), Host(Mac(mac), vid)),
            "mac_gone": lambda vlan, mac, vid: HostGone(VlanIndex(vlan), Host(Mac(mac), vid)),
            "probed": lambda vlan, handle, run, number, forwards, own: LoopProbeHeard(
                VlanIndex(vlan), handle, run, number, forwards, own
            ),
            "storm": lambda vlan, member, kind: StormSeen(VlanIndex(vlan), member, kind),
            "group_control": lambda vlan, member, message: GroupControlReceived(VlanIndex(vlan), member, message),
            "multicast": lambda vlan, member, frame: MulticastHeard(VlanIndex(vlan), member is None, frame),
            "generation": lambda vlan, kid: KeySpent(VlanIndex(vlan), kid),
            "path": lambda trunk, address, rtt_s: PathFound(TrunkId(trunk), address, rtt_s),
            "source": lambda trunk, address: SourceSeen(TrunkId(trunk), address),
            "path_down": lambda trunk: PathLost(TrunkId(trunk)),
        }

    def apply(self, version: int, tables: TableSet) -> None:
        """Publishes the tables; TablesApplied(version) follows."""
        generation = self.engine.apply(_core_tables(tables, self.ports))
        self._versions[generation] = version

    def place(self, vlan: VlanIndex, places: Sequence[tuple[Host, int | None]]) -> None:
        """Says where hosts are."""
        self.engine.place_macs(vlan, [((host.mac, host.vid), member) for host, member in places])

    def forget(self, vlan: VlanIndex, hosts: Sequence[Host], *, refused: bool) -> None:
        """Hosts are not at our port."""
        self.engine.forget_local_macs(vlan, [(host.mac, host.vid) for host in hosts], refused)

    async def run(self) -> None:
        """Passes the engine's events on, until cancelled.

        Raises: StateError when one of its loops panicked.
        """
        while True:
            with trio.move_on_after(RESYNC_GAP_S if self._resync_due else math.inf):
                await trio.lowlevel.wait_readable(self.engine.event_fd)
            if self._resync_due:
                self._resync()
            for number, (kind, *subject) in enumerate(self.engine.events(), start=1):
                self._take(str(kind), subject)
                if number % EVENTS_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()

    async def watch_traffic(self, is_wanted: Callable[[], bool]) -> None:
        """Tells to which members frames go, while somebody wants to know, until cancelled."""
        while True:
            await trio.sleep(TRAFFIC_GAP_S)
            seen = self.engine.traffic() if is_wanted() else []
            if seen:
                self._post(TrafficSeen(tuple(Traffic(VlanIndex(one[0]), one[1], one[3] > 0) for one in seen)))

    def _take(self, kind: str, subject: list[Any]) -> None:
        if kind == "stream":
            self._batch_ready(TrunkId(subject[0]))
        elif kind == "trace":
            self._traced(tuple(subject))
        elif kind == "offload":
            self._offload_refused(TrunkId(subject[0]), subject[1])
        elif kind == "panic":
            raise StateError(f"the data plane stopped: {subject[0]}")
        elif kind == "resync":
            self._resync()
        elif kind in self._kinds:
            event = self._kinds[kind](*subject)
            if event is not None:
                self._post(event)

    def _resync(self) -> None:
        """Events were lost: what they said is read from the snapshot, at most once a second."""
        if trio.current_time() < self._resynced_at + RESYNC_GAP_S:
            self._resync_due = True
            return
        self._resynced_at, self._resync_due = trio.current_time(), False
        snapshot: dict[str, Any] = self.engine.snapshot()
        applied = self._applied(snapshot["generation"])
        if applied is not None:
            self._post(applied)
        for vlan, counters in snapshot["vlans"].items():
            hosts = tuple(Host(Mac(mac), vid) for mac, vid, _ in counters["local_macs"])
            self._post(HostsListed(VlanIndex(vlan), hosts))
        for trunk, counters in snapshot["trunks"].items():
            self._batch_ready(TrunkId(trunk))
            if counters["udp_down"]:
                self._post(PathLost(TrunkId(trunk)))

    def _applied(self, generation: int) -> TablesApplied | None:
        done = [one for one in self._versions if one <= generation]
        if not done:
            return None
        version = self._versions[max(done)]
        for one in done:
            del self._versions[one]
        return TablesApplied(version)


def _passage(passage: Passage) -> _core.Passage:
    probing = passage.probing
    found = None if probing is None else (list(probing.keys), probing.handle, probing.run, probing.gap_s)
    return _core.Passage(
        forwards=passage.forwards,
        probing=found,
        answers=passage.answers,
        bpdus=passage.bpdus,
        limits=passage.limits,
    )


def _core_tables(tables: TableSet, ports: dict[VlanIndex, list[int]]) -> _core.Tables:
    """The same tables as the data plane's own types."""
    trunks = [
        _core.Trunk(
            one.id,
            carrier=one.carrier,  # type: ignore[arg-type]
            remote=one.remote,
            send_udp=one.send_udp,
            send_stream=one.send_stream,
            receive=list(one.receive),
            max_payload=one.max_payload,
            in_doubt=one.in_doubt,
        )
        for one in tables.trunks
    ]
    vlans = [
        _core.Vlan(
            one.id,
            keys=one.keys,
            mac=one.mac,
            token=one.token,
            group_token=one.group_token,
            ports=ports.get(one.id, []),
            bridge=one.bridge,
            group_send=one.group_send,
            group_edges=list(one.group_edges),
            passage=_passage(one.passage),
            group_keys=one.listening.keys,
            groups=[(token, list(hops)) for token, hops in one.listening.groups],
            rest=list(one.listening.rest),
            has_router=one.listening.has_router,
            members=[
                _core.Member(
                    member.id,
                    mac=member.mac,
                    token=member.token,
                    hop=member.hop,
                    backup=member.backup,
                    spread=list(member.spread),
                    duplicate=member.duplicate,
                    max_payload=member.max_payload,
                    pair_send=member.pair_send,
                    pair_receive=list(member.pair_receive),
                    group_receive=list(member.group_receive),
                    bridge=member.bridge,
                )
                for member in one.members
            ],
        )
        for one in tables.vlans
    ]
    labels = [
        _core.Label(
            one.trunk,
            one.label,
            token=one.token,
            group=one.group,
            deliver=one.deliver,
            out=list(one.out),
            backup=one.backup,
            carried=one.carried,
        )
        for one in tables.labels
    ]
    classes = [_core.Class(one.number, limited=one.limited) for one in tables.classes]
    limits = (tables.limits.all, tables.limits.per_trunk, tables.limits.per_vlan)
    return _core.Tables(trunks=trunks, vlans=vlans, labels=labels, classes=classes, limits=limits)
