"""The bridging side of this node's VLANs: hosts and behind whom they are, loops on their LANs, storms (SPEC 14)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import blake3

from peertap.errors import DecodeError
from peertap.node.accusations import Accusations
from peertap.node.actions import Action, ForgetHosts, Log, PlaceHosts, SendControl, SendGroupControl
from peertap.node.events import (
    BridgeEvent,
    GroupControlReceived,
    HostGone,
    HostSeen,
    HostsListed,
    LoopProbeHeard,
    PortAttached,
    StormSeen,
)
from peertap.node.tables import Passage, Probing
from peertap.node.vlan import LocalVlan
from peertap.types import Mac, PeerId, Sid, VlanId, VlanIndex, format_mac
from peertap.vlan.hosts import HostTable, Outcome
from peertap.vlan.loops import LoopGuard, Standing
from peertap.vlan.telling import Listener, Teller
from peertap.wire import macs
from peertap.wire.macs import Add, Ask, Host, Hosts, Withdraw

HANDLE_BYTES: Final = 8
TIDY_S: Final = 30.0  # ours: how often what is long past is forgotten
CAUSES: Final = {
    Standing.LISTENING: "listens whether another member forwards for this LAN",
    Standing.WAITING: "another member forwards for this LAN and is about to stop",
    Standing.FORWARDING: None,
    Standing.BLOCKED: "another member forwards for this LAN",
    Standing.OFF: "its own loop probe came back: the LAN leads to this port in two ways",
}


@dataclass(frozen=True, slots=True)
class SwitchSettings:
    """How this node's ports switch.

    Args:
        limits: broadcasts, multicasts and frames to unknown MACs a second, per port and per member; 0: no limit.
        answer_above: questions for addresses are answered here in VLANs with more members.
        bpdus: labels of the VLANs that carry frames that bridges keep to themselves.
    """

    limits: tuple[int, int, int] = (250, 100_000, 10_000)
    answer_above: int = 64  # PROTOCOL 7
    bpdus: frozenset[str] = frozenset()


class State(Protocol):
    """What bridging depends on."""

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...


def handle_of(vlan_id: VlanId, member: PeerId) -> bytes:
    """Who a member is on a LAN: the same in each run, nothing to those who do not know the VLAN-ID (SPEC 14.2)."""
    return blake3.blake3(b"PeerTap/1 handle" + vlan_id + member).digest(HANDLE_BYTES)


@dataclass(slots=True)
class _Member:
    """What is known of another member that may bridge."""

    number: int
    sid: Sid
    listener: Listener = field(default_factory=Listener)


class _Bridge:
    """One VLAN."""

    def __init__(self, vlan: LocalVlan) -> None:
        me = vlan.introductions.me
        self.hosts: Final = HostTable(me, self._is_virtual)
        self.teller: Final = Teller()
        self.members: dict[PeerId, _Member] = {}
        self.guard: LoopGuard | None = None  # where our port is bridged
        self.virtual: set[Mac] = {vlan.mac}

    def _is_virtual(self, mac: Mac) -> bool:
        return mac in self.virtual


class Bridges:
    """All VLANs; `changed` says that tables have to follow."""

    def __init__(
        self,
        state: State,
        settings: SwitchSettings,
        random: Callable[[int], bytes],
        accuse: Accusations,
        say: Callable[[Action], None],
        now: float,
    ) -> None:
        self.settings: Final = settings
        self.changed = False
        self._state = state
        self._random = random
        self._accuse = accuse
        self._say = say
        self._all: dict[VlanIndex, _Bridge] = {}
        self._tidy_at = now + TIDY_S

    # What others ask

    def passage(self, vlan: LocalVlan) -> Passage:
        """What passes a VLAN's port, for the tables."""
        found = self._all.get(vlan.index)
        guard = found.guard if found is not None else None
        probing = None
        if guard is not None:
            keys = tuple(names.keys for names in vlan.names)
            probing = Probing(keys, *guard.own, gap_s=guard.gap_s)
        return Passage(
            forwards=guard is None or guard.forwards,
            probing=probing,
            answers=len(vlan.introductions.peers) + 1 > self.settings.answer_above,
            bpdus=vlan.source.label in self.settings.bpdus,
            limits=self.settings.limits,
        )

    def hosts(self, index: VlanIndex) -> HostTable | None:
        """Where a VLAN's hosts are, for `status`."""
        found = self._all.get(index)
        return found.hosts if found is not None else None

    def port(self, vlan: LocalVlan) -> tuple[str, str | None, PeerId | None]:
        """What a VLAN's port does, why, and who else forwards, for `status`."""
        found = self._all.get(vlan.index)
        guard = found.guard if found is not None else None
        if guard is None:
            return Standing.FORWARDING.value, None, None
        return guard.standing.value, CAUSES[guard.standing], _rival(vlan, guard)

    # What happens

    def follow(self, now: float) -> None:
        """Members came, left or may bridge no more; VLANs opened and closed; we may bridge or not."""
        vlans = self._state.vlans
        for index in [index for index in self._all if index not in vlans]:
            del self._all[index]
        for vlan in vlans.values():
            if vlan.is_inside:
                self._follow_vlan(vlan, self._all.setdefault(vlan.index, _Bridge(vlan)), now)

    def met(self, vlan: VlanIndex, member: PeerId, now: float) -> None:
        """Control can go to a member: what is behind it?"""
        found = self._all.get(vlan)
        known = found.members.get(member) if found is not None else None
        if found is not None and known is not None:
            known.listener.want(now)
            self._ask(vlan, found, now)

    def handle(self, event: BridgeEvent, now: float) -> None:
        """Takes one event."""
        match event:
            case PortAttached():
                self._attached(event, now)
            case HostSeen():
                self._seen(event, now)
            case HostGone():
                self._gone(event, now)
            case HostsListed():
                self._listed(event, now)
            case LoopProbeHeard():
                self._probed(event, now)
            case StormSeen():
                self._storm(event, now)
            case GroupControlReceived():
                self._told_untrusted(event, now)

    def _attached(self, event: PortAttached, now: float) -> None:
        """Another LAN may be behind our port: it listens first."""
        vlan, found = self._state.vlans.get(event.vlan), self._all.get(event.vlan)
        if vlan is not None and found is not None and found.guard is not None:
            before, found.guard = found.guard.standing, self._new_guard(vlan, now)
            self.changed = True
            self._stood(vlan, found, before, now)

    def _seen(self, event: HostSeen, now: float) -> None:
        """A host spoke at our port."""
        found = self._all.get(event.vlan)
        if found is not None and found.guard is not None and found.guard.forwards:
            self._follow_up(event.vlan, found, found.hosts.seen(event.host, now), now)

    def _gone(self, event: HostGone, now: float) -> None:
        """A host was silent for long."""
        found = self._all.get(event.vlan)
        if found is not None:
            self._follow_up(event.vlan, found, found.hosts.gone(event.host, now), now)

    def _listed(self, event: HostsListed, now: float) -> None:
        """Events were lost: these hosts are at our port."""
        found = self._all.get(event.vlan)
        if found is not None:
            is_open = found.guard is not None and found.guard.forwards
            outcome = found.hosts.only(event.hosts if is_open else (), now)
            self._follow_up(event.vlan, found, outcome, now)

    def _probed(self, event: LoopProbeHeard, now: float) -> None:
        """A loop probe came in at our port."""
        vlan, found = self._state.vlans.get(event.vlan), self._all.get(event.vlan)
        if vlan is None or found is None or found.guard is None:
            return
        guard, before = found.guard, found.guard.standing
        if event.is_own:
            guard.heard_own(now)
        else:
            guard.heard((event.handle, event.run), event.number, now, forwards=event.forwards)
        self._stood(vlan, found, before, now)

    def _storm(self, event: StormSeen, now: float) -> None:
        """Frames for all were too many; the data plane dropped them."""
        self._accuse.storms(event, now)

    def _told_untrusted(self, event: GroupControlReceived, now: float) -> None:
        """A member tells all of hosts."""
        found, member = self._sender(event.vlan, event.member)
        if found is None or member is None:
            return
        try:
            message = macs.parse_untrusted(event.message)
        except DecodeError:
            return
        known = found.members.get(member)
        if known is None:
            if isinstance(message, Add) and message.hosts:
                self._accuse.bridges(event.vlan, event.member, now)
            return
        if isinstance(message, Add | Withdraw) and known.listener.accept(message, now):
            if isinstance(message, Add):
                outcome = found.hosts.told(member, message.hosts, now)
            else:
                outcome = found.hosts.withdrawn(member, (one.host for one in message.hosts), now)
            self._judge(event.vlan, event.member, outcome, now)
            self._follow_up(event.vlan, found, outcome, now)
        self._ask(event.vlan, found, now)

    def control_untrusted(self, vlan: VlanIndex, number: int, data: bytes, now: float) -> bool:
        """A member asks what is behind us, or answers; False where it is something else."""
        try:
            message = macs.parse_untrusted(data)
        except DecodeError:
            return True
        if message is None:
            return False
        found, member = self._sender(vlan, number)
        if found is None or member is None:
            return True
        if isinstance(message, Ask):
            answer = found.teller.answer(number, found.hosts.own(), now)
            if answer is not None:
                self._say(SendControl(vlan, number, answer.emit()))
        known = found.members.get(member)
        if isinstance(message, Hosts) and known is not None and known.listener.accept_list(message):
            outcome = found.hosts.listed(member, message.hosts, now)
            self._judge(vlan, number, outcome, now)
            self._follow_up(vlan, found, outcome, now)
        return True

    # Time

    def next_deadline(self) -> float:
        dues: list[float | None] = [self._tidy_at]
        for found in self._all.values():
            dues += [found.teller.next_deadline(), found.hosts.next_deadline()]
            dues += [known.listener.next_deadline() for known in found.members.values()]
            if found.guard is not None:
                dues.append(found.guard.next_deadline())
        return min(due for due in dues if due is not None)

    def tick(self, now: float) -> None:
        is_tidying = self._tidy_at <= now
        if is_tidying:
            self._tidy_at = now + TIDY_S
        for index, found in self._all.items():
            vlan = self._state.vlans.get(index)
            if vlan is None:
                continue
            if found.guard is not None:
                before = found.guard.standing
                found.guard.tick(now)
                self._stood(vlan, found, before, now)
            due = found.hosts.next_deadline()
            if is_tidying or (due is not None and due <= now):
                self._follow_up(index, found, found.hosts.thaw(now), now)
            for beacon in found.teller.tick(now):
                self._say(SendGroupControl(index, beacon.emit()))
            self._ask(index, found, now)

    # Inside

    def _follow_vlan(self, vlan: LocalVlan, found: _Bridge, now: float) -> None:
        peers = vlan.introductions.peers
        may = {peer.member: (peer.id, peer.sid) for peer in peers.values() if vlan.may_bridge(peer.member)}
        for member, known in list(found.members.items()):
            if may.get(member) != (known.number, known.sid):
                del found.members[member]
                found.teller.forget(known.number)
                self._follow_up(vlan.index, found, found.hosts.left(member, now), now)
        for member, (number, sid) in may.items():
            if member not in found.members:
                found.members[member] = _Member(number, sid)
                if peers[member].pair_send is not None:
                    found.members[member].listener.want(now)
        virtual = {vlan.mac} | vlan.introductions.macs()
        for mac in virtual - found.virtual:
            self._follow_up(vlan.index, found, found.hosts.virtual(mac, now), now)
        found.virtual = virtual
        is_bridged = vlan.bridge and vlan.may_bridge(vlan.introductions.me)
        if is_bridged and found.guard is None:
            found.guard = self._new_guard(vlan, now)
            self.changed = True
        elif not is_bridged and found.guard is not None:
            found.guard = None
            self._follow_up(vlan.index, found, found.hosts.only((), now), now)
            self.changed = True

    def _new_guard(self, vlan: LocalVlan, now: float) -> LoopGuard:
        handle = handle_of(vlan.source.vlan_id, vlan.introductions.me)
        return LoopGuard(handle, self._random(HANDLE_BYTES), now)

    def _sender(self, vlan: VlanIndex, number: int) -> tuple[_Bridge | None, PeerId | None]:
        local = self._state.vlans.get(vlan)
        peer = local.introductions.peer_of(number) if local is not None else None
        return self._all.get(vlan), peer.member if peer is not None else None

    def _stood(self, vlan: LocalVlan, found: _Bridge, before: Standing, now: float) -> None:
        """The port's standing may have changed."""
        guard = found.guard
        if guard is None or guard.standing is before:
            return
        self.changed = True
        level = "warning" if guard.standing is Standing.OFF else "info"
        fields: dict[str, object] = {"vlan": vlan.source.label, "port": guard.standing.value}
        fields |= {"cause": CAUSES[guard.standing], "member": _rival(vlan, guard)}
        self._say(Log(level, "bridge port", {name: value for name, value in fields.items() if value is not None}))
        if not guard.forwards:
            self._follow_up(vlan.index, found, found.hosts.only((), now), now)

    def _judge(self, vlan: VlanIndex, number: int, outcome: Outcome, now: float) -> None:
        if outcome.overdone:
            self._accuse.overdoes(vlan, number, outcome.overdone[0].mac, now)

    def _ask(self, index: VlanIndex, found: _Bridge, now: float) -> None:
        for known in found.members.values():
            if known.listener.asks(now):
                self._say(SendControl(index, known.number, Ask().emit()))

    def _follow_up(self, index: VlanIndex, found: _Bridge, outcome: Outcome, now: float) -> None:
        """Tells the data plane and the others what follows."""
        places = tuple(
            (host, found.members[place].number if place in found.members else None)
            for host, place in outcome.placed.items()
        )
        if places:
            self._say(PlaceHosts(index, places))
        released = _without(outcome.release, outcome.refuse)
        if released:
            self._say(ForgetHosts(index, released, refused=False))
        if outcome.refuse:
            self._say(ForgetHosts(index, tuple(outcome.refuse), refused=True))
        for message in found.teller.tell(outcome.add, outcome.withdraw, now):
            self._say(SendGroupControl(index, message.emit()))
        for frozen in outcome.frozen:
            label = self._state.vlans[index].source.label
            fields: dict[str, object] = {"vlan": label, "host": format_mac(frozen.host.mac), "stays_at": frozen.at}
            for claimant in frozen.claimants:
                self._say(Log("warning", "host frozen: it moved too often", {**fields, "claimed_by": claimant}))


def _rival(vlan: LocalVlan, guard: LoopGuard) -> PeerId | None:
    """The member that keeps our port from forwarding, if it is known."""
    rival, peers = guard.rival, vlan.introductions.peers
    return next((one for one in peers if handle_of(vlan.source.vlan_id, one) == rival), None)


def _without(hosts: Iterable[Host], others: Iterable[Host]) -> tuple[Host, ...]:
    out = set(others)
    return tuple(one for one in dict.fromkeys(hosts) if one not in out)
