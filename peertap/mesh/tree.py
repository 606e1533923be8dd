"""One tree per VLAN and root, for its broadcast and multicast frames (SPEC 6.2).

    states of an edge to the parent:    JOINING ─ Joined ─▶ UP ─ Leave, loss ─▶ gone
    states of an edge to a child:       WAITING ─ own place on the tree ─▶ UP ─ Leave, loss ─▶ gone

A tree is named by (VTag, root origin). When the root changes the new tree is built while the old one still carries
frames, for LINGER_S. A frame never leaves its root's tree: labels are bound to the root's origin.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from peertap.types import Token, TrunkId, VTag
from peertap.wire.control import Join, Joined, Leave
from peertap.wire.routes import Origin, SignedJoin

LINGER_S: Final = 2.0  # PROTOCOL 6: old edges live 2 s longer
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
    children: dict[TrunkId, SignedJoin] = field(default_factory=dict)
    children_up: set[TrunkId] = field(default_factory=set)

    def edges(self) -> list[TrunkId]:
        """Trunks that carry the group's frames now."""
        up = sorted(self.children_up)
        return [self.parent, *up] if self.parent is not None and self.parent_up else up

    def neighbours(self) -> list[TrunkId]:
        """Everybody who has, or waits for, an edge with us."""
        return sorted({*self.children, *([self.parent] if self.parent is not None else [])})

    def wanted(self) -> bool:
        return self.member is not None or bool(self.children)


@dataclass(slots=True)
class _Tree:
    is_root: bool
    parent: TrunkId | None
    current: bool = True
    ends_at: float = float("inf")
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

    def root_is(self, vtag: VTag, root: Origin | None, parent: TrunkId | None, now: float) -> list[Outgoing]:
        """Routing says who is root and by which trunk (None: this node is it)."""
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
        tree.current, tree.ends_at, tree.is_root, tree.parent = True, float("inf"), parent is None, parent
        if tree.made_by is not None:
            self._waiting[tree.made_by] -= 1
            tree.made_by = None
        self.changed = True
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
                self.changed = True
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
            self.changed = True
        return self._settle(message.vtag, message.root, tree, message.token, group, now)

    def left(self, trunk: TrunkId, message: Leave, now: float) -> list[Outgoing]:
        """A neighbour ends its edge with us."""
        tree = self._trees.get((message.vtag, message.root))
        group = tree.groups.get(message.token) if tree is not None else None
        if tree is None or group is None:
            return []
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
                out += self._settle(vtag, root, tree, token, group, now)
            _drop_unwanted(tree)
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
                if group.parent is not None and not group.parent_up and group.joined_at + REJOIN_S <= now:
                    out += self._settle(vtag, root, tree, token, group, now, again=True)
        dues = [tree.ends_at for tree in self._trees.values()]
        dues += [
            group.joined_at + REJOIN_S
            for tree in self._trees.values()
            for group in tree.groups.values()
            if group.parent is not None and not group.parent_up
        ]
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

    def sending_group(self, vtag: VTag, token: Token) -> tuple[Origin, Group] | None:
        """The tree on which frames of our own go: the present one, or the last while the new one has no edge."""
        best: tuple[Origin, Group] | None = None
        for (one_vtag, root), tree in self._trees.items():
            group = tree.groups.get(token) if one_vtag == vtag else None
            if group is not None and group.edges() and (best is None or tree.current):
                best = (root, group)
        return best

    def root_of(self, vtag: VTag) -> tuple[Origin, TrunkId | None] | None:
        """The present root and the trunk towards it (None: this node)."""
        root = self._current.get(vtag)
        tree = self._trees.get((vtag, root)) if root is not None else None
        return None if root is None or tree is None else (root, tree.parent)

    # Inside

    def _group(self, join: SignedJoin) -> tuple[Group | None, _Tree | None]:
        tree = self._trees.get((join.vtag, join.root))
        if tree is None or (join.token not in tree.groups and len(tree.groups) >= MAX_GROUPS):
            return None, None
        return tree.groups.setdefault(join.token, Group()), tree

    def _drop(self, key: TreeKey) -> None:
        tree = self._trees.pop(key)
        self.changed = True
        if tree.made_by is not None:
            self._waiting[tree.made_by] -= 1

    def _retire(self, tree: _Tree | None, now: float) -> None:
        if tree is not None:
            tree.current = False
            tree.ends_at = min(tree.ends_at, now + LINGER_S)
            self._due_at = min(self._due_at, tree.ends_at)
            self.changed = True

    def _cut(self, group: Group, trunk: TrunkId) -> None:
        if group.parent == trunk:
            group.parent, group.parent_up, group.said_expiry = None, False, 0
        group.children.pop(trunk, None)
        group.children_up.discard(trunk)
        self.changed = True

    def _settle(
        self, vtag: VTag, root: Origin, tree: _Tree, token: Token, group: Group, now: float, *, again: bool = False
    ) -> list[Outgoing]:
        """Makes the group's edges what they should be; returns what to say."""
        out: list[Outgoing] = []
        if group.parent is not None and (group.parent != tree.parent or not group.wanted()):
            out.append((group.parent, Leave(vtag, root, token)))
            group.parent, group.parent_up, group.said_expiry = None, False, 0
            self.changed = True
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
        if tree.is_root or group.parent_up:
            for trunk in group.children:
                if trunk not in group.children_up:
                    group.children_up.add(trunk)
                    self.changed = True
                    out.append((trunk, Joined(vtag, root, token)))
        return out


def _drop_unwanted(tree: _Tree) -> None:
    """Groups without members leave no trace: a neighbour cannot use their number up."""
    for token in [token for token, group in tree.groups.items() if not group.wanted() and group.parent is None]:
        del tree.groups[token]
