"""Pings of the operator that are under way, and what members ask of us."""

from collections.abc import Callable
from typing import Final, Protocol

from peertap.node.actions import Action, ReportPing, Send, SendControl
from peertap.node.events import ControlReceived, PingAsked
from peertap.node.vlan import LocalVlan
from peertap.types import VlanIndex
from peertap.wire.control import Ping
from peertap.wire.echo import Echo

MAX_PINGS: Final = 256  # ours: the oldest goes


class State(Protocol):
    """What pings depend on."""

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...


class Pings:
    """Numbers of pings on the wire, random so that nobody can answer for another."""

    def __init__(self, state: State, random: Callable[[int], bytes], say: Callable[[Action], None]) -> None:
        self._state = state
        self._random = random
        self._say = say
        self._sent: dict[int, tuple[int, float]] = {}

    def ask(self, event: PingAsked, now: float) -> None:
        """The operator pings a neighbour, or a member under the pair key."""
        if isinstance(event.target, int):
            self._say(Send(event.target, Ping(self._start(event.id, now))))
            return
        vlan = self._state.vlans[event.target[0]]
        peers = vlan.introductions.peers.values()
        peer = next((one for one in peers if one.mac == event.target[1] and one.pair_send is not None), None)
        if peer is None:
            self._say(ReportPing(event.id, None))
            return
        request = Echo(False, self._start(event.id, now))
        self._say(SendControl(vlan.index, peer.id, request.emit()))

    def echoed(self, event: ControlReceived, echo: Echo, now: float) -> None:
        """A member asks or answers."""
        if echo.reply:
            self.answered(echo.id, now)
        else:
            self._say(SendControl(event.vlan, event.member, Echo(True, echo.id).emit()))

    def answered(self, number: int, now: float) -> None:
        """An answer came."""
        found = self._sent.pop(number, None)
        if found is not None:
            self._say(ReportPing(found[0], now - found[1]))

    def _start(self, ping: int, now: float) -> int:
        """A ping begins; returns its number on the wire."""
        while len(self._sent) >= MAX_PINGS:
            del self._sent[next(iter(self._sent))]
        number = int.from_bytes(self._random(8), "big")
        self._sent[number] = (ping, now)
        return number
