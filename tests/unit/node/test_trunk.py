"""When a silent neighbour is asked whether it is there, and when it is given up."""

import pytest

from peertap._core import AES_256_GCM
from peertap.mesh.score import link_cost
from peertap.node.events import TrunkOpened
from peertap.node.round_trip import SAMPLES
from peertap.node.trunk import DEAD_AFTER_PINGS, PING_AFTER_ON_UDP_S, PING_AFTER_S, PING_GAP_S, Trunk
from peertap.wire.control import Indexes
from tests.support.identities import identity
from tests.support.mesh import SimKeys

THERE = ("192.0.2.1", 4511)


def new_trunk() -> Trunk:
    opened = TrunkOpened(1, identity("b").peer_id, "tcp", True, None, True, SimKeys(0, 1), AES_256_GCM)
    return Trunk(opened, udp_allowed=True, max_payload=1400, now=0.0)


@pytest.fixture
def trunk() -> Trunk:
    """A trunk that is up since 0 s, its round trip just measured."""
    made = new_trunk()
    (ping,) = made.pings_due(PING_GAP_S, bytes)
    made.ponged(ping.id, PING_GAP_S)
    for _ in range(SAMPLES - 1):
        made.rtt_measured(0.0, PING_GAP_S)
    made.heard(PING_GAP_S)
    return made


def next_ping(trunk: Trunk, after: float) -> float:
    """When it asks, to a tenth of a second."""
    tenths = (after + n / 10 for n in range(1, 200))
    return next(at for at in tenths if trunk.pings_due(at, lambda n: bytes([1] * n)))


def test_silence_on_a_stream_is_asked_about_after_three_seconds(trunk: Trunk) -> None:
    assert next_ping(trunk, PING_GAP_S) == pytest.approx(PING_GAP_S + PING_AFTER_S, abs=0.11)


def test_an_idle_trunk_whose_udp_path_is_watched_is_asked_rarely(trunk: Trunk) -> None:
    trunk.choice.found(THERE)
    assert next_ping(trunk, PING_GAP_S) == pytest.approx(PING_GAP_S + PING_AFTER_ON_UDP_S, abs=0.11)


def test_a_lost_udp_path_is_asked_about_at_once_and_the_dead_are_given_up_within_three_seconds(trunk: Trunk) -> None:
    trunk.choice.found(THERE)
    trunk.choice.lost(7.0)
    assert trunk.next_deadline() <= 7.0
    at = 7.0
    for _ in range(DEAD_AFTER_PINGS):
        assert not trunk.is_dead(at)
        assert trunk.pings_due(at, bytes)
        at += PING_GAP_S
    assert trunk.is_dead(at)
    assert at < 10.0


@pytest.mark.parametrize(("rtt_s", "patience_s"), [(0.01, 0.5), (0.3, 1.2)])
def test_a_neighbour_whose_udp_path_is_gone_has_half_a_second_or_four_round_trips_to_answer(
    rtt_s: float, patience_s: float
) -> None:
    trunk = new_trunk()
    trunk.rtt_measured(rtt_s, 1.0)
    trunk.choice.found(THERE)
    assert trunk.path_lost(7.0)
    assert trunk.pings_due(7.0, bytes)
    assert not trunk.seems_gone(7.0 + patience_s - 0.01)
    assert trunk.next_deadline() <= 7.0 + patience_s
    assert trunk.seems_gone(7.0 + patience_s)
    trunk.heard(9.0)
    assert not trunk.seems_gone(9.0)


@pytest.fixture
def on_udp(trunk: Trunk) -> Trunk:
    """The same on a udp path whose round trip was 0.01 s, and was measured at 5 s."""
    trunk.begin_epoch(SimKeys(1, 1), 0.0)
    trunk.peer_ready(Indexes(1, 1, 1), 0.0)
    trunk.choice.found(THERE)
    measured(trunk, 0.01, 0.01, until=5.0)
    return trunk


def test_a_busy_udp_path_is_measured_every_five_seconds(on_udp: Trunk) -> None:
    asked = []
    for tenth in range(50, 360):
        on_udp.heard(tenth / 10)  # it is busy: the data plane has no reason to ask
        asked += [(tenth / 10, address) for address in on_udp.probes_due(tenth / 10)]
    assert asked == [(10.0 + 5.0 * number, THERE) for number in range(6)]


