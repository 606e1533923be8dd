"""How many routes a neighbour may tell: a burst, then a pace, by acknowledgements that wait."""

import pytest

from peertap.errors import PeerError
from peertap.mesh.inflow import ADVERTS_AT_ONCE, ADVERTS_PER_S, Inflow
from peertap.types import TrunkId

ONE, OTHER = TrunkId(1), TrunkId(2)
BATCH = 256


def told_at_once(inflow: Inflow, now: float) -> int:
    """Says batches until one waits; returns the number of that one."""
    for batch in range(ADVERTS_AT_ONCE):
        if not inflow.received(ONE, batch, BATCH, now):
            return batch
    raise AssertionError("none waited")


def test_a_full_table_is_acknowledged_at_once_and_more_at_the_pace() -> None:
    inflow, now = Inflow(), 5.0
    first = told_at_once(inflow, now)
    assert first == ADVERTS_AT_ONCE // BATCH
    assert inflow.due(now) == []
    for batch in range(first + 1, first + 1 + ADVERTS_PER_S // BATCH):
        due_at = inflow.next_deadline()
        assert due_at is not None
        now = due_at
        assert inflow.due(now) == [(ONE, batch - 1)]
        assert not inflow.received(ONE, batch, BATCH, now)
    assert now == pytest.approx(6.0, abs=0.1)
    assert inflow.held_back[ONE] == 1 + ADVERTS_PER_S // BATCH


def test_a_batch_before_the_acknowledgement_of_the_last_is_refused_and_others_go_on() -> None:
    inflow = Inflow()
    told_at_once(inflow, 0.0)
    with pytest.raises(PeerError, match="before the acknowledgement"):
        inflow.received(ONE, 9999, 1, 0.0)
    assert inflow.received(OTHER, 1, BATCH, 0.0)


def test_a_trunk_that_is_gone_leaves_nothing() -> None:
    inflow = Inflow()
    told_at_once(inflow, 0.0)
    inflow.gone(ONE)
    assert inflow.next_deadline() is None
    assert inflow.due(100.0) == []
    assert inflow.received(ONE, 1, BATCH, 0.0)
