"""Trees under Joins of strangers, roots that come and go, and Joins that run out."""

import pytest

from peertap.mesh import tree
from peertap.mesh.tree import LINGER_S, Outgoing, Trees
from peertap.types import Token, TrunkId
from peertap.wire.control import Join, Joined, Leave
from peertap.wire.routes import Origin, SignedJoin
from tests.support.routing import NOW_UNIX, PUBLIC, VTAG

GROUP = Token(b"g" * 16)
A, B = Origin(5, 1, bytes(9)), Origin(1, 1, bytes(9))
UP, DOWN, OTHER = TrunkId(1), TrunkId(2), TrunkId(3)


def join(root: Origin = A, token: bytes = GROUP, expiry: int = 1 << 40) -> SignedJoin:
    return SignedJoin(PUBLIC, root, Token(token), expiry, bytes(64))


def count(trees: Trees) -> tuple[int, int]:
    """Trees, and groups in all of them."""
    return len(trees._trees), sum(len(one.groups) for one in trees._trees.values())


def exchange(source: Trees, to: Trees, messages: list[Outgoing], now: float) -> None:
    """Carries messages over the one trunk between two nodes, and the answers, until there are none."""
    for trunk, message in messages:
        if trunk == UP:
            exchange(to, source, say(to, message, now), now)


def say(to: Trees, message: Join | Joined | Leave, now: float) -> list[Outgoing]:
    match message:
        case Join(signed):
            return to.join_untrusted(UP, signed, now)
        case Joined():
            return to.joined(UP, message, now)
        case Leave():
            return to.left(UP, message, now)


def test_joins_under_1000_roots_stay_below_the_bound_and_end_after_their_linger() -> None:
    trees = Trees()
    for number in range(1000):
        trees.join_untrusted(DOWN, join(Origin(0, number, bytes(9))), 0.0)
    assert count(trees)[0] == tree.MAX_WAITING_TREES
    trees.join_untrusted(OTHER, join(Origin(7, 7, bytes(9))), 0.0)
    assert count(trees)[0] == tree.MAX_WAITING_TREES + 1, "another neighbour has its own share"
    deadline = trees.next_deadline()
    assert deadline == LINGER_S
    told = trees.tick(LINGER_S)
    assert count(trees) == (0, 0)
    assert {trunk for trunk, _ in told} == {DOWN, OTHER}
    assert trees.next_deadline() is None
    trees.join_untrusted(DOWN, join(), 3.0)
    assert count(trees)[0] == 1, "the share is free again"


def test_waiting_trees_of_a_neighbour_that_went_end_after_their_linger_too() -> None:
    trees = Trees()
    for number in range(300):
        trees.join_untrusted(DOWN, join(Origin(0, number, bytes(9))), 0.0)
    trees.trunk_down(DOWN, 0.0)
    assert trees.tick(LINGER_S) == []
    assert count(trees)[0] == 0
    for number in range(300):
        trees.join_untrusted(OTHER, join(Origin(0, number, bytes(9))), 5.0)
    assert count(trees)[0] == tree.MAX_WAITING_TREES


def test_joins_for_2000_groups_of_one_tree_stay_below_the_bound() -> None:
    trees = Trees()
    trees.root_is(VTAG, A, UP, 0.0)
    for number in range(2000):
        trees.join_untrusted(DOWN, join(token=number.to_bytes(16, "big")), 0.0)
    assert count(trees) == (1, tree.MAX_GROUPS)


def test_a_join_before_its_root_is_known_becomes_an_edge_when_it_is() -> None:
    trees = Trees()
    assert trees.join_untrusted(DOWN, join(), 0.0) == []
    assert (UP, Join(join())) in trees.root_is(VTAG, A, UP, 1.0)
    assert (DOWN, Joined(VTAG, A, GROUP)) in trees.joined(UP, Joined(VTAG, A, GROUP), 1.1)
    trees.tick(10.0)
    assert count(trees) == (1, 1)
    for number in range(tree.MAX_WAITING_TREES):
        trees.join_untrusted(DOWN, join(Origin(0, number, bytes(9))), 11.0)
    assert count(trees)[0] == 1 + tree.MAX_WAITING_TREES, "a tree that became real counts no more"


