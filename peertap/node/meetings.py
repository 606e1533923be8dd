"""The introductions of all VLANs of this node: who hears what, by which hop, and who met whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from peertap.mesh.routes import RouteTable
from peertap.node.actions import Action, Log, Met, Reclaim, Renumber, SendIntro
from peertap.node.barrier import Barrier
from peertap.node.compile import Compiler
from peertap.node.events import IntroReceived, KeySpent, UnknownKidSeen
from peertap.node.vlan import LocalVlan
from peertap.types import Mac, PeerId, Token, VlanIndex
from peertap.vlan import introductions

MAX_UNSENT: Final = 64  # ours: members to which introductions wait for a label
MAX_FRAGMENTS: Final = 16  # ours: of them for each; a Hello has two
UNSENT_S: Final = 1.0  # ours: a label is confirmed long before; a challenge is good for 10 s (SPEC 5.1)
MEMBER_GONE_S: Final = 300.0  # ours: a member without a route for so long is forgotten, as a MAC ages


class State(Protocol):
    """What meetings depend on."""

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    @property
    def routes(self) -> RouteTable: ...

    @property
    def now(self) -> float: ...


class Meetings:
    """Sends introductions, and says who met whom."""

    def __init__(self, state: State, compiler: Compiler, barrier: Barrier, say: Callable[[Action], None]) -> None:
        self.gone_since: Final[dict[tuple[VlanIndex, PeerId], float]] = {}
        self._state = state
        self._compiler = compiler
        self._unsent: dict[tuple[VlanIndex, Token], tuple[deque[introductions.SendIntro], float]] = {}  # until
        self._barrier = barrier
        self._say = say

    def introduced(self, event: IntroReceived, now: float) -> None:
        """An INTRO came in."""
        vlan = self._state.vlans.get(event.vlan)
        if vlan is None:
            return
        before = {peer.member: (peer.sid, peer.pair_send) for peer in vlan.introductions.peers.values()}
        self._send(vlan, vlan.introductions.received_untrusted(event.token, event.nonce, event.sealed, now))
        if vlan.introductions.must_renumber:
            self._barrier.defer(Renumber(vlan.index))
        elif vlan.introductions.must_reclaim:
            self._barrier.defer(Reclaim(vlan.index))
        vlan.introductions.must_renumber = vlan.introductions.must_reclaim = False
        for peer in vlan.introductions.peers.values():
            if peer.member not in before:
                self._say(Log("info", "member known", {"vlan": vlan.source.label, "member": peer.member}))
            if peer.pair_send is not None and before.get(peer.member) != (peer.sid, peer.pair_send):
                self._barrier.defer(Met(vlan.index, peer.member))

    def unknown_kid(self, event: UnknownKidSeen, now: float) -> None:
        vlan = self._state.vlans.get(event.vlan)
        if vlan is not None:
            self._send(vlan, vlan.introductions.unknown_kid(event.kid, now))

    def key_spent(self, event: KeySpent, now: float) -> None:
        vlan = self._state.vlans.get(event.vlan)
        if vlan is not None:
            self._send(vlan, vlan.introductions.generation_spent(event.kid, now))

    def tick(self, now: float) -> None:
        for vlan in self._state.vlans.values():
            self._send(vlan, vlan.introductions.tick(now))

    def greet(self, vlan: LocalVlan, now: float) -> None:
        """New ways to members: say Hello there."""
        macs = vlan.introductions.macs()
        says_hello = False
        for names in vlan.names:
            edges = self._compiler.group_edges(names)
            says_hello |= bool(edges - names.group_edges)
            names.group_edges = edges
            reachable = {mac for mac in macs if self._compiler.hop(names.key_of(mac)) is not None}
            fresh, names.reachable = reachable - names.reachable, reachable
            for mac in fresh:
                vlan.introductions.ask_now(mac, now)
                self._reached(vlan, mac)
        for name, (intros, until) in list(self._unsent.items()):
            if until <= now or name[0] == vlan.index:
                del self._unsent[name]
            if now < until and name[0] == vlan.index:
                self._send(vlan, intros, until)
        if says_hello:
            self._send(vlan, vlan.introductions.edge_up(now))

    def forget_gone(self, now: float) -> None:
        """Members that nobody announced for long."""
        for vlan in self._state.vlans.values():
            for peer in list(vlan.introductions.peers.values()):
                key = (vlan.index, peer.member)
                if any(self._state.routes.selected(names.key_of(peer.mac)) is not None for names in vlan.names):
                    self.gone_since.pop(key, None)
                elif self.gone_since.setdefault(key, now) + MEMBER_GONE_S < now:
                    del self.gone_since[key]
                    vlan.introductions.forget(peer.member)
            macs = set(vlan.introductions.macs())
            for names in vlan.names:
                names.keep(macs)

    def _reached(self, vlan: LocalVlan, mac: Mac) -> None:
        for peer in vlan.introductions.peers.values():
            if peer.mac == mac and peer.pair_send is not None:
                self._barrier.defer(Met(vlan.index, peer.member))

    def _send(self, vlan: LocalVlan, intros: Iterable[introductions.SendIntro], until: float | None = None) -> None:
        """Sends them; what goes to a member whose label is not confirmed yet waits for that a moment."""
        for intro in intros:
            if intro.mac is None:
                hops = self._compiler.group_hops(vlan, intro.token)
            else:
                hop = self._compiler.hop((vlan.towards(intro.mac).vtag, intro.token))
                hops = () if hop is None else (hop,)
            if not hops:
                if intro.mac is not None:
                    self._keep(vlan, intro, until or self._state.now + UNSENT_S)
                continue
            action = SendIntro(hops, intro.nonce, intro.sealed)
            if intro.after_applied:
                self._barrier.defer(action)
            else:
                self._say(action)

    def _keep(self, vlan: LocalVlan, intro: introductions.SendIntro, until: float) -> None:
        """In their order: what comes later builds on what was said before."""
        name = vlan.index, intro.token
        waiting = self._unsent.get(name)
        if waiting is not None:
            waiting[0].append(intro)
        elif len(self._unsent) < MAX_UNSENT:
            self._unsent[name] = deque((intro,), MAX_FRAGMENTS), until
