"""Which visits a run makes."""

import pytest

from tools.bench.axes import AXES, AXIS_NAMES, BARE_ROWS, BY_NAME, PEER_NAMES, PEERS_OF_LINK, READ_WITH, Link, applies
from tools.bench.peers.registry import PEERS
from tools.bench.plan import seconds, visits, with_sources
from tools.bench.report import TABLES
from tools.bench.verdict import HELD_AXES, REQUIREMENTS


def test_a_round_goes_through_all_peers_before_the_next_one_begins() -> None:
    planned = visits(("peertap", "fastd"), {"tcp1", "relay_tcp1"}, 2)
    assert [(visit.round, visit.link, visit.peer) for visit in planned] == [
        (1, Link.DIRECT, "peertap"),
        (1, Link.DIRECT, "fastd"),
        (1, Link.RELAY, "peertap"),
        (1, Link.RELAY, "fastd"),
        (2, Link.DIRECT, "peertap"),
        (2, Link.DIRECT, "fastd"),
        (2, Link.RELAY, "peertap"),
        (2, Link.RELAY, "fastd"),
    ]


def test_all_direct_axes_of_a_peer_are_read_in_one_visit() -> None:
    (visit,) = visits(("fastd",), {"rtt_ms", "tcp1", "tcp4"}, 1)
    assert set(visit.axes) == {"rtt_ms", "tcp1", "tcp4"}


def test_an_axis_that_comes_out_of_another_brings_that_one_along() -> None:
    assert with_sources({"cpu_s_per_gb"}) == {"cpu_s_per_gb", "tcp1"}
    (visit,) = visits(("peertap",), {"overload_trunk"}, 3)
    assert set(visit.axes) == {"overload", "overload_trunk"}


def test_the_dear_links_have_fewer_rounds() -> None:
    planned = visits(("peertap",), {"tcp1", "overload", "idle_cpu", "delay20_tcp1"}, 5)
    rounds = {link: sum(1 for visit in planned if visit.link is link) for link in Link}
    assert (rounds[Link.DIRECT], rounds[Link.OVERLOAD], rounds[Link.IDLE], rounds[Link.DELAY20]) == (5, 1, 1, 2)


def test_a_cable_has_no_daemon_to_measure_and_only_peertap_has_a_status() -> None:
    assert not any(applies(row, axis) for row in BARE_ROWS for axis in ("cpu_s_per_gb", "memory_mb", "join_ms"))
    assert [peer for peer in PEER_NAMES if applies(peer, "status_ms")] == ["peertap"]
    assert not applies("tinc", "loss1_tcp1")
    assert applies("veth", "loss1_tcp1")


def test_a_full_run_of_all_peers_fits_into_forty_minutes() -> None:
    assert seconds(visits(PEER_NAMES, AXIS_NAMES, 3), 3.0) < 40 * 60


def test_the_estimate_grows_with_the_streams() -> None:
    planned = visits(("fastd",), {"tcp1", "tcp4"}, 1)
    assert seconds(planned, 5.0) - seconds(planned, 3.0) == pytest.approx(4.0)


def test_the_names_agree_in_all_tables() -> None:
    assert tuple(PEERS) == PEER_NAMES
    assert len(BY_NAME) == len(AXES)
    assert set(HELD_AXES) <= set(AXIS_NAMES)
    assert {wanted.compared for wanted in REQUIREMENTS} <= set(AXIS_NAMES)
    assert set(READ_WITH) | set(READ_WITH.values()) <= set(AXIS_NAMES)
    assert sorted(axis for _, axes in TABLES for axis in axes) == sorted(AXIS_NAMES)
    assert all(PEERS_OF_LINK[link] <= set(PEER_NAMES) for link in Link)
