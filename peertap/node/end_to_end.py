"""Notices next hops that swallow frames to a member though they are alive, and lets frames go by others (SPEC 7.1).

the data plane: frames were sent ─▶ probes by each way ─▶ answers, or none ─▶ routes: this next hop is the last
"""

from collections.abc import Callable
from typing import Final, Protocol

from peertap.mesh.allowance import Allowance
from peertap.mesh.audience import Key
from peertap.mesh.fabric import Fabric
from peertap.node.actions import Action, Log, SendControl
from peertap.node.compile import Compiler
from peertap.node.events import ControlReceived, Traffic, TrafficSeen
from peertap.node.tables import Hop
from peertap.node.trunk import Trunk
from peertap.node.vlan import LocalVlan
from peertap.node.way_probes import NEVER, WayProbes
from peertap.types import PeerId, TrunkId, VlanIndex
from peertap.vlan.peer import Peer
from peertap.wire.echo import Echo

MAX_PROBED: Final = 64  # ours: members that are probed at a time; the one that was longest without frames goes
IDLE_S: Final = 900.0  # ours: so long after the last frame a member, and what is known of its ways, is forgotten
MAX_ASKERS: Final = 1024  # ours: members that probe us and are counted; the oldest goes
MAX_ANSWERS: Final = 32  # ours: probes of a member that are answered at once
ANSWERS_PER_S: Final = 16.0  # ours: and over time: five ways, asked each 0.3 s

Name = tuple[VlanIndex, PeerId]


class State(Protocol):
    """What ways depend on."""

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    @property
    def fabric(self) -> Fabric: ...