def test_a_round_trip_unlike_the_others_is_measured_again_after_a_second_and_at_most_twice(on_udp: Trunk) -> None:
    """A relay that had become slow was left after 16 s: each of three measurements was waited for 5 s."""
    asked = []
    for tenth in range(50, 260):
        if on_udp.probes_due(tenth / 10):
            asked.append(tenth / 10)
            on_udp.rtt_measured(0.01 * 4 ** len(asked), tenth / 10)  # it is never like the others
    assert asked == [10.0, 11.0, 12.0, 17.0, 18.0, 19.0, 24.0, 25.0]


def measured(trunk: Trunk, *samples_s: float, until: float = 30.0, late_s: float = 0.0) -> int:
    for number, sample in enumerate(samples_s, 1 - len(samples_s)):
        trunk.rtt_measured(sample, until + 5 * number, late_s)
    return trunk.cost


def test_one_late_answer_in_three_changes_no_cost(trunk: Trunk) -> None:
    calm = measured(trunk, 0.01, 0.01, 0.01, 0.01, 0.01)
    assert measured(trunk, 0.5, 0.01, 0.01, 0.5, 0.01) == calm
    assert measured(trunk, 0.5, 0.5, 0.5, 0.5) > calm


def test_what_a_busy_machine_measures_is_taken_for_its_own_lateness_and_a_longer_way_is_not(trunk: Trunk) -> None:
    """32 nodes on two cores: every round trip was "long" while trunks were made, and each change of cost cost more."""
    calm = measured(trunk, 0.01, 0.01, 0.01)
    assert measured(trunk, 0.1, 0.12, 0.09, 0.11, late_s=0.05) == calm
    assert measured(trunk, 0.4, 0.4, 0.4, 0.4, late_s=0.05) > calm
    assert measured(trunk, *[0.01] * 20, late_s=0.05) == link_cost(0.01), "a short one is believed at any time"


def test_a_first_measurement_that_may_be_lateness_says_nothing_and_of_three_the_least_counts() -> None:
    trunk = new_trunk()
    before = trunk.cost
    trunk.rtt_measured(0.2, 1.0, 0.05)
    assert (trunk.rtt_s, trunk.cost) == (None, before)
    trunk.rtt_measured(0.1, 2.0, 0.03)
    assert trunk.rtt_s is None
    trunk.rtt_measured(0.3, 3.0, 0.06)
    assert trunk.rtt_s == 0.1, "a machine that is always late would know none"


def test_lateness_that_makes_no_difference_to_the_cost_does_not_keep_a_trunk_unmeasured() -> None:
    """Flows were not spread: a trunk of 6 ms was unmeasured for 13 s, for its node was 1 ms late."""
    trunk = new_trunk()
    trunk.rtt_measured(0.006, 1.0, 0.0006)
    assert trunk.rtt_s == 0.006


def test_a_trunk_that_was_not_measured_costs_more_than_a_near_one() -> None:
    """What falls stays feasible: costs that rose with the first measurements kept pairs apart after a cut."""
    trunk = new_trunk()
    unmeasured = trunk.cost
    trunk.rtt_measured(0.01, 1.0)
    assert trunk.cost < unmeasured


def test_a_trunk_that_was_measured_on_a_busy_machine_is_short_with_the_second_short_answer() -> None:
    """Its cost fell by a quarter of the way each 5 s, for over a minute, and was no backup for so long."""
    trunk = new_trunk()
    for second in (1, 2, 3):
        trunk.rtt_measured(0.3, second, 0.2)
    assert trunk.rtt_s == 0.3
    trunk.rtt_measured(0.002, 8.0, 0.2)
    trunk.rtt_measured(0.002, 9.0, 0.2)
    assert trunk.rtt_s == 0.002
    trunk.rtt_measured(0.1, 14.0)
    assert trunk.rtt_s == 0.002, "one late answer in three changes nothing"


def test_a_new_trunk_whose_first_answer_was_late_is_short_a_second_later() -> None:
    trunk = new_trunk()
    trunk.rtt_measured(0.01, 1.0)
    trunk.rtt_measured(0.0005, 2.0)
    assert trunk.rtt_s == 0.0005
