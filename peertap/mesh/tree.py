"""One tree per VLAN and root, for its broadcast and multicast frames (SPEC 6.2).

    states of an edge to the parent:    JOINING ─ Joined ─▶ UP ─ Leave, loss ─▶ gone
    states of an edge to a child:       WAITING ─ own place on the tree ─▶ UP ─ Leave, loss ─▶ gone

A tree is named by (VTag, root origin). When the root changes the new tree is built while the old one still carries
frames, for LINGER_S. A frame never leaves its root's tree: labels are bound to the root's origin.

When the parent changes by choice, no frame is lost: until the new edge was up for HANDOVER_S we send by the old one
and take from it; what it still brings after that is taken for FADE_S. What comes from a parent goes to children alone,
so that no frame goes round.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from peertap.types import Token, TrunkId, VTag
from peertap.wire.control import Join, Joined, Leave
from peertap.wire.routes import Origin, SignedJoin

LINGER_S: Final = 2.0  # PROTOCOL 6: old edges live 2 s longer
HANDOVER_S: Final = 0.5  # ours: labels of the new edge are bound by then
FADE_S: Final = 0.5  # ours: what was on its way when an edge ended has come
REJOIN_S: Final = 1.0  # ours: a Join without an answer is said again
RENEWAL_S: Final = 3600  # ours: a Join that lives so much longer is passed up again
MAX_TREES: Final = 65_536  # ours: bounds the table
MAX_WAITING_TREES: Final = 256  # ours: trees that one neighbour asks for before we know of their root
MAX_GROUPS: Final = 1024  # ours: groups in one tree
MAX_CHILDREN: Final = 4096  # ours: of one group in one tree

NEVER: Final = float("inf")

TreeKey = tuple[VTag, Origin]
Outgoing = tuple[TrunkId, Join | Joined | Leave]


@dataclass(slots=True)
class Group:
    """One group's edges in one tree on this node."""

    member: SignedJoin | None = None  # our own interest
    parent: TrunkId | None = None
    parent_up: bool = False
    joined_at: float = float("-inf")
    said_expiry: int = 0  # of the Join that the parent has
    former: TrunkId | None = None  # the parent by which we still send
    switches_at: float = NEVER  # to the new one
    ripe_at: float = NEVER  # from then on all of the tree is likely joined
    is_ripe: bool = False
    fading: dict[TrunkId, tuple[float, bool]] = field(default_factory=dict)  # until when it is heard; was it a parent
    children: dict[TrunkId, SignedJoin] = field(default_factory=dict)
    children_up: set[TrunkId] = field(default_factory=set)

    def edges(self) -> list[TrunkId]:
        """Trunks by which frames of our own go now."""
        up = sorted(self.children_up)
        parent = self.former if self.former is not None else self.parent if self.parent_up else None
        return up if parent is None else [parent, *up]

    def prepared(self) -> list[TrunkId]:
        """Trunks that carry frames now, or will after a handover."""
        edges = self.edges()
        return edges if self.parent is None or not self.parent_up or self.parent in edges else [*edges, self.parent]

    def ways_on(self, trunk: TrunkId) -> list[TrunkId] | None:
        """By which trunks a frame from this one goes on; None: it is not taken."""
        fading = self.fading.get(trunk)
        if trunk in (self.former, self.parent if self.takes_from_parent() else None) or (fading and fading[1]):
            return [child for child in sorted(self.children_up) if child != trunk]
        if trunk in self.children_up or fading is not None:
            return [edge for edge in self.edges() if edge != trunk]
        return None

    def takes_from_parent(self) -> bool:
        """Not before a handover ends: the former parent brings the same, and what came twice would go on twice."""
        return self.parent_up and self.former is None

    def is_prepared_for(self, trunk: TrunkId) -> bool:
        """Whether a neighbour may send already, though nothing is taken from it yet."""
        return self.parent_up and self.former is not None and trunk == self.parent

    def neighbours(self) -> list[TrunkId]:
        """Everybody who has, or waits for, an edge with us."""
        return sorted({*self.children, *(one for one in (self.parent, self.former) if one is not None)})

    def wanted(self) -> bool:
        return self.member is not None or bool(self.children)

    def drop_parent(self) -> None:
        self.parent, self.parent_up, self.said_expiry, self.switches_at = None, False, 0, NEVER

    def next_deadline(self) -> float:
        joining = self.joined_at + REJOIN_S if self.parent is not None and not self.parent_up else NEVER
        fades = (until for until, _ in self.fading.values())
        return min(joining, self.switches_at, self.ripe_at, *fades)