class EndToEnd:
    """The members that frames go to, and what is known of each way to them."""

    def __init__(
        self, state: State, compiler: Compiler, random: Callable[[int], bytes], say: Callable[[Action], None]
    ) -> None:
        self._state = state
        self._compiler = compiler
        self._random = random
        self._say = say
        self._probed: dict[Name, WayProbes] = {}  # the one that was longest without frames first
        self._askers: dict[tuple[VlanIndex, int], Allowance] = {}

    def traffic(self, event: TrafficSeen, now: float) -> None:
        """Frames were sent."""
        for one in event.members:
            self._sent(one, now)
        for name in [name for name, one in self._probed.items() if one.active_at + IDLE_S < now]:
            del self._probed[name]
        while len(self._probed) > MAX_PROBED:
            del self._probed[next(iter(self._probed))]
        self.tick(now)

    def echoed_untrusted(self, event: ControlReceived, echo: Echo, now: float) -> None:
        """A member probes a way to us, or answers. The answer goes by every way: the one that we take may be broken."""
        vlan = self._state.vlans[event.vlan]
        peer = vlan.introductions.peer_of(event.member)
        if peer is None:
            return
        if echo.reply:
            probes = self._probed.get((vlan.index, peer.member))
            if probes is not None and probes.answered(echo.id, now):
                self._follow(vlan, peer, probes, now)
            return
        asker = vlan.index, event.member
        allowance = self._askers.pop(asker, None) or Allowance(MAX_ANSWERS, ANSWERS_PER_S, now)
        self._askers[asker] = allowance
        while len(self._askers) > MAX_ASKERS:
            del self._askers[next(iter(self._askers))]
        if allowance.take(now):
            ways = self._compiler.ways(vlan, vlan.towards(peer.mac).key_of(peer.mac))
            for hop in (*ways.used, *ways.others):
                self._say(SendControl(vlan.index, peer.id, Echo(True, echo.id, of_way=True).emit(), hop))

    def tick(self, now: float) -> None:
        """Sends what is due, and puts demoted next hops last."""
        for (index, member), probes in list(self._probed.items()):
            vlan = self._state.vlans.get(index)
            peer = vlan.introductions.peers.get(member) if vlan is not None else None
            if vlan is None or peer is None:
                del self._probed[index, member]
                continue
            if probes.next_deadline(now) > now:
                continue
            hops = self._hops(vlan, peer, probes)
            for way, number in probes.tick(now, lambda: int.from_bytes(self._random(8), "big")):
                if way in hops and peer.pair_send is not None:
                    self._say(SendControl(index, peer.id, Echo(False, number, of_way=True).emit(), hops[way]))
            self._follow(vlan, peer, probes, now)
        self._forget_demoted(now)

    def next_deadline(self, now: float) -> float:
        """When `tick` has something to do."""
        return min((one.next_deadline(now) for one in self._probed.values()), default=NEVER)

    def swallows(self, index: VlanIndex, member: PeerId, now: float) -> list[tuple[PeerId, float]]:
        """The next hops that swallow frames to a member, and after how many seconds each is tried again."""
        probes = self._probed.get((index, member))
        return [] if probes is None else [(one, probes.tried_in(one, now)) for one in sorted(probes.demoted)]

    # Inside

    def _sent(self, one: Traffic, now: float) -> None:
        vlan = self._state.vlans.get(one.vlan)
        peer = vlan.introductions.peer_of(one.member) if vlan is not None else None
        if vlan is None or peer is None:
            return
        probes = self._probed.pop((vlan.index, peer.member), None)
        if probes is None:
            ways = self._compiler.ways(vlan, vlan.towards(peer.mac).key_of(peer.mac))
            if len(ways.used) + len(ways.others) < 2:
                return  # nothing to choose from, and nothing to compare with
            probes = WayProbes(now)
        self._probed[vlan.index, peer.member] = probes
        self._hops(vlan, peer, probes)
        probes.traffic(now, heard=one.heard)
        self._follow(vlan, peer, probes, now)  # a neighbour that came back has another trunk

    def _hops(self, vlan: LocalVlan, peer: Peer, probes: WayProbes) -> dict[PeerId, Hop]:
        """By which hop each way begins; trunks that are known to be down are none."""
        ways = self._compiler.ways(vlan, vlan.towards(peer.mac).key_of(peer.mac))
        trunks = self._state.trunks

        def peers(hops: tuple[Hop, ...]) -> dict[PeerId, Hop]:
            return {trunks[hop[0]].peer: hop for hop in hops if not trunks[hop[0]].is_silent}

        used, others = peers(ways.used), peers(ways.others)
        probes.ways_are(tuple(used), tuple(others))
        return others | used

    def _follow(self, vlan: LocalVlan, peer: Peer, probes: WayProbes, now: float) -> None:
        """Routes know what the probes found; whoever reads the log too."""
        trunks, demoted = self._state.trunks, probes.demoted
        shunned = frozenset(one.id for one in trunks.values() if one.peer in demoted)
        for names in vlan.names:
            self._demote(names.key_of(peer.mac), shunned, now)
        for change in probes.changes:
            hop = self._compiler.own_hop(vlan.towards(peer.mac).key_of(peer.mac))
            by = trunks[hop[0]].peer if hop is not None else None
            said: dict[str, object] = {"peer": change.peer, "vlan": vlan.source.label, "member": peer.member}
            said["going_by"] = by
            if change.demoted:
                self._say(Log("warning", "relay swallows frames to a member: they go by another", said))
            else:
                self._say(Log("info", "relay brings frames to a member again", said))
        probes.changes.clear()

    def _demote(self, key: Key, shunned: frozenset[TrunkId], now: float) -> None:
        if self._state.fabric.routes.demoted.get(key, frozenset()) != shunned:
            self._state.fabric.demote(key, shunned, now)

    def _forget_demoted(self, now: float) -> None:
        """What is demoted of members that are not probed any more is demoted no longer."""
        routes = self._state.fabric.routes
        if not routes.demoted:
            return
        known = {
            names.key_of(peer.mac)
            for (index, member) in self._probed
            if (vlan := self._state.vlans.get(index)) is not None
            and (peer := vlan.introductions.peers.get(member)) is not None
            for names in vlan.names
        }
        for key in [key for key in routes.demoted if key not in known]:
            self._demote(key, frozenset(), now)
