"""Builds the data plane's tables from routes, trees, labels and keys (SPEC 6.3)."""

from dataclasses import dataclass
from typing import Final, Protocol

from peertap.mesh.audience import Key
from peertap.mesh.entry import LEAST_PATH_MTU, Selected
from peertap.mesh.routes import RouteTable
from peertap.mesh.subscriptions import Subscriptions
from peertap.mesh.tree import Group, TreeKey, Trees
from peertap.node.carried import Carried
from peertap.node.labels import LabelKey
from peertap.node.tables import Hop, LabelTable, ListeningTable, MemberTable, Passage, TableSet, VlanTable
from peertap.node.trunk import Trunk
from peertap.node.vlan import LocalVlan, Names
from peertap.node.ways import Use, WaySettings, choose_spread
from peertap.types import PeerId, Token, TrunkId, VlanIndex, VTag
from peertap.wire.routes import EVERY_GROUP, KIND_UNICAST, Origin

MAX_BACKUPS: Final = 4096  # ours: tokens of others for which a relay keeps a second label; a label costs both ends


class State(Protocol):
    """What the tables are built from."""

    @property
    def trunks(self) -> dict[TrunkId, Trunk]: ...

    @property
    def routes(self) -> RouteTable: ...

    @property
    def trees(self) -> Trees: ...

    @property
    def subscriptions(self) -> Subscriptions: ...

    @property
    def vlans(self) -> dict[VlanIndex, LocalVlan]: ...

    def passage(self, vlan: LocalVlan) -> Passage: ...

    @property
    def carried(self) -> Carried: ...


