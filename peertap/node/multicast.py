"""Multicast of the VLANs of this node: who listens behind our ports, what we subscribe to, what routers are told.

IGMP, MLD from a port ─▶ Listeners ─▶ groups ─▶ subscriptions in the VLAN's trees (SPEC 13.1)
                                         └───▶ Reporter ─▶ reports to members with a router (SPEC 13.3)
a querier elsewhere ─▶ Listeners, Reporter        nobody asks ─▶ we ask, at our own ports (SPEC 13.2)
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Final, Protocol

from peertap.errors import DecodeError
from peertap.mesh.allowance import Allowance
from peertap.mesh.fabric import Fabric
from peertap.node.actions import Action, Log, SendFrame, WriteFrame
from peertap.node.events import MulticastHeard
from peertap.node.tables import TableSet
from peertap.node.vlan import LocalVlan, Names
from peertap.types import Mac, Token, VlanIndex, VTag
from peertap.vlan.listeners import Listeners
from peertap.vlan.names import KIND_GROUP
from peertap.vlan.reporter import Reporter
from peertap.wire import igmp, mld
from peertap.wire.multicast import Address, Query, Said, group_mac, payload_untrusted
from peertap.wire.routes import EVERY_GROUP, Origin, SignedSubscription

MAX_GROUPS: Final = 64  # PROTOCOL 7: a member's tokens; with more it wants every group
CROWDED: Final = 256  # ours: groups of others in a tree, half of what a node keeps, from which we want every group
CROWDED_S: Final = 300.0  # ours: and for so long, as the others' tokens go when all do so
CHANGES_AT_ONCE: Final = 4 * MAX_GROUPS  # ours: all groups of a member for others, and back
CHANGES_A_SECOND: Final = 16.0  # ours: each is a message by every edge of the tree
ASKER_BIT: Final = 4  # ours: in the first byte of a virtual MAC; makes one that no member has


class State(Protocol):
    """What it depends on."""

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    @property
    def fabric(self) -> Fabric: ...

    @property
    def now_unix(self) -> float: ...


@dataclass(slots=True)
class _Family:
    """One VLAN and IP version."""

    wire: ModuleType
    listeners: Listeners
    reporter: Reporter
    reported: tuple[int, bool] = (-1, False)  # up to which change of the listeners, and whether anybody heard it


@dataclass(slots=True)
class _Said:
    """What we subscribed to under one VTag."""

    changes: Allowance
    tokens: Set[Token] = frozenset()
    wish: tuple[int, ...] | None = None  # what it follows from
    due_at: float = float("inf")  # changes wait until then


class _Vlan:
    def __init__(self, vlan: LocalVlan, random: Callable[[int], bytes], now: float) -> None:
        alone = is_alone(vlan)
        self.families: Final = {
            igmp.ETHERTYPE: _Family(igmp, Listeners(igmp.NOBODY, one_host=alone, now=now), Reporter(3, random)),
            mld.ETHERTYPE: _Family(mld, Listeners(mld.NOBODY, one_host=alone, now=now), Reporter(2, random)),
        }
        self.crowded_until = float("-inf")

    def groups(self) -> set[Address]:
        return set().union(*(one.listeners.groups for one in self.families.values()))

    def has_router(self, now: float) -> bool:
        return any(one.listeners.has_router(now) for one in self.families.values())

    def wants_all(self, now: float) -> bool:
        """Every group is wanted, whatever hosts listen to."""
        full = any(one.listeners.wants_all(now) for one in self.families.values())
        return full or now < self.crowded_until or self.has_router(now)

    def macs(self, now: float) -> set[Mac] | None:
        """The group addresses that are wanted; None: all."""
        macs = {group_mac(group) for group in self.groups()}
        return None if len(macs) > MAX_GROUPS or self.wants_all(now) else macs

    def wish(self, now: float) -> tuple[int, ...]:
        """What `macs` follows from: while it is the same, so are they."""
        return (self.wants_all(now), *(one.listeners.changes for one in self.families.values()))


def is_alone(vlan: LocalVlan) -> bool:
    """Whether one host is behind our ports."""
    return not (vlan.bridge and vlan.may_bridge(vlan.introductions.me))


class Multicast:
    """That of all VLANs; `refused` counts messages that follow no format."""

    def __init__(self, state: State, random: Callable[[int], bytes], say: Callable[[Action], None]) -> None:
        self.refused = 0
        self._vlans: dict[VlanIndex, _Vlan] = {}
        self._said: dict[tuple[VlanIndex, VTag], _Said] = {}
        self._state = state
        self._random = random
        self._say = say

    def heard(self, event: MulticastHeard, now: float) -> None:
        """Somebody said something about groups."""
        vlan = self._vlans.get(event.vlan)
        if vlan is None:
            return
        ethertype, packet = payload_untrusted(event.frame)
        family = vlan.families.get(ethertype)
        try:
            if family is None:
                raise DecodeError(f"EtherType {ethertype:#06x}")
            said: Said = family.wire.parse_untrusted(packet)
        except DecodeError:
            self.refused += 1
            return
        family.listeners.heard(said, now, is_local=event.is_local)
        if isinstance(said, Query) and not event.is_local:
            family.reporter.heard(said, now)

    def settle(self, now: float) -> None:
        """Subscribes to what our hosts listen to."""
        for index in self._vlans.keys() - self._state.vlans.keys():
            del self._vlans[index]
        here: set[tuple[VlanIndex, VTag]] = set()
        for index, local in self._state.vlans.items():
            if not local.is_inside:
                continue
            vlan = self._vlans.get(index)
            if vlan is None:
                vlan = self._vlans[index] = _Vlan(local, self._random, now)
            had_router, local.has_router = local.has_router, vlan.has_router(now)
            if local.has_router != had_router:
                state = "multicast router behind our port" if local.has_router else "no multicast router any more"
                self._say(Log("info", state, {"vlan": local.source.label}))
                self._state.fabric.subscriptions.changed = True  # tables say who has a router
            for family in vlan.families.values():
                family.listeners.one_host = is_alone(local)
            for names in local.names:
                here.add((index, names.vtag))
                said = self._said.setdefault(
                    (index, names.vtag), _Said(Allowance(CHANGES_AT_ONCE, CHANGES_A_SECOND, now))
                )
                self._subscribe(vlan, names, said, now)
        for key in self._said.keys() - here:
            del self._said[key]

    def follow(self, tables: TableSet, now: float) -> None:
        """Says what is due, by tables that are as new as can be."""
        heard = {table.id: bool(table.listening.rest) for table in tables.vlans}
        for index, vlan in self._vlans.items():
            for family in vlan.families.values():
                state = family.listeners.changes, heard.get(index, False)
                if state != family.reported:
                    family.reported = state
                    family.reporter.follow(family.listeners.groups, now, is_heard=state[1])

    def tick(self, now: float) -> None:
        for index, vlan in self._vlans.items():
            mac = self._state.vlans[index].mac if index in self._state.vlans else None
            if mac is None:
                continue
            for family in vlan.families.values():
                for query in family.listeners.tick(now):
                    self._say(WriteFrame(index, asked(family.wire, query, mac)))
                for report in family.reporter.tick(now):
                    for frame in family.wire.emit_report(report, mac):
                        self._say(SendFrame(index, frame))

    def next_deadline(self, now: float) -> float:
        """When `tick` or `settle` has something to do."""
        dues = [float("inf"), *(said.due_at for said in self._said.values())]
        for vlan in self._vlans.values():
            dues += [one.listeners.next_deadline(now) for one in vlan.families.values()]
            dues += [one.reporter.next_deadline() for one in vlan.families.values()]
            if vlan.crowded_until > now:
                dues.append(vlan.crowded_until)
        return min(dues)

    def state_of(self, index: VlanIndex, now: float) -> tuple[set[Address], set[Mac] | None, str]:
        """For `status`: groups with listeners, subscribed group MACs (None: every group), and who asks."""
        vlan = self._vlans.get(index)
        if vlan is None:
            return set(), set(), "self"
        queriers = [family.listeners.querier(now) for family in vlan.families.values()]
        return vlan.groups(), vlan.macs(now), min(queriers)  # "member" before "port" before "self"

    # Inside

    def _subscribe(self, vlan: _Vlan, names: Names, said: _Said, now: float) -> None:
        fabric = self._state.fabric
        if any(fabric.subscriptions.count(key) >= CROWDED for key in fabric.subscriptions.trees(names.vtag)):
            vlan.crowded_until = now + CROWDED_S
        wish = vlan.wish(now)
        if said.wish == wish:
            said.due_at = float("inf")
        if said.wish == wish or now < said.due_at < float("inf"):
            return
        macs = vlan.macs(now)
        tokens = {EVERY_GROUP} if macs is None else {Token(names.keys.token(KIND_GROUP, mac)) for mac in macs}
        if tokens == said.tokens:
            said.wish, said.due_at = wish, float("inf")
        elif not said.changes.take(now, len(tokens ^ said.tokens)):
            said.due_at = said.changes.ready_at(len(tokens ^ said.tokens))
        else:
            said.tokens, said.wish, said.due_at = tokens, wish, float("inf")
            fabric.subscribe(names.vtag, tokens, partial(self._sign, names))

    def _sign(self, names: Names, root: Origin, token: Token) -> SignedSubscription:
        return names.subscription(root, token, self._state.now_unix)


def asked(wire: ModuleType, query: Query, mac: Mac) -> bytes:
    """The frame of a query of ours, from an address that nobody has and that wins no election."""
    asker = Mac(bytes((mac[0] ^ ASKER_BIT,)) + mac[1:])
    if wire is mld:
        query = Query(2, mld.last_link_local(asker), query.group, query.response_s)
    frame: bytes = wire.emit_query(query, asker)
    return frame
