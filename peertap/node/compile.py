"""Builds the data plane's tables from routes, trees, labels and keys (SPEC 6.3)."""

from dataclasses import dataclass
from typing import Final, Protocol

from peertap.mesh.audience import Key
from peertap.mesh.entry import LEAST_PATH_MTU
from peertap.mesh.routes import RouteTable
from peertap.mesh.subscriptions import Subscriptions
from peertap.mesh.tree import Group, TreeKey, Trees
from peertap.node.carried import Carried
from peertap.node.labels import LabelKey
from peertap.node.tables import Hop, LabelTable, ListeningTable, MemberTable, Passage, TableSet, VlanTable
from peertap.node.trunk import Trunk
from peertap.node.vlan import LocalVlan, Names
from peertap.types import Token, TrunkId, VlanIndex, VTag
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
class _Backup:
    """What was chosen beside a selected trunk, if anything, when the routes had been looked at so often."""

    trunk: TrunkId | None
    path_mtu: int
    beside: TrunkId
    looks: int


class Compiler:
    """Answers where things go; keeps, per token, the hop in use until a better one's label is confirmed, and a backup.

    A backup is a neighbour by which the token is feasible, too (RFC 8966): frames that take it run into no loop.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._hops: dict[Key, TrunkId] = {}
        self._backups: dict[Key, _Backup] = {}  # kept while they are feasible: labels cost messages
        self._backed = 0  # of those, how many are a trunk

    def hop(self, key: Key) -> Hop | None:
        """Trunk and label for a unicast token: the selected route's, or the last one's until that is confirmed."""
        selected = self._state.routes.selected(key)
        if selected is None or selected.trunk is None:
            self._hops.pop(key, None)
            return None
        kept = self._backups.get(key)
        for trunk_id in (selected.trunk, self._hops.get(key), kept.trunk if kept is not None else None):
            label = self._label(trunk_id, (*key, None))
            if trunk_id is None or label is None or not self._state.routes.is_feasible(key, trunk_id):
                continue
            if trunk_id == selected.trunk or not self._state.trunks[trunk_id].is_silent:
                self._hops[key] = trunk_id
                return trunk_id, label
        return None

    def backup(self, key: Key, hop: Hop | None) -> tuple[Hop, int] | None:
        """A second way beside the hop, with the path MTU there; it leads to another neighbour."""
        kept = self._backups.get(key)
        if hop is None or kept is None or kept.trunk is None or kept.trunk == hop[0]:
            return None
        label = self._label(kept.trunk, (*key, None))
        return None if label is None else ((kept.trunk, label), kept.path_mtu)

    def _choose_backup(self, key: Key, selected: TrunkId, ours: set[VTag]) -> TrunkId | None:
        """The neighbour that is to be the backup: the present one while it can be, else the nearest."""
        looks, kept = self._state.routes.looks(key), self._backups.get(key)
        if kept is not None and (kept.looks, kept.beside) == (looks, selected):
            return kept.trunk
        if key[0] not in ours and (kept is None or kept.trunk is None) and self._backed >= MAX_BACKUPS:
            return None
        trunks = self._state.trunks
        peer = trunks[selected].peer
        found = [
            one
            for one in self._state.routes.alternatives(key)
            if one.trunk in trunks and trunks[one.trunk].peer != peer
        ]
        before = next((one for one in found if kept is not None and one.trunk == kept.trunk), None)
        chosen = before or next(iter(found), None)
        trunk, path_mtu = (chosen.trunk, chosen.path_mtu) if chosen is not None else (None, 0)
        self._forget_backup(key)
        self._backups[key] = _Backup(trunk, path_mtu, selected, looks)
        self._backed += trunk is not None
        return trunk

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
        """The labels that we need on each trunk: for every route in use, every edge, and last for backups."""
        wanted: dict[TrunkId, dict[LabelKey, None]] = {
            one.id: {} for one in self._state.trunks.values() if not one.is_leaving
        }
        backups: list[tuple[TrunkId, LabelKey]] = []
        ours = {names.vtag for vlan in self._state.vlans.values() for names in vlan.names}
        for key, selected in self._state.routes.in_use():
            if selected.advert.route.kind != KIND_UNICAST or selected.trunk is None:
                continue
            for trunk in (selected.trunk, self._hops.get(key)):
                if trunk in wanted and trunk is not None:
                    wanted[trunk][*key, None] = None
            backup = self._choose_backup(key, selected.trunk, ours)
            if backup in wanted and backup is not None:
                backups.append((backup, (*key, None)))
        for vtag, root, token, group in self._state.trees.groups():
            for trunk in group.prepared():
                if trunk in wanted:
                    wanted[trunk][vtag, token, root] = None
        for (vtag, root), token, trunks in self._state.subscriptions.wanted():
            for trunk in trunks:
                if trunk in wanted:
                    wanted[trunk][vtag, token, root] = None
        for trunk, label in backups:
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
            hop = self.hop(key)
            selected = self._state.routes.selected(key)
            other = self.backup(key, hop)
            path_mtu = selected.path_mtu if selected is not None else LEAST_PATH_MTU
            members.append(
                MemberTable(
                    id=peer.id,
                    mac=peer.mac,
                    token=key[1],
                    hop=hop,
                    backup=other[0] if other is not None else None,
                    max_payload=min(path_mtu, other[1]) if other is not None else path_mtu,
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
