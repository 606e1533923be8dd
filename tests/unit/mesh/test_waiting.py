"""When a table of routes looks again at what waits."""

from peertap.mesh.waiting import GONE_S, LOOK_GAP_S, Waiting
from peertap.types import Token, VTag


def key(number: int) -> tuple[VTag, Token]:
    return VTag(bytes(16)), Token(number.to_bytes(16, "big"))


def test_tokens_that_go_one_by_one_are_looked_at_together() -> None:
    """A neighbour that withdrew 2,000 tokens a second, each at its own time, cost a look through all for each."""
    waiting, looks, found = Waiting(), 0, 0
    for number in range(2000):
        waiting.go(key(number), number / 2000, number / 2000)
    while (due_at := waiting.next_deadline()) is not None:
        assert waiting.is_due(due_at)
        looks += 1
        for _, since in waiting.take_gone(due_at):
            found += 1
            assert since + GONE_S <= due_at <= since + GONE_S + LOOK_GAP_S + 0.001
        waiting.looked(due_at)
    assert found == 2000
    assert looks <= 1 / LOOK_GAP_S + 1


def test_a_token_that_goes_again_waits_again() -> None:
    waiting = Waiting()
    waiting.go(key(1), 0.0, 0.0)
    waiting.go(key(2), 1.0, 1.0)
    waiting.go(key(1), 2.0, 2.0)
    assert waiting.take_gone(GONE_S + 1.5) == [(key(2), 1.0)]
    assert waiting.take_gone(GONE_S + 2.0) == [(key(1), 2.0)]