def test_a_child_whose_join_ran_out_loses_its_edge_and_is_told() -> None:
    trees = Trees()
    trees.root_is(VTAG, A, None, 0.0)
    trees.join_untrusted(DOWN, join(expiry=int(NOW_UNIX) + 100), 0.0)
    trees.join_untrusted(OTHER, join(), 0.0)
    assert trees.expire(50.0, NOW_UNIX + 50) == []
    assert trees.expire(101.0, NOW_UNIX + 101) == [(DOWN, Leave(VTAG, A, GROUP))]
    assert [group.edges() for *_, group in trees.groups()] == [[OTHER]]


def test_when_the_last_child_ran_out_the_parent_is_left() -> None:
    trees = Trees()
    trees.root_is(VTAG, A, UP, 0.0)
    trees.join_untrusted(DOWN, join(expiry=int(NOW_UNIX) + 100), 0.0)
    trees.joined(UP, Joined(VTAG, A, GROUP), 0.0)
    assert (UP, Leave(VTAG, A, GROUP)) in trees.expire(101.0, NOW_UNIX + 101)
    assert [group.edges() for *_, group in trees.groups()] == [], "a group that nobody wants leaves no trace"


def test_a_join_renewed_before_it_runs_out_keeps_its_edge() -> None:
    trees = Trees()
    trees.root_is(VTAG, A, None, 0.0)
    trees.join_untrusted(DOWN, join(expiry=int(NOW_UNIX) + 100), 0.0)
    trees.join_untrusted(DOWN, join(), 50.0)
    assert trees.expire(101.0, NOW_UNIX + 101) == []
    assert [group.edges() for *_, group in trees.groups()] == [[DOWN]]


def test_groups_that_were_left_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_GROUPS", 8)
    trees = Trees()
    trees.root_is(VTAG, A, None, 0.0)
    for number in range(20):
        token = Token(bytes([number]) * 16)
        trees.join_untrusted(DOWN, join(token=token), 0.0)
        trees.left(DOWN, Leave(VTAG, A, token), 0.0)
    assert trees.join_untrusted(OTHER, join(), 1.0) == [(OTHER, Joined(VTAG, A, GROUP))]


@pytest.mark.parametrize("later_s", [0.0, 0.02, 0.05, 0.2])
def test_a_root_that_flaps_within_the_linger_leaves_parent_and_child_with_their_edge(later_s: float) -> None:
    """The parent sees the other root for longer than LINGER_S, the child for less."""
    parent, child = Trees(), Trees()
    exchange(parent, child, parent.root_is(VTAG, A, None, 0.0), 0.0)
    exchange(child, parent, child.root_is(VTAG, A, UP, 0.0), 0.0)
    exchange(child, parent, child.interest(join(A), 0.0), 0.0)
    parent.root_is(VTAG, B, TrunkId(7), 10.0)
    child.root_is(VTAG, B, UP, 10.1)
    exchange(child, parent, child.interest(join(B), 10.1), 10.1)
    exchange(parent, child, parent.tick(12.01), 12.01)
    exchange(parent, child, parent.root_is(VTAG, A, None, 12.02), 12.02)
    exchange(child, parent, child.root_is(VTAG, A, UP, 12.03 + later_s), 12.03 + later_s)
    exchange(child, parent, child.interest(join(A), 12.03 + later_s), 12.03 + later_s)
    for step in range(60):
        now = 12.3 + step / 10
        exchange(parent, child, parent.tick(now), now)
        exchange(child, parent, child.tick(now), now)
    assert parent._trees[VTAG, A].groups[GROUP].children_up == {UP}
    assert child._trees[VTAG, A].groups[GROUP].parent_up


def test_a_parent_that_still_leads_to_the_root_carries_until_the_new_one_has_for_half_a_second() -> None:
    trees = on_a_tree(parent=UP)
    told = trees.root_is(VTAG, A, OTHER, 10.0, lambda trunk: trunk == UP)
    group = trees.group(VTAG, A, GROUP)
    assert group is not None
    assert [(trunk, type(one)) for trunk, one in told] == [(OTHER, Join)]
    assert group.edges() == [UP]
    trees.joined(OTHER, Joined(VTAG, A, GROUP), 10.2)
    assert (group.edges(), group.prepared()) == ([UP], [UP, OTHER])
    assert trees.next_deadline() == 10.2 + tree.HANDOVER_S
    told = trees.tick(10.2 + tree.HANDOVER_S)
    assert [(trunk, type(one)) for trunk, one in told] == [(UP, Leave)]
    assert group.edges() == [OTHER]
    assert group.ways_on(UP) == [], "what it still brings is taken"
    trees.tick(10.2 + tree.HANDOVER_S + tree.FADE_S)
    assert group.ways_on(UP) is None
    assert trees.next_deadline() is None


