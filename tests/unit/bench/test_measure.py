"""Reading what ping, iperf3 and /proc say."""

import os
from collections.abc import Callable

import pytest

from netns.errors import ScenarioFailed
from tools.bench.measure import (
    Datagrams,
    cpu_seconds,
    datagrams_of,
    machine_busy,
    memory_mb,
    percentile,
    ping_times,
    search_rate,
    stream_of,
)

PING = """PING 10.9.0.2 (10.9.0.2) 56(84) bytes of data.
64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=0.181 ms
64 bytes from 10.9.0.2: icmp_seq=2 ttl=64 time=12 ms

--- 10.9.0.2 ping statistics ---
2 packets transmitted, 2 received, 0% packet loss, time 10ms
rtt min/avg/max/mdev = 0.181/6.090/12.000/5.910 ms
"""


def test_round_trips_are_read_from_the_answers_and_not_from_the_summary() -> None:
    assert ping_times(PING) == [0.181, 12.0]


def test_a_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 0.5) == 50.0
    assert percentile([3.0], 0.99) == 3.0


def test_a_stream_counts_what_was_received() -> None:
    end = {"sum_sent": {"bytes": 9}, "sum_received": {"bits_per_second": 2e9, "bytes": 750_000_000}}
    stream = stream_of({"end": end})
    assert (stream.mbps, stream.received_bytes) == (2000.0, 750_000_000)


@pytest.mark.parametrize("said", [{"error": "unable to connect"}, {}, {"end": {"sum_received": {"bytes": 0}}}])
def test_a_stream_that_carried_nothing_is_no_figure(said: dict[str, object]) -> None:
    with pytest.raises(ScenarioFailed):
        stream_of(said)


def test_datagrams_that_never_arrived_count_as_lost_even_without_a_gap() -> None:
    client = {"intervals": [{"sum": {"packets": 600}}, {"sum": {"packets": 400}}], "end": {"sum": {"packets": 1000}}}
    server = {"end": {"sum": {"packets": 900, "lost_packets": 50}}}
    found = datagrams_of(client, server, 2.0)
    assert found == Datagrams(1000, 850, 2.0)
    assert found.received_pps == 425.0
    assert found.loss == pytest.approx(0.15)


def test_without_the_servers_words_the_clients_count() -> None:
    client = {"intervals": [{"sum": {"packets": 10}}], "end": {"sum": {"packets": 10, "lost_packets": 1}}}
    assert datagrams_of(client, {}, 1.0).received == 9


@pytest.mark.parametrize("said", [{"error": "no route"}, {}, {"end": {}, "intervals": []}])
def test_a_udp_run_without_a_result_is_no_figure(said: dict[str, object]) -> None:
    with pytest.raises(ScenarioFailed):
        datagrams_of(said, {}, 1.0)


def tunnel(capacity_pps: float, sender_pps: float = 1e6, breaks_above_pps: float = 1e9) -> Callable[[float], Datagrams]:
    """A tunnel that drops what it cannot carry."""

    def step(rate_pps: float) -> Datagrams:
        sent = min(rate_pps or sender_pps, sender_pps)
        if sent > breaks_above_pps:
            raise ScenarioFailed("no answer")
        return Datagrams(round(sent), round(min(sent, capacity_pps)), 1.0)

    return step


@pytest.mark.parametrize("capacity_pps", [3e3, 6e4, 3.3e5])
def test_the_search_finds_what_the_tunnel_carries_to_five_percent(capacity_pps: float) -> None:
    assert 0.95 * capacity_pps <= search_rate(tunnel(capacity_pps)) <= capacity_pps
    hint_pps = capacity_pps * 1.15
    assert 0.95 * capacity_pps <= search_rate(tunnel(capacity_pps), hint_pps=hint_pps) <= capacity_pps


def test_the_search_ends_at_once_where_the_sender_is_the_limit() -> None:
    assert search_rate(tunnel(9e5, sender_pps=2e5)) == 2e5


def test_a_tunnel_that_a_flood_breaks_is_searched_around_the_guess() -> None:
    fragile = tunnel(6e4, breaks_above_pps=9e4)
    assert 0.94 * 6e4 <= search_rate(fragile, guess_pps=5e4) <= 6e4


def test_a_tunnel_that_always_loses_has_no_rate() -> None:
    with pytest.raises(ScenarioFailed):
        search_rate(lambda rate_pps: Datagrams(1000, 900, 1.0))


def test_this_process_has_cpu_time_and_memory_and_one_that_is_gone_has_none() -> None:
    sum(number * number for number in range(300_000))
    assert cpu_seconds([os.getpid()]) > 0
    assert memory_mb([os.getpid()])[os.getpid()] > 5
    assert cpu_seconds([2**22 + 1]) == 0
    assert memory_mb([2**22 + 1]) == {}


def test_the_machine_was_never_busier_than_it_can_be() -> None:
    busy, had = machine_busy()
    assert 0 < busy <= had
