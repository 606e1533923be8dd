"""What a neighbour may ask for."""

from peertap.mesh.allowance import Allowance


def test_so_many_at_once_and_so_many_over_time() -> None:
    allowance = Allowance(3, 2.0, 100.0)
    assert [allowance.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(100.6) for _ in range(2)] == [True, False]
    assert sum(allowance.take(1000.0) for _ in range(10)) == 3, "no more than at once, however long it was quiet"