@dataclass(slots=True)
class _Tree:
    is_root: bool
    parent: TrunkId | None
    current: bool = True
    ends_at: float = NEVER
    leads_there: Callable[[TrunkId | None], bool] = lambda _trunk: False  # by which neighbours frames can go as well
    outbids: bool = False  # its root is better than that of the tree before it, which is whole still
    made_by: TrunkId | None = None  # a neighbour's Join made it before we knew of the root
    groups: dict[Token, Group] = field(default_factory=dict)


class Trees:
    """All trees that pass through this node."""

    def __init__(self) -> None:
        self._trees: dict[TreeKey, _Tree] = {}
        self._current: dict[VTag, Origin] = {}
        self._waiting: Counter[TrunkId] = Counter()
        self._due_at = NEVER  # no later than the next thing to do
        self.changed = True
        self.version = 0  # of all that `edges` says

    def root_is(
        self,
        vtag: VTag,
        root: Origin | None,
        parent: TrunkId | None,
        now: float,
        leads_there: Callable[[TrunkId | None], bool] = lambda _trunk: False,
    ) -> list[Outgoing]:
        """Routing says who is root and by which trunk (None: this node is it).

        Args:
            leads_there: whether another neighbour is feasible as well: then frames can go by it, and come to no loop
                (each is nearer to the root than we ever were, RFC 8966 2.4).
        """
        old = self._current.get(vtag)
        if root is None:
            if old is not None:
                del self._current[vtag]
                self._retire(self._trees.get((vtag, old)), now)
            return []
        if old is not None and old != root:
            self._retire(self._trees.get((vtag, old)), now)
        self._current[vtag] = root
        tree = self._trees.get((vtag, root))
        if tree is None:
            if len(self._trees) >= MAX_TREES:
                return []
            tree = self._trees[vtag, root] = _Tree(is_root=parent is None, parent=parent)
        if root != old:
            tree.outbids = old is not None and root < old
        tree.current, tree.ends_at, tree.is_root, tree.parent = True, NEVER, parent is None, parent
        tree.leads_there = leads_there
        if tree.made_by is not None:
            self._waiting[tree.made_by] -= 1
            tree.made_by = None
        self._touch()
        out: list[Outgoing] = []
        for token, group in tree.groups.items():
            out += self._settle(vtag, root, tree, token, group, now)
        return out

    def interest(self, join: SignedJoin, now: float) -> list[Outgoing]:
        """This node is a member and wants the group's frames."""
        group, tree = self._group(join)
        if group is None or tree is None:
            return []
        group.member = join
        if tree.is_root:
            self._ripen(group, now + 2 * HANDOVER_S)
        return self._settle(join.vtag, join.root, tree, join.token, group, now)

    def no_interest(self, vtag: VTag, now: float) -> list[Outgoing]:
        """This node is no member any more; it stays in the tree where others need it."""
        out: list[Outgoing] = []
        for (one, root), tree in self._trees.items():
            if one == vtag:
                for token, group in tree.groups.items():
                    group.member = None
                    out += self._settle(vtag, root, tree, token, group, now)
                _drop_unwanted(tree)
                self._touch()
        return out

    def join_untrusted(self, trunk: TrunkId, join: SignedJoin, now: float) -> list[Outgoing]:
        """A neighbour wants to be our child; the caller has checked signature, expiry and policy."""
        group, tree = self._group(join)
        if group is None or tree is None:
            tree = self._trees.get((join.vtag, join.root))
            if tree is None:
                if len(self._trees) >= MAX_TREES or self._waiting[trunk] >= MAX_WAITING_TREES:
                    return []
                self._waiting[trunk] += 1
                tree = _Tree(is_root=False, parent=None, current=False, ends_at=now + LINGER_S, made_by=trunk)
                self._due_at = min(self._due_at, tree.ends_at)
                self._trees[join.vtag, join.root] = tree
            if join.token not in tree.groups and len(tree.groups) >= MAX_GROUPS:
                return []
            group = tree.groups.setdefault(join.token, Group())
        if len(group.children) >= MAX_CHILDREN or trunk == tree.parent:
            return []
        if trunk == group.former:  # it goes by us now: what we send goes by the new parent
            group.former, group.switches_at = None, NEVER
        group.fading.pop(trunk, None)
        group.children[trunk] = join
        group.children_up.discard(trunk)
        return self._settle(join.vtag, join.root, tree, join.token, group, now)

    def joined(self, trunk: TrunkId, message: Joined, now: float) -> list[Outgoing]:
        """Our parent took us."""
        tree = self._trees.get((message.vtag, message.root))
        group = tree.groups.get(message.token) if tree is not None else None
        if tree is None or group is None or group.parent != trunk:
            return []
        if not group.parent_up:
            group.parent_up = True
            self._touch()
            group.fading.pop(trunk, None)
            if group.former is not None:
                group.switches_at = now + HANDOVER_S
            self._ripen(group, now + HANDOVER_S)
        return self._settle(message.vtag, message.root, tree, message.token, group, now)

    def left(self, trunk: TrunkId, message: Leave, now: float) -> list[Outgoing]:
        """A neighbour ends its edge with us."""
        tree = self._trees.get((message.vtag, message.root))
        group = tree.groups.get(message.token) if tree is not None else None
        if tree is None or group is None:
            return []
        if trunk in group.children_up:
            self._fade(group, trunk, now, was_parent=False)
        self._cut(group, trunk)
        out = self._settle(message.vtag, message.root, tree, message.token, group, now)
        _drop_unwanted(tree)
        return out

    def trunk_down(self, trunk: TrunkId, now: float) -> list[Outgoing]:
        """All edges over a trunk are gone."""
        out: list[Outgoing] = []
        self._waiting.pop(trunk, None)
        for (vtag, root), tree in self._trees.items():
            if tree.made_by == trunk:
                tree.made_by = None
            if tree.parent == trunk:
                tree.parent = None
            for token, group in tree.groups.items():
                self._cut(group, trunk)
                group.fading.pop(trunk, None)
                out += self._settle(vtag, root, tree, token, group, now)
            _drop_unwanted(tree)
        return out

    def trunk_silent(self, trunk: TrunkId) -> None:
        """Nothing goes by a trunk for now: nobody waits with it for a handover."""
        for tree in self._trees.values():
            for group in tree.groups.values():
                if group.former == trunk:
                    group.former, group.switches_at = None, NEVER
                    self._touch()

    def vtags(self) -> set[VTag]:
        """Whose trees have an edge here, or somebody who waits for one."""
        return {vtag for vtag, _ in self._trees}

    def forget(self, vtag: VTag) -> list[Outgoing]:
        """This VLAN is not carried any more: its edges end at once."""
        out: list[Outgoing] = []
        for one, root in [key for key in self._trees if key[0] == vtag]:
            for token, group in self._trees[one, root].groups.items():
                out += [(trunk, Leave(vtag, root, token)) for trunk in group.neighbours()]
            self._drop((one, root))
        self._current.pop(vtag, None)
        return out

    def leave_all(self) -> list[Outgoing]:
        """This node goes: every edge ends."""
        out: list[Outgoing] = []
        for (vtag, root), tree in self._trees.items():
            for token, group in tree.groups.items():
                out += [(trunk, Leave(vtag, root, token)) for trunk in group.neighbours()]
        self._trees.clear()
        self._current.clear()
        return out

    def tick(self, now: float) -> list[Outgoing]:
        """Ends old trees and says unanswered Joins again."""
        out: list[Outgoing] = []
        if now < self._due_at:
            return out
        for key, tree in list(self._trees.items()):
            vtag, root = key
            if tree.ends_at <= now:
                self._drop(key)
                for token, group in tree.groups.items():
                    out += [(trunk, Leave(vtag, root, token)) for trunk in group.neighbours()]
                continue
            for token, group in tree.groups.items():
                if group.next_deadline() > now:
                    continue
                for trunk in [trunk for trunk, (until, _) in group.fading.items() if until <= now]:
                    del group.fading[trunk]
                    self._touch()
                if group.ripe_at <= now:
                    group.is_ripe, group.ripe_at = True, NEVER
                    self._touch()
                if group.former is not None and group.switches_at <= now:
                    out.append((group.former, Leave(vtag, root, token)))
                    self._fade(group, group.former, now, was_parent=True)
                    group.former, group.switches_at = None, NEVER
                if group.parent is not None and not group.parent_up and group.joined_at + REJOIN_S <= now:
                    out += self._settle(vtag, root, tree, token, group, now, again=True)
            _drop_unwanted(tree)
        dues = [tree.ends_at for tree in self._trees.values()]
        dues += [group.next_deadline() for tree in self._trees.values() for group in tree.groups.values()]
        self._due_at = min(dues, default=NEVER)
        return out

    def expire(self, now: float, now_unix: float) -> list[Outgoing]:
        """Children whose Join has run out lose their edge."""
        out: list[Outgoing] = []
        for (vtag, root), tree in self._trees.items():
            for token, group in tree.groups.items():
                for trunk in [trunk for trunk, join in group.children.items() if join.expiry < now_unix]:
                    out.append((trunk, Leave(vtag, root, token)))
                    self._cut(group, trunk)
                    out += self._settle(vtag, root, tree, token, group, now)
            _drop_unwanted(tree)
        return out

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, or has to look whether it has."""
        return None if self._due_at == NEVER else self._due_at

    def groups(self) -> Iterator[tuple[VTag, Origin, Token, Group]]:
        """Every group in every tree."""
        for (vtag, root), tree in self._trees.items():
            for token, group in tree.groups.items():
                yield vtag, root, token, group

    def group(self, vtag: VTag, root: Origin, token: Token) -> Group | None:
        """One group in one tree."""
        tree = self._trees.get((vtag, root))
        return None if tree is None else tree.groups.get(token)

    def edges(self) -> dict[TreeKey, set[TrunkId]]:
        """The trunks with which each tree has an edge; during a handover the old parent is one of them, and the new."""
        return {
            key: {trunk for group in tree.groups.values() for trunk in group.prepared()}
            for key, tree in self._trees.items()
        }

    def ways(self, key: TreeKey, trunk: TrunkId | None) -> set[TrunkId] | None:
        """By which edges of a tree a frame from this trunk (None: our own) goes on; None: it is not taken."""
        tree = self._trees.get(key)
        groups = tree.groups.values() if tree is not None else ()
        ways = [group.edges() if trunk is None else group.ways_on(trunk) for group in groups]
        taken = [set(one) for one in ways if one is not None]
        return set().union(*taken) if taken else None

    def is_alone(self, vtag: VTag) -> bool:
        """Whether nobody joined the present tree here."""
        root = self._current.get(vtag)
        tree = self._trees.get((vtag, root)) if root is not None else None
        return tree is None or not any(group.children for group in tree.groups.values())

    def sending_group(self, vtag: VTag, token: Token) -> tuple[Origin, Group] | None:
        """The tree on which frames of our own go: the present one, or the last while that is the better one."""
        best: tuple[Origin, Group, bool] | None = None
        for (one_vtag, root), tree in self._trees.items():
            group = tree.groups.get(token) if one_vtag == vtag else None
            if group is None or not group.edges():
                continue
            is_better = tree.current and (group.is_ripe or not tree.outbids)
            if best is None or is_better or (not tree.current and not best[2]):
                best = (root, group, is_better)
        return None if best is None else best[:2]

    def root_of(self, vtag: VTag) -> tuple[Origin, TrunkId | None] | None:
        """The present root and the trunk towards it (None: this node)."""
        root = self._current.get(vtag)
        tree = self._trees.get((vtag, root)) if root is not None else None
        return None if root is None or tree is None else (root, tree.parent)

    # Inside

    def _touch(self) -> None:
        self.changed = True
        self.version += 1

    def _group(self, join: SignedJoin) -> tuple[Group | None, _Tree | None]:
        tree = self._trees.get((join.vtag, join.root))
        if tree is None or (join.token not in tree.groups and len(tree.groups) >= MAX_GROUPS):
            return None, None
        return tree.groups.setdefault(join.token, Group()), tree

    def _drop(self, key: TreeKey) -> None:
        tree = self._trees.pop(key)
        self._touch()
        if tree.made_by is not None:
            self._waiting[tree.made_by] -= 1

    def _retire(self, tree: _Tree | None, now: float) -> None:
        if tree is not None:
            tree.current = False
            tree.ends_at = min(tree.ends_at, now + LINGER_S)
            self._due_at = min(self._due_at, tree.ends_at)
            self._touch()

    def _ripen(self, group: Group, ripe_at: float) -> None:
        """Frames of our own go by this tree once others had the time to join it too."""
        if not group.is_ripe:
            group.ripe_at = min(group.ripe_at, ripe_at)
        self._due_at = min(self._due_at, ripe_at)

    def _fade(self, group: Group, trunk: TrunkId, now: float, *, was_parent: bool) -> None:
        """What is still on its way from a neighbour whose edge ends is taken."""
        group.fading[trunk] = (now + FADE_S, was_parent)
        self._due_at = min(self._due_at, now + FADE_S)
        self._touch()

    def _cut(self, group: Group, trunk: TrunkId) -> None:
        if group.parent == trunk:
            group.drop_parent()
        if group.former == trunk:
            group.former, group.switches_at = None, NEVER
        group.children.pop(trunk, None)
        group.children_up.discard(trunk)
        self._touch()

    def _settle(
        self, vtag: VTag, root: Origin, tree: _Tree, token: Token, group: Group, now: float, *, again: bool = False
    ) -> list[Outgoing]:
        """Makes the group's edges what they should be; returns what to say."""
        out: list[Outgoing] = []
        if group.parent is not None and not group.wanted():
            out += [(one, Leave(vtag, root, token)) for one in (group.parent, group.former) if one is not None]
            group.drop_parent()
            group.former = None
            self._touch()
        elif group.parent is not None and group.parent != tree.parent:
            out += self._change_parent(vtag, root, tree, token, group)
        if group.former is not None and not tree.leads_there(group.former):
            out.append((group.former, Leave(vtag, root, token)))
            group.former, group.switches_at = None, NEVER
            self._touch()
        if tree.parent in group.children:  # it was our child before it became our parent
            del group.children[tree.parent]
            group.children_up.discard(tree.parent)
        if tree.parent is not None and group.wanted():
            join = group.member or max(group.children.values(), key=lambda one: one.expiry)
            renewed = join.expiry >= group.said_expiry + RENEWAL_S
            if group.parent is None or again or renewed:
                group.parent, group.joined_at, group.said_expiry = tree.parent, now, join.expiry
                out.append((tree.parent, Join(join)))
                self._due_at = min(self._due_at, now + REJOIN_S)
        if tree.is_root or group.parent_up or group.former is not None:
            for trunk in group.children:
                if trunk not in group.children_up:
                    group.children_up.add(trunk)
                    self._touch()
                    out.append((trunk, Joined(vtag, root, token)))
        return out

    def _change_parent(self, vtag: VTag, root: Origin, tree: _Tree, token: Token, group: Group) -> list[Outgoing]:
        """The way to the root is another one; where the old one still works it goes on until the new one carries."""
        before, was_up = group.parent, group.parent_up
        group.drop_parent()
        self._touch()
        if tree.parent is not None and tree.parent == group.former:
            group.parent, group.parent_up, group.former = group.former, True, None  # back again: it never left
        elif group.former is None and was_up and tree.parent not in group.children and tree.leads_there(before):
            group.former = before
            return []
        gone = [before] if before != group.parent else []
        if tree.parent is None and group.former is not None:
            gone.append(group.former)
            group.former = None
        return [(one, Leave(vtag, root, token)) for one in gone if one is not None]


def _drop_unwanted(tree: _Tree) -> None:
    """Groups without members leave no trace: a neighbour cannot use their number up."""
    for token in [token for token, group in tree.groups.items() if not group.wanted() and group.parent is None]:
        del tree.groups[token]
