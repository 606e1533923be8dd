"""Member control that came under a pair key, to the part of the node that it is for (SPEC 5.4)."""

from typing import Protocol

from peertap.node.bridges import Bridges
from peertap.node.end_to_end import EndToEnd
from peertap.node.events import ControlReceived
from peertap.node.groups import Groups
from peertap.node.pings import Pings
from peertap.node.vlan import LocalVlan
from peertap.types import VlanIndex
from peertap.wire import echo


class State(Protocol):
    """Whose members may speak."""

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...


class MemberControl:
    """An echo, about hosts, or a letter."""

    def __init__(self, state: State, pings: Pings, end_to_end: EndToEnd, bridges: Bridges, groups: Groups) -> None:
        self._state = state
        self._end_to_end = end_to_end
        self._pings = pings
        self._bridges = bridges
        self._groups = groups

    def received_untrusted(self, event: ControlReceived, now: float) -> None:
        """One message; of somebody who is no member any more it is nothing."""
        vlan = self._state.vlans.get(event.vlan)
        peer = vlan.introductions.peer_of(event.member) if vlan is not None else None
        if peer is None:
            return
        asked = echo.parse_untrusted(event.message)
        if asked is not None and asked.of_way:
            self._end_to_end.echoed_untrusted(event, asked, now)
        elif asked is not None:
            self._pings.echoed(event, asked, now)
        elif not self._bridges.control_untrusted(event.vlan, event.member, event.message, now):
            self._groups.received_untrusted(event.vlan, peer.member, event.message, now)