def test_during_a_handover_frames_of_the_former_parent_go_to_children_alone_and_those_of_the_new_one_nowhere() -> None:
    trees = on_a_tree(parent=UP)
    trees.join_untrusted(DOWN, join(), 9.0)
    trees.root_is(VTAG, A, OTHER, 10.0, lambda trunk: trunk == UP)
    trees.joined(OTHER, Joined(VTAG, A, GROUP), 10.2)
    group = trees.group(VTAG, A, GROUP)
    assert group is not None
    assert (group.ways_on(UP), group.ways_on(OTHER), group.ways_on(DOWN)) == ([DOWN], None, [UP])
    assert group.is_prepared_for(OTHER)
    trees.tick(10.2 + tree.HANDOVER_S)
    assert (group.ways_on(UP), group.ways_on(OTHER), group.ways_on(DOWN)) == ([DOWN], [DOWN], [OTHER])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_former_parent_that_leads_there_no_more_is_left_at_once(when: str) -> None:
    trees = on_a_tree(parent=UP)
    trees.root_is(VTAG, A, OTHER, 10.0, lambda trunk: trunk == UP)
    if when == "after":
        trees.joined(OTHER, Joined(VTAG, A, GROUP), 10.2)
    told = trees.root_is(VTAG, A, OTHER, 10.3, lambda _trunk: False)
    assert (UP, Leave(VTAG, A, GROUP)) in told
    group = trees.group(VTAG, A, GROUP)
    assert group is not None
    assert group.edges() == ([OTHER] if when == "after" else [])


def test_a_former_parent_that_falls_silent_or_becomes_a_child_is_no_parent_any_more() -> None:
    for end in ("silent", "down", "child", "left"):
        trees = on_a_tree(parent=UP)
        trees.root_is(VTAG, A, OTHER, 10.0, lambda trunk: trunk == UP)
        trees.joined(OTHER, Joined(VTAG, A, GROUP), 10.2)
        match end:
            case "silent":
                trees.trunk_silent(UP)
            case "down":
                trees.trunk_down(UP, 10.3)
            case "child":
                trees.join_untrusted(UP, join(), 10.3)
            case "left":
                trees.left(UP, Leave(VTAG, A, GROUP), 10.3)
        group = trees.group(VTAG, A, GROUP)
        assert group is not None
        assert group.edges() == ([OTHER, UP] if end == "child" else [OTHER]), end


def test_a_parent_that_is_the_best_again_during_a_handover_was_never_left() -> None:
    trees = on_a_tree(parent=UP)
    trees.root_is(VTAG, A, OTHER, 10.0, lambda trunk: trunk == UP)
    told = trees.root_is(VTAG, A, UP, 10.1, lambda trunk: trunk == OTHER)
    group = trees.group(VTAG, A, GROUP)
    assert group is not None
    assert group.edges() == [UP]
    assert [trunk for trunk, one in told if isinstance(one, Leave)] == [OTHER]


def test_own_frames_stay_on_the_former_tree_until_a_better_root_s_tree_had_the_time_to_form() -> None:
    trees = on_a_tree(parent=UP)
    trees.root_is(VTAG, B, OTHER, 10.0)
    trees.interest(join(B), 10.0)
    trees.joined(OTHER, Joined(VTAG, B, GROUP), 10.1)
    assert trees.sending_group(VTAG, GROUP)[0] == A  # type: ignore[index]
    trees.tick(10.1 + tree.HANDOVER_S)
    assert trees.sending_group(VTAG, GROUP)[0] == B  # type: ignore[index]


def test_own_frames_go_by_the_new_tree_at_once_where_the_former_root_is_gone() -> None:
    trees = Trees()
    trees.root_is(VTAG, B, UP, 0.0)
    trees.interest(join(B), 0.0)
    trees.joined(UP, Joined(VTAG, B, GROUP), 0.1)
    trees.root_is(VTAG, A, OTHER, 10.0)  # a worse one: the better is gone
    trees.interest(join(A), 10.0)
    trees.joined(OTHER, Joined(VTAG, A, GROUP), 10.1)
    assert trees.sending_group(VTAG, GROUP)[0] == A  # type: ignore[index]


def on_a_tree(parent: TrunkId) -> Trees:
    """A member of the tree of A that has been there for a while."""
    trees = Trees()
    trees.root_is(VTAG, A, parent, 0.0)
    trees.interest(join(), 0.0)
    trees.joined(parent, Joined(VTAG, A, GROUP), 0.1)
    trees.tick(5.0)
    return trees
