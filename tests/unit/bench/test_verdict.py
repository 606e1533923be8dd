"""Ratios, margins, and what holds."""

import json

import pytest

from tools.bench.axes import AXIS_NAMES, PEER_NAMES
from tools.bench.result import NoResultError, Result, parse_rows
from tools.bench.verdict import HELD_AXES, MAX_MARGIN, Comparison, best_peer, compare, held, medians, ratios

Rows = dict[str, dict[str, float | None]]


def of(rows: Rows, axis: str) -> dict[str, Comparison]:
    """The comparisons of an axis, by reference."""
    return {comparison.reference: comparison for comparison in compare(rows) if comparison.axis == axis}


def holds(rows: Rows, axis: str) -> bool:
    return held(compare(rows), rows)[axis]


def test_a_row_has_the_medians_of_its_rounds_and_none_where_nothing_was_measured() -> None:
    rows = medians({"fastd": {"tcp1": [900.0, 700.0, 800.0]}}, ("fastd", "tinc"), ("tcp1", "tcp4"))
    assert rows == {"fastd": {"tcp1": 800.0, "tcp4": None}, "tinc": {"tcp1": None, "tcp4": None}}


def test_speed_is_held_against_each_reference_and_the_margin_is_the_smallest() -> None:
    rows: Rows = {"peertap": {"tcp1": 9000.0}, "fastd": {"tcp1": 1000.0}, "veth-nooffload": {"tcp1": 6000.0}}
    found = of(rows, "tcp1")
    assert set(found) == {"fastd", "veth-nooffload"}
    assert found["fastd"].ratio == 9.0
    assert found["fastd"].margin == pytest.approx(9 / 8)
    assert found["veth-nooffload"].margin == pytest.approx(1.5 / 1.2)
    assert ratios(compare(rows))["tcp1"] == pytest.approx(9 / 8)
    assert holds(rows, "tcp1")


def test_one_comparison_that_fails_is_enough_for_the_axis() -> None:
    rows: Rows = {"peertap": {"tcp1": 9000.0}, "fastd": {"tcp1": 1000.0}, "tincr-tun-aes": {"tcp1": 4200.0}}
    assert not holds(rows, "tcp1")
    assert ratios(compare(rows))["tcp1"] < 1.0


def test_a_limit_from_above_has_its_margin_the_other_way_round() -> None:
    rows: Rows = {"peertap": {"cpu_s_per_gb": 1.0}, "fastd": {"cpu_s_per_gb": 10.0}}
    found = of(rows, "cpu_s_per_gb")["fastd"]
    assert found.ratio == pytest.approx(0.1)
    assert found.margin == pytest.approx(1.2)
    assert found.held


def test_exactly_what_is_wanted_holds() -> None:
    assert holds({"peertap": {"join_ms": 1500.0}}, "join_ms")
    assert not holds({"peertap": {"join_ms": 1500.1}}, "join_ms")


def test_the_best_peer_is_neither_a_cable_nor_peertap() -> None:
    rows: Rows = {
        "peertap": {"udp64_pps": 9e5}, "veth": {"udp64_pps": 5e5}, "veth-nooffload": {"udp64_pps": 4e5},
        "fastd": {"udp64_pps": 8e4}, "tincr-tap-aes": {"udp64_pps": 1.7e5}, "tinc": {"udp64_pps": None},
    }  # fmt: skip
    assert best_peer(rows, "udp64_pps", most=True) == "tincr-tap-aes"
    assert best_peer(rows, "udp64_pps", most=False) == "fastd"
    assert best_peer({"peertap": {"udp64_pps": 1.0}}, "udp64_pps", most=True) is None
    assert of(rows, "udp64_pps").keys() == {"tincr-tap-aes"}


def test_the_99th_percentile_is_held_against_the_peer_with_the_best_median() -> None:
    rows: Rows = {
        "peertap": {"rtt_ms": 0.2, "rtt_p99_ms": 0.35},
        "fastd": {"rtt_ms": 0.19, "rtt_p99_ms": 0.4},
        "tinc": {"rtt_ms": 0.3, "rtt_p99_ms": 0.31},
    }
    assert of(rows, "rtt_p99_ms").keys() == {"fastd"}
    assert holds(rows, "rtt_ms")
    assert holds(rows, "rtt_p99_ms")


