"""Digests: whether a neighbour knows what it was told (SPEC 6.1)."""

from __future__ import annotations

from collections import deque

import pytest

from peertap.mesh.digests import GAP_S, MAX_ASKED, NOTHING, Digests
from peertap.mesh.fabric import Fabric
from peertap.types import Token, TrunkId, VTag
from peertap.wire.control import Advert, Digest, Message, Refresh, Routes
from peertap.wire.routes import Origin, SignedRoute
from tests.support.routing import KEY, NOW_UNIX, ONE, ORIGIN, TOKEN, VTAG, signed

OTHER = b"u" * 16


class Nobody:
    """A node that takes part in no VLAN."""

    def tree_token(self, vtag: VTag) -> Token | None:
        return None

    def heard(self, route: SignedRoute, now: float) -> None: ...
    def step(self, request: object, now: float) -> None: ...
    def stand_for_root(self, now: float) -> None: ...
    def root_is(self, vtag: VTag, root: Origin, now: float) -> None: ...


class Two:
    """Two transits, a that tells and b that hears, each other's only neighbour."""

    def __init__(self) -> None:
        self.a, self.b = Fabric(Nobody(), lambda _: True), Fabric(Nobody(), lambda _: True)
        self.now = 0.0
        self.said: list[Message] = []
        self.loses: type[Message] | None = None
        for one in (self.a, self.b):
            one.add_neighbour(ONE, cost=16, mtu=1400)

    def run(self, seconds: float) -> list[Message]:
        """What was said meanwhile, by both."""
        self.said = []
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            queue = deque[tuple[Fabric, Message]]()
            for _ in range(20):
                for one, other in ((self.a, self.b), (self.b, self.a)):
                    one.tick(self.now)
                    one.settle(self.now)
                    queue += [(other, message) for _, message in one.take(self.now)]
                if not queue:
                    break
                while queue:
                    to, message = queue.popleft()
                    self.said.append(message)
                    if self.loses is None or not isinstance(message, self.loses):
                        to.received_untrusted(ONE, message, self.now, NOW_UNIX)
        return self.said

    def own(self, token: bytes = TOKEN, sequence: int = 1) -> None:
        self.a.own(signed(token, ORIGIN, sequence), self.now, 1)

    def knows(self, token: bytes = TOKEN) -> bool:
        """Whether b has heard of a token."""
        return self.b.routes.selected((VTAG, Token(token))) is not None


@pytest.fixture
def two() -> Two:
    made = Two()
    made.own()
    made.own(OTHER)
    made.run(1)
    assert made.knows()
    return made


def kinds(said: list[Message]) -> set[type]:
    return {type(message) for message in said}


def test_a_minute_after_something_was_told_a_digest_is_said_once_and_then_nothing(two: Two) -> None:
    assert kinds(two.run(GAP_S - 2)) == set()
    said = two.run(3)
    assert kinds(said) == {Digest}
    assert len(said) == 1
    assert two.run(5 * GAP_S) == []


def test_a_route_that_a_neighbour_lost_is_back_after_the_next_digest(two: Two) -> None:
    two.b.routes.unhear(ONE, VTAG, two.now)
    assert not two.knows()
    said = two.run(GAP_S + 1)
    assert Refresh in kinds(said)
    assert two.knows()
    assert two.b.differed[ONE] == 0


def test_a_withdrawal_that_never_came_is_made_good_though_it_is_not_said_again(two: Two) -> None:
    two.a.disown(KEY, two.now)
    two.a.own(signed(b"v" * 16, ORIGIN, 1), two.now, 1)
    two.loses = Routes
    two.run(1)
    two.loses = None
    two.a.routes.acknowledged(ONE, 2, two.now)
    assert two.knows(), "it has not heard of the end"
    two.run(GAP_S + 1)
    assert two.knows(b"v" * 16), "asked for again"
    assert two.knows(), "what is not said any more is not said again either"
    two.run(GAP_S + 1)
    assert not two.knows()
    assert two.knows(OTHER)
    assert two.b.differed[ONE] == 1
    two.run(GAP_S + 1)
    assert two.run(3 * GAP_S) == []


def test_a_vtag_under_which_nothing_holds_any_more_is_named_once_more(two: Two) -> None:
    two.run(GAP_S + 1)
    two.a.disown(KEY, two.now)
    two.a.disown((VTAG, Token(OTHER)), two.now)
    assert Digest(((VTAG, NOTHING),)) in two.run(GAP_S + 1)
    assert two.run(3 * GAP_S) == []


def test_a_neighbour_whose_digests_are_lies_is_asked_twice_and_then_left_alone(two: Two) -> None:
    lies = Digest(((VTAG, b"8 bytes!"),))
    asked = []
    for _ in range(5):
        two.b.received_untrusted(ONE, lies, two.now, NOW_UNIX)
        asked.append([message for _, message in two.b.take(two.now)])
    assert asked == [[Refresh(VTAG)], [Refresh(VTAG)], [], [], []]
    assert two.b.differed[ONE] == 1
    two.b.received_untrusted(ONE, Digest(((VTAG, NOTHING),)), two.now, NOW_UNIX)
    two.b.received_untrusted(ONE, lies, two.now, NOW_UNIX)
    assert list(two.b.take(two.now)) == [(ONE, Refresh(VTAG))], "it was right in between"


def test_digests_of_a_neighbour_whose_routes_were_refused_are_not_believed_to_be_of_what_we_heard(two: Two) -> None:
    forged = signed(b"w" * 16, ORIGIN, 1)
    object.__setattr__(forged, "signature", bytes(64))
    two.b.routes.received_untrusted(ONE, [Advert(forged, 1, 1400)], two.now, NOW_UNIX)
    two.b.received_untrusted(ONE, Digest(((VTAG, b"8 bytes!"),)), two.now, NOW_UNIX)
    assert list(two.b.take(two.now)) == []


def test_a_flood_of_vtags_asks_for_few_and_is_remembered_within_a_bound() -> None:
    digests = Digests()
    for number in range(20):
        said = [(VTag(bytes((number,)) + at.to_bytes(15, "big")), b"8 bytes!") for at in range(2048)]
        asked, void = digests.compare(TrunkId(1), said, {})
        assert len(asked) == MAX_ASKED
        assert not void
    assert len(digests._differing[TrunkId(1)]) == 20 * MAX_ASKED


def test_a_leaf_that_wants_a_token_no_more_forgets_it() -> None:
    """Nobody would tell it of the token's end; as a transit it announced what was long gone."""
    leaf = Fabric(Nobody(), lambda _: True)
    leaf.becomes(0.0, is_leaf=True)
    leaf.add_neighbour(ONE, cost=16, mtu=1400)
    leaf.want([KEY], 0.0)
    leaf.received_untrusted(ONE, Routes(1, (Advert(signed(TOKEN, ORIGIN, 1), 1, 1400),)), 0.0, NOW_UNIX)
    assert leaf.routes.selected(KEY) is not None
    leaf.want([], 1.0)
    assert leaf.routes.selected(KEY) is None
