"""What a neighbour may ask for."""

from hypothesis import given
from hypothesis import strategies as st

from peertap.mesh.allowance import MARGIN_S, Allowance


def test_so_many_at_once_and_so_many_over_time() -> None:
    allowance = Allowance(3, 2.0, 100.0)
    assert [allowance.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(100.6) for _ in range(2)] == [True, False]
    assert sum(allowance.take(1000.0) for _ in range(10)) == 3, "no more than at once, however long it was quiet"


@given(st.integers(1, 300), st.floats(0.1, 100.0), st.floats(0.0, 1e9), st.data())
def test_what_has_to_wait_may_be_done_at_the_time_that_was_said_and_not_much_sooner(
    most: int, per_s: float, now: float, data: st.DataObject
) -> None:
    allowance, count = Allowance(most, per_s, now), data.draw(st.integers(1, most))
    while allowance.take(now, count):
        pass
    at = allowance.ready_at(count)
    assert now < at <= now + count / per_s + 2 * MARGIN_S
    assert not allowance.take(now + (at - MARGIN_S - now) * 0.99, count)
    assert allowance.take(allowance.ready_at(count), count)
