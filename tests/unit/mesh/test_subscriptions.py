"""Subscriptions on trees of nodes: each knows which of its edges lead to listeners, however messages cross."""

import random
from collections import deque

import pytest

from peertap.mesh.subscriptions import MAX_TOKENS, Subscriptions
from peertap.types import Token, TrunkId
from peertap.wire.control import Subscribe, Unsubscribe
from peertap.wire.routes import EVERY_GROUP, Origin, SignedSubscription, vtag_of

PUBLIC = bytes(range(32))
VTAG = vtag_of(PUBLIC)
ROOT = Origin(1, 2, b"3" * 9)
KEY = (VTAG, ROOT)
TOKENS = [Token(bytes([number]) * 16) for number in range(1, 4)]


def sign(root: Origin, token: Token, expiry: int = 1000) -> SignedSubscription:
    return SignedSubscription(PUBLIC, root, token, expiry, bytes(64))


class Forest:
    """Nodes whose edges make a forest; each link is a queue that keeps order."""

    def __init__(self, size: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.nodes = [Subscriptions() for _ in range(size)]
        self.links: dict[tuple[int, int], deque[Subscribe | Unsubscribe]] = {}
        self.wants: list[set[Token]] = [set() for _ in range(size)]
        for node in range(1, size):
            self.join(node, self.random.randrange(node))

    def neighbours(self, node: int) -> set[int]:
        return {b for a, b in self.links if a == node}

    def join(self, a: int, b: int) -> None:
        self.links[a, b], self.links[b, a] = deque(), deque()
        self.follow(a, b)

    def cut(self, a: int, b: int) -> None:
        del self.links[a, b], self.links[b, a]
        self.follow(a, b)

    def follow(self, *nodes: int) -> None:
        for node in nodes:
            self.say(node, self.nodes[node].follow({KEY: {TrunkId(one) for one in self.neighbours(node)}}))

    def say(self, node: int, out: list[tuple[TrunkId, Subscribe | Unsubscribe]]) -> None:
        for trunk, message in out:
            self.links[node, int(trunk)].append(message)

    def want(self, node: int, tokens: set[Token]) -> None:
        self.wants[node] = tokens
        self.say(node, self.nodes[node].want(VTAG, tokens, sign))

    def deliver(self, most: int) -> bool:
        """Some messages arrive, in the order of their link; returns whether any is left."""
        for _ in range(most):
            waiting = [link for link, queue in self.links.items() if queue]
            if not waiting:
                return False
            source, node = self.random.choice(waiting)
            message, trunk = self.links[source, node].popleft(), TrunkId(source)
            if isinstance(message, Unsubscribe):
                self.say(node, self.nodes[node].unsubscribed(trunk, message))
            elif self.nodes[node].is_news(trunk, message.join):
                self.say(node, self.nodes[node].subscribed(trunk, message.join))
        return True

    def behind(self, node: int, edge: int) -> set[int]:
        found, todo = {node}, [edge]
        while todo:
            one = todo.pop()
            found.add(one)
            todo += self.neighbours(one) - found
        return found - {node}

    def require_right(self) -> None:
        for node, subscriptions in enumerate(self.nodes):
            for token in TOKENS:
                leading = {
                    edge for edge in self.neighbours(node)
                    if any(token in self.wants[one] for one in self.behind(node, edge))
                }  # fmt: skip
                assert set(subscriptions.wanting(KEY, token)) == leading, (node, token[:1])


@pytest.mark.parametrize("seed", range(60))
def test_every_node_knows_which_edges_lead_to_listeners(seed: int) -> None:
    forest = Forest(2 + seed % 12, seed)
    choose = forest.random
    for _ in range(60):
        what, node = choose.random(), choose.randrange(len(forest.nodes))
        if what < 0.5:
            forest.want(node, {token for token in TOKENS if choose.random() < 0.4})
        elif what < 0.6:
            forest.say(node, forest.nodes[node].renew(VTAG))
        elif what < 0.8 and forest.links:
            a, b = choose.choice(list(forest.links))
            forest.cut(a, b)
            apart = [one for one in range(len(forest.nodes)) if one not in forest.behind(-1, a)]
            forest.join(a, choose.choice(apart))
        forest.deliver(choose.randrange(10))
    while forest.deliver(100):
        pass
    forest.require_right()
    for node in range(len(forest.nodes)):
        forest.want(node, set())
    while forest.deliver(100):
        pass
    assert not any(list(one.wanted()) for one in forest.nodes)


def test_what_is_signed_anew_is_said_again_when_it_lives_much_longer() -> None:
    node = Subscriptions()
    node.follow({KEY: {TrunkId(1), TrunkId(2)}})
    assert len(node.subscribed(TrunkId(1), sign(ROOT, TOKENS[0]))) == 1
    assert node.subscribed(TrunkId(1), sign(ROOT, TOKENS[0], 2000)) == []
    assert node.subscribed(TrunkId(1), sign(ROOT, TOKENS[0], 9000)) == [
        (TrunkId(2), Subscribe(sign(ROOT, TOKENS[0], 9000)))
    ]


def test_what_has_expired_is_wanted_no_more() -> None:
    node = Subscriptions()
    node.follow({KEY: {TrunkId(1), TrunkId(2)}})
    node.subscribed(TrunkId(1), sign(ROOT, TOKENS[0], 1000))
    assert node.expire(999.0) == []
    assert node.expire(1001.0) == [(TrunkId(2), Unsubscribe(VTAG, ROOT, TOKENS[0]))]
    assert not list(node.wanted())


def test_a_neighbour_outside_the_tree_or_beyond_the_limit_is_not_listened_to_but_every_group_always_is() -> None:
    node = Subscriptions()
    node.follow({KEY: {TrunkId(1)}})
    assert not node.is_news(TrunkId(2), sign(ROOT, TOKENS[0]))
    assert not node.is_news(TrunkId(1), sign(Origin(9, 9, bytes(9)), TOKENS[0]))
    for number in range(1, MAX_TOKENS + 1):
        node.subscribed(TrunkId(1), sign(ROOT, Token(number.to_bytes(16, "big"))))
    assert not node.is_news(TrunkId(1), sign(ROOT, TOKENS[0]))
    assert node.is_news(TrunkId(1), sign(ROOT, EVERY_GROUP))


def test_who_wants_every_group_listens_to_each() -> None:
    node = Subscriptions()
    node.want(VTAG, {EVERY_GROUP}, sign)
    assert node.listens(VTAG, TOKENS[0])
    node.want(VTAG, {TOKENS[1]}, sign)
    assert not node.listens(VTAG, TOKENS[0])
    assert node.listens(VTAG, TOKENS[1])
