"""What moved between two results."""

from tools.bench.compare import emit, moves, verdicts

OLD: dict[str, dict[str, float | None]] = {
    "peertap": {"tcp1": 1000.0, "rtt_ms": 0.2, "tcp4": None, "join_ms": 1000.0, "overload": 0.0},
    "fastd": {"tcp1": 800.0, "rtt_ms": 0.2},
}
NEW: dict[str, dict[str, float | None]] = {
    "peertap": {"tcp1": 9000.0, "rtt_ms": 0.3, "tcp4": 5.0, "join_ms": 1040.0, "overload": 2.0},
    "fastd": {"tcp1": 800.0, "rtt_ms": None},
}


def test_a_change_is_better_or_worse_by_the_axis_and_noise_is_left_out() -> None:
    found = {(move.peer, move.axis): move for move in moves(OLD, NEW)}
    assert found["peertap", "tcp1"].better is True
    assert found["peertap", "tcp1"].share == 8.0
    assert found["peertap", "rtt_ms"].better is False
    assert ("peertap", "join_ms") not in found  # 4 %
    assert ("fastd", "tcp1") not in found
    assert moves(NEW, NEW) == []


def test_figures_that_appear_or_vanish_have_no_share() -> None:
    found = {(move.peer, move.axis): move for move in moves(OLD, NEW)}
    assert (found["peertap", "tcp4"].old, found["peertap", "tcp4"].share) == (None, None)
    assert found["fastd", "rtt_ms"].new is None
    grown = found["peertap", "overload"]
    assert (grown.share, grown.better) == (None, False)


def test_an_axis_that_changes_its_verdict_is_named() -> None:
    assert verdicts(OLD, NEW) == ["tcp1: holds now"]
    assert verdicts(NEW, OLD) == ["tcp1: holds no more"]


def test_the_text_has_a_line_for_each_move() -> None:
    text = emit(OLD, NEW)
    assert len(text.splitlines()) == len(moves(OLD, NEW)) + 1
    assert "+800.0%  better" in text
    assert emit(NEW, NEW) == "nothing moved by more than 5%"