def test_a_bad_link_is_held_against_the_bare_link() -> None:
    rows: Rows = {"peertap": {"loss1_tcp1": 5.0}, "veth": {"loss1_tcp1": 5.5}, "fastd": {"loss1_tcp1": 9.0}}
    assert of(rows, "loss1_tcp1").keys() == {"veth"}
    assert holds(rows, "loss1_tcp1")


@pytest.mark.parametrize(
    ("growth", "recovery_s", "trunk", "good"),
    [(0.0, 0.0, 1.0, True), (9.9, 0.9, 1.0, True), (10.1, 0.1, 1.0, False), (1.0, 1.1, 1.0, False), (1, 0.1, 0, False)],
)
def test_an_overload_must_leave_memory_trunk_and_answers_alone(
    growth: float, recovery_s: float, trunk: float, good: bool
) -> None:
    rows: Rows = {"peertap": {"overload": growth, "overload_recovery_s": recovery_s, "overload_trunk": trunk}}
    assert holds(rows, "overload") is good


def test_an_overload_of_which_a_part_was_not_measured_does_not_hold() -> None:
    assert not holds({"peertap": {"overload": 0.0, "overload_trunk": 1.0}}, "overload")


def test_nothing_holds_where_nothing_was_shown() -> None:
    assert held(compare({}), {}) == dict.fromkeys(HELD_AXES, False)
    only_others: Rows = {"fastd": {"tcp1": 800.0}, "veth": {"tcp1": 40000.0}}
    assert not holds(only_others, "tcp1")
    only_ours: Rows = {"peertap": {"tcp1": 9000.0}}
    assert compare(only_ours) == []
    assert not holds(only_ours, "tcp1")


def test_a_figure_of_zero_gives_a_bounded_margin() -> None:
    rows: Rows = {"peertap": {"overload": -0.5, "relay_tcp1": 0.0}, "fastd": {"relay_tcp1": 400.0}}
    margins = ratios(compare(rows))
    assert margins["overload"] == MAX_MARGIN
    assert margins["relay_tcp1"] == 0.0
    rows = {"peertap": {"relay_tcp1": 5.0}, "fastd": {"relay_tcp1": 0.0}}
    assert ratios(compare(rows))["relay_tcp1"] == MAX_MARGIN


def test_the_result_is_one_line_of_json_with_all_peers_and_axes() -> None:
    result = Result(absent={"easytier": "easytier not found"})
    result.add("peertap", {"tcp1": 9000.0, "status_ms": 150.0})
    result.add("peertap", {"tcp1": 8000.0})
    result.add("fastd", {"tcp1": 800.0})
    line = result.emit()
    assert "\n" not in line
    content = json.loads(line)
    assert tuple(content["rows"]) == PEER_NAMES
    assert all(tuple(row) == AXIS_NAMES for row in content["rows"].values())
    assert content["rows"]["peertap"]["tcp1"] == 8500.0
    assert set(content["rows"]["easytier"].values()) == {None}
    assert content["absent"] == {"easytier": "easytier not found"}
    assert content["held"]["status_ms"] is True
    assert content["held"]["tcp4"] is False
    assert content["ratios"]["tcp1"] == pytest.approx(8500 / 800 / 8, abs=1e-4)
    (detail,) = [detail for detail in content["details"] if detail["axis"] == "tcp1"]
    assert (detail["reference"], detail["reference_value"], detail["factor"], detail["held"]) == ("fastd", 800, 8, True)


def test_a_saved_result_is_read_from_the_last_line_or_as_a_whole() -> None:
    result = Result()
    result.add("fastd", {"tcp1": 800.0})
    assert parse_rows(f"set-up: ready\n{result.emit()}\n")["fastd"]["tcp1"] == 800.0
    assert parse_rows(json.dumps(result.content(), indent=2))["fastd"]["tcp1"] == 800.0


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", '{"rows": 3}', '{"rows": {"fastd": 1}}', '{"rows": {"a": {"x": "y"}}}']
)
def test_a_text_without_a_result_is_refused(text: str) -> None:
    with pytest.raises(NoResultError):
        parse_rows(text)
