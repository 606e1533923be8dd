"""Which edges of a tree lead to listeners of a multicast group (SPEC 13.1).

    a Subscribe by one edge ─▶ the same by every other edge of that tree ─▶ … ─▶ every member knows which of its edges
                                                                              lead to listeners, also if it only sends

A node says Subscribe by an edge while it, or anybody beyond its other edges, listens; Unsubscribe when nobody does any
more. Edges are those of the tree (mesh/tree.py). Frames go by the edges by which a Subscribe came.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Final

from peertap.mesh.tree import TreeKey
from peertap.types import Token, TrunkId, VTag
from peertap.wire.control import Subscribe, Unsubscribe
from peertap.wire.routes import EVERY_GROUP, Origin, SignedSubscription

RENEWAL_S: Final = 3600  # ours: a subscription that lives so much longer is passed on again
MAX_TOKENS: Final = 512  # ours: groups in one tree; members ask for all of them long before (SPEC 13.1)

Outgoing = tuple[TrunkId, Subscribe | Unsubscribe]
Sign = Callable[[Origin, Token], SignedSubscription]


@dataclass(slots=True)
class _Tree:
    edges: set[TrunkId] = field(default_factory=set)
    own: dict[Token, SignedSubscription] = field(default_factory=dict)
    theirs: dict[Token, dict[TrunkId, SignedSubscription]] = field(default_factory=dict)
    said: defaultdict[TrunkId, dict[Token, int]] = field(default_factory=lambda: defaultdict(dict))  # expiries

    def tokens(self) -> set[Token]:
        return {*self.own, *self.theirs}


class Subscriptions:
    """Those of all trees that pass through this node."""

    def __init__(self) -> None:
        self._trees: dict[TreeKey, _Tree] = {}
        self._own: dict[VTag, tuple[Set[Token], Sign]] = {}
        self.changed = True

    # What follows from others

    def follow(self, edges: dict[TreeKey, set[TrunkId]]) -> list[Outgoing]:
        """Takes up the trees' present edges."""
        for key in self._trees.keys() - edges.keys():
            del self._trees[key]
            self.changed = True
        out: list[Outgoing] = []
        for key, now_there in edges.items():
            tree = self._trees.setdefault(key, _Tree())
            if tree.edges == now_there:
                continue
            for gone in tree.edges - now_there:
                tree.said.pop(gone, None)
                for wanting in tree.theirs.values():
                    wanting.pop(gone, None)
            tree.edges = set(now_there)
            self._sign_own(key, tree)
            out += self._settle(key, tree, tree.tokens())
        return out

    def want(self, vtag: VTag, tokens: Set[Token], sign: Sign | None) -> list[Outgoing]:
        """Our own subscriptions in a VLAN from now on."""
        before = self._own.pop(vtag, (frozenset(), None))[0]
        if sign is not None:
            self._own[vtag] = frozenset(tokens), sign
        out: list[Outgoing] = []
        if before != tokens:
            for key, tree in self._trees.items():
                if key[0] == vtag:
                    self._sign_own(key, tree)
                    out += self._settle(key, tree, before ^ tokens)
        return out

    def renew(self, vtag: VTag) -> list[Outgoing]:
        """Signs our own anew, long before they expire."""
        out: list[Outgoing] = []
        for key, tree in self._trees.items():
            if key[0] == vtag:
                tree.own.clear()
                self._sign_own(key, tree)
                out += self._settle(key, tree, set(tree.own))
        return out

    def is_news(self, trunk: TrunkId, join: SignedSubscription) -> bool:
        """Whether it would change anything: what is known already, or goes nowhere, needs no check of its signature."""
        tree = self._trees.get((join.vtag, join.root))
        if tree is None or trunk not in tree.edges:
            return False
        if join.token not in tree.theirs and join.token != EVERY_GROUP and len(tree.theirs) >= MAX_TOKENS:
            return False
        return tree.theirs.get(join.token, {}).get(trunk) != join

    def subscribed(self, trunk: TrunkId, join: SignedSubscription) -> list[Outgoing]:
        """A neighbour wants a group's frames; it is news, and the caller has checked signature, expiry and policy."""
        key = (join.vtag, join.root)
        tree = self._trees[key]
        tree.theirs.setdefault(join.token, {})[trunk] = join
        self.changed = True
        return self._settle(key, tree, {join.token})

    def unsubscribed(self, trunk: TrunkId, message: Unsubscribe) -> list[Outgoing]:
        """A neighbour wants them no more."""
        key = (message.vtag, message.root)
        tree = self._trees.get(key)
        if tree is None or tree.theirs.get(message.token, {}).pop(trunk, None) is None:
            return []
        return self._settle(key, tree, {message.token})

    def expire(self, now_unix: float) -> list[Outgoing]:
        """What was signed for a time that is over goes."""
        out: list[Outgoing] = []
        for key, tree in self._trees.items():
            touched = set()
            for token, wanting in tree.theirs.items():
                for trunk in [trunk for trunk, join in wanting.items() if join.expiry < now_unix]:
                    del wanting[trunk]
                    touched.add(token)
            out += self._settle(key, tree, touched)
        return out

    # What is so

    def wanted(self) -> Iterator[tuple[TreeKey, Token, Iterable[TrunkId]]]:
        """Every group that neighbours want frames of, and which."""
        for key, tree in self._trees.items():
            for token, wanting in tree.theirs.items():
                yield key, token, wanting.keys()

    def wanting(self, key: TreeKey, token: Token) -> Iterable[TrunkId]:
        """The edges of a tree that lead to listeners of a group."""
        tree = self._trees.get(key)
        return tree.theirs.get(token, {}).keys() if tree is not None else ()

    def tokens(self, key: TreeKey) -> set[Token]:
        """The groups that others listen to."""
        tree = self._trees.get(key)
        return set(tree.theirs) if tree is not None else set()

    def count(self, key: TreeKey) -> int:
        """How many groups others listen to."""
        tree = self._trees.get(key)
        return len(tree.theirs) if tree is not None else 0

    def trees(self, vtag: VTag) -> list[TreeKey]:
        """A VLAN's trees."""
        return [key for key in self._trees if key[0] == vtag]

    def listens(self, vtag: VTag, token: Token) -> bool:
        """Whether we listen to a group, or to all."""
        own = self._own.get(vtag, (frozenset(), None))[0]
        return token in own or EVERY_GROUP in own

    # Inside

    def _sign_own(self, key: TreeKey, tree: _Tree) -> None:
        tokens, sign = self._own.get(key[0], (frozenset(), None))
        tree.own = {token: join for token, join in tree.own.items() if token in tokens}
        if sign is not None:
            tree.own |= {token: sign(key[1], token) for token in tokens if token not in tree.own}
        self.changed = True

    def _settle(self, key: TreeKey, tree: _Tree, tokens: Iterable[Token]) -> list[Outgoing]:
        """Says what each edge has to know about these groups."""
        out: list[Outgoing] = []
        for token in tokens:
            own, wanting = tree.own.get(token), tree.theirs.get(token, {})
            best = sorted(wanting.items(), key=lambda one: one[1].expiry, reverse=True)[:2]
            for trunk in sorted(tree.edges):
                join = own or next((one for other, one in best if other != trunk), None)
                said = tree.said[trunk].get(token)
                if join is not None and (said is None or join.expiry >= said + RENEWAL_S):
                    tree.said[trunk][token] = join.expiry
                    out.append((trunk, Subscribe(join)))
                elif join is None and said is not None:
                    del tree.said[trunk][token]
                    out.append((trunk, Unsubscribe(*key, token)))
            if not wanting:
                tree.theirs.pop(token, None)
            self.changed = True
        return out
