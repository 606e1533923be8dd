"""Probes: quick at first, rare in the end, and never at what the neighbour may not name."""

import itertools

import pytest

from peertap.node.carrier import MAX_CANDIDATES, PROBE_TIRED_S, PROBE_TRIES, CarrierChoice, unpacked

HERE = ("192.0.2.1", 4511)


def choice(*addresses: tuple[str, int]) -> CarrierChoice:
    made = CarrierChoice(udp_allowed=True, has_stream=True, now=0.0)
    made.offer(addresses or [HERE], 0.0)
    return made


def probe(made: CarrierChoice, times: int) -> list[float]:
    """Probes as each falls due; returns when."""
    out = []
    for _ in range(times):
        at = made.next_deadline()
        assert at is not None
        assert made.due(at)
        out.append(at)
    return out


def gaps(times: list[float]) -> list[float]:
    return [round(late - early, 3) for early, late in itertools.pairwise(times)]


def test_probes_double_from_50_ms_to_a_second_and_after_120_tries_to_15_seconds() -> None:
    between = gaps(probe(choice(), PROBE_TRIES + 20))
    assert between[:6] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert set(between[5 : PROBE_TRIES - 1]) == {1.0}
    assert between[-1] == PROBE_TIRED_S
    assert set(between[PROBE_TRIES + 4 :]) == {PROBE_TIRED_S}


def test_addresses_that_are_named_again_do_not_wake_tired_probes() -> None:
    made = choice()
    now = probe(made, PROBE_TRIES + 20)[-1]
    before = made.next_deadline()
    for _ in range(100):
        made.offer([HERE], now)
    assert made.next_deadline() == before


def test_new_addresses_without_end_are_probed_no_more_than_the_bound_allows() -> None:
    made, now = choice(), 0.0
    now = probe(made, PROBE_TRIES + 20)[-1]
    for number in range(1000):
        made.offer([(f"198.51.{number % 100}.{number // 100}", 5)], now)
    assert len(made.candidates) == MAX_CANDIDATES
    assert gaps(probe(made, 20))[-1] == PROBE_TIRED_S


def test_a_path_that_worked_and_was_lost_is_probed_quickly_again() -> None:
    made = choice()
    now = probe(made, PROBE_TRIES + 20)[-1]
    assert made.found(HERE)
    assert made.next_deadline() is None
    assert made.lost(now)
    assert made.next_deadline() == now
    assert gaps(probe(made, 4)) == [0.05, 0.1, 0.2]


def test_a_deadline_is_never_in_the_past_after_a_probe() -> None:
    made, now = choice(), 50.0
    for _ in range(200):
        made.due(now)
        at = made.next_deadline()
        assert at is not None
        assert at > now
        now = at + 3


@pytest.mark.parametrize(
    ("ip", "port"),
    [(bytes(16), 0), (bytes(10) + b"\xff\xff\xe0\x00\x00\x01", 5), (b"\xff\x02" + bytes(14), 5), (b"\x20" * 16, 0)],
    ids=["nowhere", "multicast 4", "multicast 6", "port 0"],
)
def test_an_endpoint_that_nothing_may_be_sent_to_is_no_candidate(ip: bytes, port: int) -> None:
    assert unpacked(ip, port, "192.0.2.7") is None


def test_where_the_neighbour_is_seen_is_a_candidate_only_if_the_connection_shows_it() -> None:
    assert unpacked(bytes(16), 5, "192.0.2.7") == ("192.0.2.7", 5)
    assert unpacked(bytes(16), 5, None) is None
