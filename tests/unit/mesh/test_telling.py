"""Whom a node tells of its routes, and when: no more than is of use, and nobody is left in the dark."""

from peertap.mesh.audience import AT_ONCE, PACE_S
from peertap.mesh.routes import RouteTable
from peertap.types import Token, TrunkId
from peertap.wire.control import INFINITE_METRIC, MAX_ROUTES_PER_BATCH, Advert, SequenceRequest
from tests.support.routing import KEY, NOW_UNIX, ONE, ORIGIN, THREE, TOKEN, TWO, VTAG, signed, table


def hear(made: RouteTable, trunk: TrunkId, metric: int, now: float, sequence: int = 1, token: bytes = TOKEN) -> None:
    made.received_untrusted(trunk, [Advert(signed(token, ORIGIN, sequence), metric, 1400)], now, NOW_UNIX)


def said(made: RouteTable, now: float) -> dict[TrunkId, list[int]]:
    """The metrics that each neighbour is told now; it has taken them at once."""
    batches = dict(made.batches(now))
    for trunk, batch in batches.items():
        made.acknowledged(trunk, batch.batch, now)
    return {trunk: [advert.metric for advert in batch.adverts] for trunk, batch in batches.items()}


def test_a_neighbour_that_is_nearer_is_not_told_of_a_way_that_it_could_never_use() -> None:
    made = table()
    hear(made, ONE, 50, 0.0)
    hear(made, TWO, 60, 0.0)
    assert said(made, 0.0) == {THREE: [66]}


def test_nobody_is_told_of_a_later_sequence_nearer_than_our_own_next_hop_is() -> None:
    """A loop in a storm: told 145 before, 163 by a later sequence seemed near, and the next hop at 147 went by us."""
    made = table()
    hear(made, ONE, 129, 0.0)
    said(made, 0.0)
    hear(made, TWO, 147, 1.0, sequence=2)
    hear(made, ONE, INFINITE_METRIC, 1.0)
    selected = made.selected(KEY)
    assert selected is not None
    assert (selected.trunk, selected.metric) == (TWO, 163)
    assert said(made, 1.0) == {ONE: [163], TWO: [INFINITE_METRIC], THREE: [163]}
    hear(made, THREE, 150, 2.0, sequence=2)
    assert made.is_feasible(KEY, THREE)  # our distance there is 163


def test_a_neighbour_that_loses_its_own_way_is_told_of_ours() -> None:
    made = table()
    hear(made, ONE, 50, 0.0)
    hear(made, TWO, 60, 0.0)
    said(made, 0.0)
    hear(made, TWO, INFINITE_METRIC, 1.0)
    assert said(made, 1.0) == {TWO: [66]}
    hear(made, TWO, 66, 2.0)
    assert said(made, 2.0) == {}


def test_a_neighbour_whose_way_became_longer_than_ours_is_told_of_ours() -> None:
    made = table()
    hear(made, ONE, 50, 0.0)
    hear(made, TWO, 60, 0.0)
    said(made, 0.0)
    hear(made, TWO, 67, 1.0)
    assert said(made, 1.0) == {TWO: [66]}


def test_a_neighbour_with_an_older_sequence_number_is_told_of_ours_however_near_it_is() -> None:
    made = table()
    hear(made, TWO, 20, 0.0, sequence=1)
    hear(made, ONE, 10, 0.0, sequence=2)
    assert said(made, 0.0) == {TWO: [26], THREE: [26]}


def test_a_loss_is_told_to_those_alone_who_were_told_of_the_way() -> None:
    made = table()
    hear(made, ONE, 50, 0.0)
    hear(made, TWO, 60, 0.0)
    said(made, 0.0)
    made.remove_neighbour(ONE, 1.0)
    assert made.selected(KEY) is not None
    made.remove_neighbour(TWO, 2.0)
    assert said(made, 2.0) == {THREE: [INFINITE_METRIC]}
    assert said(made, 3.0) == {}


def test_the_next_hop_hears_nothing_or_a_withdrawal_where_it_was_told_before() -> None:
    made = table()
    hear(made, ONE, 50, 0.0)
    assert said(made, 0.0) == {TWO: [66], THREE: [66]}
    hear(made, TWO, 10, 20.0)
    assert said(made, 20.0) == {ONE: [26], TWO: [INFINITE_METRIC], THREE: [26]}
    hear(made, ONE, 50, 40.0)
    assert said(made, 40.0) == {}


def test_a_leaf_that_was_told_and_becomes_a_transit_hears_of_the_loss() -> None:
    made = table()
    made.neighbour_is_leaf(TWO, is_leaf=True)
    made.want(TWO, [KEY], ())
    hear(made, ONE, 50, 0.0)
    assert said(made, 0.0) == {TWO: [66], THREE: [66]}
    made.neighbour_is_leaf(TWO, is_leaf=False)
    made.remove_neighbour(ONE, 1.0)
    assert said(made, 1.0) == {TWO: [INFINITE_METRIC], THREE: [INFINITE_METRIC]}


def test_a_trunk_that_takes_the_place_of_another_inherits_nothing_that_was_told_there() -> None:
    made = table()
    hear(made, ONE, 50, 0.0)
    said(made, 0.0)
    made.remove_neighbour(TWO, 1.0)
    made.add_neighbour(TrunkId(4), cost=16, mtu=1400)
    assert said(made, 1.0) == {TrunkId(4): [66]}


def test_what_changes_after_much_was_said_goes_together_a_little_later() -> None:
    made = table()
    for number in range(AT_ONCE):
        metric = round(5000 * 0.8**number)
        hear(made, ONE, metric, 0.0)
        assert said(made, 0.0) == {TWO: [metric + 16], THREE: [metric + 16]}
    for number, metric in enumerate((40, 30, 20)):
        hear(made, ONE, metric, 0.01 * number)
    hear(made, ONE, 5, 0.02, token=b"u" * 16)
    assert said(made, 0.03) == {}
    due_at = made.next_batch_at()
    assert due_at is not None
    assert PACE_S <= due_at <= PACE_S + 0.01
    assert said(made, due_at) == {TWO: [36, 21], THREE: [36, 21]}
    assert made.next_batch_at() is None


def test_who_asked_for_a_sequence_number_does_not_wait_with_the_others() -> None:
    made = table()
    hear(made, ONE, 50, 0.0)
    said(made, 0.0)
    made.requested(TWO, SequenceRequest(VTAG, Token(TOKEN), ORIGIN, 2, 32), 0.01)
    hear(made, ONE, 50, 0.02, sequence=2)
    assert said(made, 0.02) == {TWO: [66]}


def test_a_whole_table_goes_as_fast_as_it_is_taken() -> None:
    made = table()
    for number in range(3 * MAX_ROUTES_PER_BATCH):
        hear(made, ONE, 50, 0.0, token=number.to_bytes(16, "big"))
    sizes = [{trunk: len(metrics) for trunk, metrics in said(made, 0.0).items()} for _ in range(3)]
    assert sizes == [{TWO: MAX_ROUTES_PER_BATCH, THREE: MAX_ROUTES_PER_BATCH}] * 3


def test_a_node_that_goes_says_so_at_once() -> None:
    made = table()
    made.own(signed(TOKEN, ORIGIN, 1), 0.0, 2)
    said(made, 0.0)
    made.disown(KEY, 0.01)
    made.hurry()
    assert said(made, 0.01) == {trunk: [INFINITE_METRIC] for trunk in (ONE, TWO, THREE)}
