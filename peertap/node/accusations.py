"""Who broke the rules of a VLAN, by name, for the log and `status`: not more often than somebody reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from peertap.node.actions import Action, Log
from peertap.node.events import ForgerySeen, SpoofSeen, StormSeen
from peertap.node.trunk import Trunk
from peertap.node.vlan import LocalVlan
from peertap.types import Mac, TrunkId, VlanIndex, format_mac

GAP_S: Final = 10.0  # ours: the same again is said so often
MAX_SAID: Final = 1024  # ours
WHAT: Final = {"mac": "speaks with another's MAC", "address": "claims another's IP address"}


class State(Protocol):
    """What names come from."""

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...


class Accusations:
    """Says each once in a while."""

    def __init__(self, state: State, say: Callable[[Action], None]) -> None:
        self._state = state
        self._say = say
        self._said: dict[tuple[object, ...], float] = {}

    def spoofed(self, event: SpoofSeen, now: float) -> None:
        """A member spoke as another one; its frame was dropped."""
        vlan = self._state.vlans.get(event.vlan)
        peer = vlan.introductions.peer_of(event.member) if vlan is not None else None
        if vlan is not None and peer is not None and self._is_due((event.vlan, event.member, event.what), now):
            what = WHAT.get(event.what, event.what)
            fields: dict[str, object] = {"vlan": vlan.source.label, "member": peer.member, "what": what}
            self._say(Log("warning", "member spoofs", fields))

    def forged(self, event: ForgerySeen, now: float) -> None:
        """A frame in a member's name that it did not sign; it was dropped. Only the way by which it came is certain."""
        vlan, trunk = self._state.vlans.get(event.vlan), self._state.trunks.get(event.trunk)
        if vlan is None or not self._is_due((event.vlan, event.kid, event.trunk), now):
            return
        peers = vlan.introductions.peers.values()
        victim = next((one for one in peers if event.kid in {key.kid for key in one.group_receive.values()}), None)
        fields: dict[str, object] = {
            "vlan": vlan.source.label,
            "in_the_name_of": victim.member if victim is not None else None,
            "came_by": trunk.peer if trunk is not None else None,
        }
        self._say(Log("warning", "forged group frame", fields))

    def storms(self, event: StormSeen, now: float) -> None:
        """A member, or who is behind our own port (None), floods; what was too much was dropped."""
        vlan = self._state.vlans.get(event.vlan)
        if vlan is None or not self._is_due((event.vlan, event.member, event.kind), now):
            return
        fields: dict[str, object] = {"vlan": vlan.source.label, "of": event.kind}
        peer = vlan.introductions.peer_of(event.member) if event.member is not None else None
        if peer is not None:
            fields["member"] = peer.member
        self._say(Log("warning", "member floods" if peer is not None else "port floods", fields))

    def misleads(self, trunk: Trunk, refused: dict[str, int], now: float) -> None:
        """A neighbour announces what is not signed, or more than there is room for; nothing of that was taken."""
        self._grew(trunk, "routes refused", sum(refused.values()), now, why=refused)

    def differs(self, trunk: Trunk, count: int, now: float) -> None:
        """What a neighbour says that it told us is not what we heard, though we asked again: that was forgotten."""
        self._grew(trunk, "routes differ", count, now)

    def floods(self, trunk: Trunk, count: int, now: float) -> None:
        """A neighbour tells more routes than it may: what it says next waits."""
        self._grew(trunk, "neighbour floods", count, now)

    def bridges(self, vlan: VlanIndex, number: int, now: float) -> None:
        """A member tells of hosts behind it, and may have none."""
        self._member(vlan, number, "bridges without leave", {}, now)

    def overdoes(self, vlan: VlanIndex, number: int, mac: Mac, now: float) -> None:
        """A member claims a host with a counter that nobody comes to honestly."""
        self._member(vlan, number, "claims a host out of turn", {"host": format_mac(mac)}, now)

    def _grew(self, trunk: Trunk, event: str, count: int, now: float, **more: object) -> None:
        """A neighbour is to blame for more than the log has, which says how much that is by now."""
        if count > trunk.named[event] and self._is_due((trunk.id, event), now):
            trunk.named[event] = count
            self._say(Log("warning", event, {"peer": trunk.peer, "count": count, **more}))

    def _member(self, index: VlanIndex, number: int, what: str, more: dict[str, object], now: float) -> None:
        vlan = self._state.vlans.get(index)
        peer = vlan.introductions.peer_of(number) if vlan is not None else None
        if vlan is not None and peer is not None and self._is_due((index, number, what), now):
            fields: dict[str, object] = {"vlan": vlan.source.label, "member": peer.member, "what": what}
            self._say(Log("warning", "member breaks a rule", {**fields, **more}))

    def _is_due(self, name: tuple[object, ...], now: float) -> bool:
        if now < self._said.get(name, float("-inf")) + GAP_S:
            return False
        self._said.pop(name, None)
        self._said[name] = now
        while len(self._said) > MAX_SAID:
            del self._said[next(iter(self._said))]
        return True