@dataclass(frozen=True, slots=True)
class _Beside:
    """What was chosen beside a selected trunk, if anything, when the routes had been looked at so often."""

    trunk: TrunkId | None  # the backup
    path_mtu: int
    beside: TrunkId | None
    looks: int
    spread: tuple[Selected, ...] = ()
    peers: frozenset[PeerId] = frozenset()  # neighbours that take flows
    detour: Selected | None = None  # for frames of our own, where no other way is feasible and this one fails


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways to a member by which a packet could go now: those that frames take, and others."""

    used: tuple[Hop, ...]
    others: tuple[Hop, ...]


class Compiler:
    """Answers where things go; keeps, per token, the hop in use until a better one's label is confirmed, and a backup.

    A backup is a neighbour by which the token is feasible, too (RFC 8966): frames that take it run into no loop.
    """

    def __init__(self, state: State, ways: WaySettings) -> None:
        self._state = state
        self._ways_of = ways
        self._hops: dict[Key, TrunkId] = {}
        self._backups: dict[Key, _Beside] = {}  # kept while they are feasible: labels cost messages
        self._backed = 0  # of those, how many are a trunk

    def hop(self, key: Key) -> Hop | None:
        """Trunk and label for a unicast token: the selected route's, or the last one's until that is confirmed."""
        selected = self._state.routes.selected(key)
        if selected is None or selected.trunk is None:
            self._hops.pop(key, None)
            return None
        kept = self._backups.get(key)
        shunned = self._state.routes.demoted.get(key, ())  # taken where there is no other
        known = (selected.trunk, self._hops.get(key), kept.trunk if kept is not None else None)
        for trunk_id in sorted(known, key=lambda one: one in shunned) if shunned else known:
            label = self._label(trunk_id, (*key, None))
            if trunk_id is None or label is None or not self._state.routes.is_feasible(key, trunk_id):
                continue
            if trunk_id == selected.trunk or not self._state.trunks[trunk_id].is_silent:
                self._hops[key] = trunk_id
                return trunk_id, label
        return None

    def own_hop(self, key: Key) -> Hop | None:
        """The same for frames of our own: where that next hop is demoted and no other is feasible, by a detour.

        Whichever neighbour a source begins with, from there on frames go by routes, which have no loop.
        """
        hop, detour = self.hop(key), self._detour(key)
        is_demoted = hop is not None and hop[0] in self._state.routes.demoted.get(key, ())
        return detour if is_demoted and detour is not None else hop

    def _detour(self, key: Key) -> Hop | None:
        kept = self._backups.get(key)
        trunk = kept.detour.trunk if kept is not None and kept.detour is not None else None
        label = self._label(trunk, (*key, None))
        return (trunk, label) if trunk is not None and label is not None else None

    def backup(self, key: Key, hop: Hop | None) -> tuple[Hop, int] | None:
        """A second way beside the hop, with the path MTU there; it leads to another neighbour."""
        kept = self._backups.get(key)
        if hop is None or kept is None or kept.trunk is None or kept.trunk == hop[0]:
            return None
        label = self._label(kept.trunk, (*key, None))
        return None if label is None else ((kept.trunk, label), kept.path_mtu)

    def spread(self, key: Key, hop: Hop | None) -> tuple[tuple[Hop, int], ...]:
        """Other ways that take flows beside the hop, with their path MTUs."""
        kept = self._backups.get(key)
        ways = []
        for one in kept.spread if kept is not None and hop is not None else ():
            label = self._label(one.trunk, (*key, None))
            if one.trunk is not None and label is not None and hop is not None and one.trunk != hop[0]:
                ways.append(((one.trunk, label), one.path_mtu))
        return tuple(ways)

    def use(self, vlan: LocalVlan) -> Use:
        """What a VLAN does with several ways to a member."""
        return self._ways_of.of(vlan.source.label)

    def ways(self, vlan: LocalVlan, key: Key) -> Ways:
        """By which ways a packet to a member could go now; each but a detour leads away from here, also one demoted."""
        hop, detour = self.own_hop(key), self._detour(key)
        if hop is None:
            return Ways((), ())
        other = self.backup(key, hop)
        backup = (other[0],) if other is not None else ()
        shunned = self._state.routes.demoted.get(key, frozenset())
        known = {trunk: self._label(trunk, (*key, None)) for trunk in sorted(shunned)}
        tried = tuple(
            (trunk, label)
            for trunk, label in known.items()
            if label is not None and trunk != hop[0] and self._state.routes.is_feasible(key, trunk)
        )
        tried += (detour,) if detour is not None and detour != hop else ()
        if self.use(vlan) is Use.DUPLICATE:
            return Ways((hop, *backup), tried)
        spread = tuple(way for way, _ in self.spread(key, hop))
        return Ways((hop, *spread), tuple(one for one in (*backup, *tried) if one not in spread))

    def _choose_beside(self, key: Key, selected: Selected, ours: dict[VTag, Use]) -> tuple[TrunkId, ...]:
        """Who is to be the backup, the present one while it can be, else the nearest; and who is to take flows."""
        looks, kept = self._state.routes.looks(key), self._backups.get(key)
        if kept is None or (kept.looks, kept.beside) != (looks, selected.trunk):
            kept = self._look_beside(key, selected, kept, looks, ours)
        if kept is None:
            return ()
        detour = kept.detour.trunk if kept.detour is not None else None
        trunks = (kept.trunk, *(one.trunk for one in kept.spread), detour)
        return tuple(one for one in trunks if one is not None)

    def _look_beside(
        self, key: Key, selected: Selected, kept: _Beside | None, looks: int, ours: dict[VTag, Use]
    ) -> _Beside | None:
        """Chooses anew; None: there are too many backups already."""
        if key[0] not in ours and (kept is None or kept.trunk is None) and self._backed >= MAX_BACKUPS:
            return None
        trunks, used = self._state.trunks, selected.trunk
        peer = trunks[used].peer if used is not None else None
        found = [
            one
            for one in self._state.routes.alternatives(key)
            if one.trunk in trunks and trunks[one.trunk].peer != peer
        ]
        before = next((one for one in found if kept is not None and one.trunk == kept.trunk), None)
        chosen = before or next(iter(found), None)
        trunk, path_mtu = (chosen.trunk, chosen.path_mtu) if chosen is not None else (None, 0)
        spread: tuple[Selected, ...] = ()
        peers: frozenset[PeerId] = frozenset()
        if ours.get(key[0]) is Use.SPREAD:
            were = kept.peers if kept is not None else frozenset()
            spread = choose_spread(selected, found, were, lambda trunk: trunks[trunk].peer)
            peers = frozenset(trunks[one.trunk].peer for one in (selected, *spread) if one.trunk is not None)
        detours = self._state.routes.detours(key) if trunk is None and key[0] in ours else []
        detour = next((one for one in detours if one.trunk in trunks and trunks[one.trunk].peer != peer), None)
        self._forget_backup(key)
        self._backups[key] = made = _Beside(trunk, path_mtu, used, looks, spread, peers, detour)
        self._backed += trunk is not None
        return made

    def _forget_backup(self, key: Key) -> None:
        kept = self._backups.pop(key, None)
        self._backed -= kept is not None and kept.trunk is not None

    def group_edges(self, names: Names) -> set[tuple[TrunkId, Origin]]:
        """Edges that a VLAN's own group frames can take now under these names."""
        sending = self._state.trees.sending_group(names.vtag, names.group_token)
        if sending is None:
            return set()
        root, group = sending
        key = (names.vtag, names.group_token, root)
        return {(trunk, root) for trunk in group.edges() if self._label(trunk, key) is not None}

    def group_hops(self, vlan: LocalVlan, token: bytes | None = None) -> tuple[Hop, ...]:
        """The same as trunks and labels, under the names that are in use, or those with this token."""
        names = next((one for one in vlan.names if one.group_token == token), None) or vlan.for_group()
        hops = []
        for trunk, root in sorted(self.group_edges(names)):
            label = self._label(trunk, (names.vtag, names.group_token, root))
            if label is not None:
                hops.append((trunk, label))
        return tuple(hops)

    def wanted_labels(self) -> dict[TrunkId, dict[LabelKey, None]]:
        """The labels that we need on each trunk: for every route in use, every edge, and last for other ways."""
        wanted: dict[TrunkId, dict[LabelKey, None]] = {
            one.id: {} for one in self._state.trunks.values() if not one.is_leaving
        }
        beside: list[tuple[TrunkId, LabelKey]] = []
        ours = {names.vtag: self.use(vlan) for vlan in self._state.vlans.values() for names in vlan.names}
        for key, selected in self._state.routes.in_use():
            if selected.advert.route.kind != KIND_UNICAST or selected.trunk is None:
                continue
            for trunk in (selected.trunk, self._hops.get(key)):
                if trunk in wanted and trunk is not None:
                    wanted[trunk][*key, None] = None
            shunned = self._state.routes.demoted.get(key, ())  # they are probed
            others = (*self._choose_beside(key, selected, ours), *shunned)
            beside += [(trunk, (*key, None)) for trunk in others if trunk in wanted]
        for vtag, root, token, group in self._state.trees.groups():
            for trunk in group.prepared():
                if trunk in wanted:
                    wanted[trunk][vtag, token, root] = None
        for (vtag, root), token, trunks in self._state.subscriptions.wanted():
            for trunk in trunks:
                if trunk in wanted:
                    wanted[trunk][vtag, token, root] = None
        for trunk, label in beside:
            wanted[trunk][label] = None
        return wanted

    def tables(self) -> tuple[TableSet, list[tuple[TrunkId, int]]]:
        """The tables, and which of the neighbours' labels work with them."""
        local = {names.vtag: (vlan, names) for vlan in self._state.vlans.values() for names in vlan.names}
        groups: dict[LabelKey, Group] = {
            (vtag, token, origin): group for vtag, origin, token, group in self._state.trees.groups()
        }
        carried = self._state.carried
        carried.begin()
        labels: list[LabelTable] = []
        for trunk in self._state.trunks.values():
            for number, incoming in trunk.labels.incoming.items():
                vtag, token, root = incoming.key
                own = local.get(vtag)
                if root is None:
                    entry = self._unicast_label(trunk.id, number, (vtag, token), own)
                elif incoming.key in groups:
                    entry = self._group_label(trunk.id, number, incoming.key, groups[incoming.key], own)
                else:
                    entry = self._multicast_label(trunk.id, number, (vtag, root), token, own)
                if entry is not None:
                    labels.append(entry)
        for key in [key for key in self._hops if self._state.routes.selected(key) is None]:
            del self._hops[key]
        for key in [key for key in self._backups if self._state.routes.selected(key) is None]:
            self._forget_backup(key)
        tables = TableSet(
            trunks=tuple(trunk.table() for trunk in self._state.trunks.values()),
            vlans=tuple(self._vlan(vlan) for vlan in self._state.vlans.values()),
            labels=tuple(labels),
            classes=carried.tables(),
            limits=carried.limits,
        )
        return tables, [(entry.trunk, entry.label) for entry in labels]

    # Inside

    def _label(self, trunk: TrunkId | None, key: LabelKey) -> int | None:
        found = self._state.trunks.get(trunk) if trunk is not None else None
        return None if found is None else found.labels.usable(key)

    def _unicast_label(
        self, trunk: TrunkId, number: int, key: Key, own: tuple[LocalVlan, Names] | None
    ) -> LabelTable | None:
        if own is not None and key[1] == own[1].token:
            return LabelTable(trunk, number, key[1], False, own[0].index, ())
        hop = self.hop(key)
        if hop is None or hop[0] == trunk or self._state.routes.is_leaf:
            return None
        other = self.backup(key, hop)
        backup = other[0] if other is not None and other[0][0] != trunk else None
        return LabelTable(trunk, number, key[1], False, None, (hop,), backup, self._state.carried.number(key[0]))

    def _group_label(
        self, trunk: TrunkId, number: int, key: LabelKey, group: Group, own: tuple[LocalVlan, Names] | None
    ) -> LabelTable | None:
        ways_on = group.ways_on(trunk)
        if ways_on is None:
            return LabelTable(trunk, number, key[1], True, None, ()) if group.is_prepared_for(trunk) else None
        out = [(edge, self._label(edge, key)) for edge in ways_on]
        hops = tuple((edge, label) for edge, label in out if label is not None)
        deliver = own[0].index if own is not None and key[1] == own[1].group_token else None
        carried = self._state.carried.number(key[0]) if hops else None
        return LabelTable(trunk, number, key[1], True, deliver, hops, None, carried)

    def _multicast_label(
        self, trunk: TrunkId, number: int, tree: TreeKey, token: Token, own: tuple[LocalVlan, Names] | None
    ) -> LabelTable | None:
        """A multicast group's label decides where its packets go; they are sealed under the broadcast token."""
        ways = self._state.trees.ways(tree, trunk)
        if ways is None:
            return None
        hops = self._multicast_hops(tree, token, ways)
        if own is None:
            return LabelTable(trunk, number, token, True, None, hops)
        listens = self._state.subscriptions.listens(tree[0], token)
        return LabelTable(trunk, number, own[1].group_token, True, own[0].index if listens else None, hops)

    def _multicast_hops(self, tree: TreeKey, token: Token, among: set[TrunkId]) -> tuple[Hop, ...]:
        """By the group's label to its listeners, by that of every group to those who want all: one packet an edge.

        Args:
            among: the edges that a broadcast would take.
        """
        subscriptions, hops = self._state.subscriptions, {}
        for one in (EVERY_GROUP, token):
            for trunk in subscriptions.wanting(tree, one):
                label = self._label(trunk, (tree[0], one, tree[1]))
                if label is not None and trunk in among:
                    hops[trunk] = label
        return tuple(sorted(hops.items()))

    def _listening(self, vlan: LocalVlan) -> ListeningTable:
        """Where our own multicast goes: by our broadcast's tree, or another one while that leads nowhere."""
        names, subscriptions = vlan.for_group(), self._state.subscriptions
        sending = self._state.trees.sending_group(names.vtag, names.group_token)
        first = (names.vtag, sending[0]) if sending is not None else None
        trees = sorted(subscriptions.trees(names.vtag), key=lambda tree: tree != first)
        own = {tree: self._state.trees.ways(tree, None) or set() for tree in trees}
        groups: dict[Token, tuple[Hop, ...]] = {}
        for token in sorted(set().union({EVERY_GROUP}, *(subscriptions.tokens(tree) for tree in trees))):
            ways = (self._multicast_hops(tree, token, edges) for tree, edges in own.items())
            groups[token] = next((hops for hops in ways if hops), ())
        rest = groups.pop(EVERY_GROUP)
        return ListeningTable(names.keys, tuple(groups.items()), rest, vlan.has_router)

    def _vlan(self, vlan: LocalVlan) -> VlanTable:
        intro = vlan.introductions
        members = []
        for peer in intro.peers.values():
            key = vlan.towards(peer.mac).key_of(peer.mac)
            hop = self.own_hop(key)
            selected = self._state.routes.selected(key)
            other = self.backup(key, hop)
            spread = self.spread(key, hop)
            mtus = [selected.path_mtu if selected is not None else LEAST_PATH_MTU]
            kept = self._backups.get(key)
            beside = (kept.detour, *kept.spread) if kept is not None else ()
            mtus += [one.path_mtu for one in beside if one is not None]
            mtus += [kept.path_mtu] if kept is not None and kept.trunk is not None else []
            mtus += [path_mtu for _, path_mtu in (*((other,) if other is not None else ()), *spread)]
            members.append(
                MemberTable(
                    id=peer.id,
                    mac=peer.mac,
                    token=key[1],
                    hop=hop,
                    backup=other[0] if other is not None else None,
                    spread=tuple(way for way, _ in spread),
                    duplicate=self.use(vlan) is Use.DUPLICATE,
                    max_payload=min(mtus),
                    pair_send=peer.pair_send,
                    pair_receive=tuple(one.key for one in peer.pair_receive),
                    group_receive=tuple(peer.group_receive.values()),
                    bridge=vlan.may_bridge(peer.member),
                )
            )
        return VlanTable(
            id=vlan.index,
            keys=vlan.source.keys,
            mac=vlan.mac,
            token=vlan.newest.token,
            group_token=vlan.for_group().group_token,
            bridge=vlan.bridge and vlan.may_bridge(vlan.introductions.me),
            group_send=intro.group_send,
            group_edges=self.group_hops(vlan),
            passage=self._state.passage(vlan),
            members=tuple(members),
            listening=self._listening(vlan),
        )
