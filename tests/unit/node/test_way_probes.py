"""The machine that finds ways that swallow frames."""

import itertools

import pytest

from peertap.node.way_probes import (
    ACTIVE_S,
    ANSWER_S,
    ANSWERS,
    CHECK_S,
    DEMOTED_FIRST_S,
    DEMOTED_MOST_S,
    MAX_UNDER_WAY,
    MAX_WAYS,
    PROBE_GAP_S,
    PROBES,
    QUIET_CHECK_S,
    TRANSITIONS,
    WAIT_S,
    Changed,
    WayProbes,
    WayState,
)
from peertap.types import PeerId

X, Y, Z = (PeerId(name) for name in (b"x", b"y", b"z"))
REPORT_S = 0.5
WORST_S = CHECK_S + (PROBES - 1) * PROBE_GAP_S + WAIT_S


class World:
    """A member, ways that answer or not after a round trip, and a data plane that reports each half second."""

    def __init__(self, used: tuple[PeerId, ...] = (X,), others: tuple[PeerId, ...] = (Y,), rtt_s: float = 0.02) -> None:
        self.now, self.rtt_s = 100.0, rtt_s
        self.used, self.others, self.dead = used, others, set[PeerId]()
        self.sends, self.hears = True, True
        self.probes = WayProbes(self.now)
        self.sent: list[tuple[float, PeerId]] = []
        self.changes: list[tuple[float, Changed]] = []
        self._numbers = itertools.count()
        self._coming: list[tuple[float, int]] = []
        self._report_at = self.now

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            dues = [self._report_at, self.probes.next_deadline(self.now), *(at for at, _ in self._coming)]
            if min(dues) > end:
                self.now = end
                return
            self.now = max(self.now, min(dues))
            if self._report_at <= self.now:
                self._report_at = self.now + REPORT_S
                self.probes.ways_are(self.used, self.others)
                if self.sends:
                    self.probes.traffic(self.now, heard=self.hears)
            for number in [number for at, number in self._coming if at <= self.now]:
                self.probes.answered(number, self.now)
            self._coming = [one for one in self._coming if one[0] > self.now]
            before = len(self.sent)
            for way, number in self.probes.tick(self.now, lambda: next(self._numbers)):
                self.sent.append((self.now, way))
                if way not in self.dead:
                    self._coming.append((self.now + self.rtt_s, number))
            assert len(self.sent) - before <= MAX_WAYS
            self.changes += [(self.now, change) for change in self.probes.changes]
            self.probes.changes.clear()


def test_no_state_is_dead_and_none_is_without_a_way_in() -> None:
    assert {state for state, _ in TRANSITIONS} == set(TRANSITIONS.values()) == set(WayState)


def test_a_sound_way_is_asked_once_each_check_and_others_are_not() -> None:
    world = World()
    world.run(10 * CHECK_S)
    assert {way for _, way in world.sent} == {X}
    assert 10 <= len(world.sent) <= 12
    assert not world.probes.demoted


def test_without_frames_nobody_is_asked() -> None:
    world = World()
    world.run(5)
    world.sends = False
    world.run(ACTIVE_S + REPORT_S)
    asked = len(world.sent)
    world.run(600)
    assert len(world.sent) == asked


@pytest.mark.parametrize("heard", [True, False])
def test_a_way_that_swallows_is_demoted_within_five_seconds_and_others_stay(heard: bool) -> None:
    world = World()
    world.run(7.3)
    world.dead, world.hears, began = {X}, heard, world.now
    world.run(WORST_S + 0.1)
    assert world.probes.demoted == {X}
    ((at, change),) = world.changes
    assert change == Changed(X, True)
    assert at - began <= (WORST_S if heard else QUIET_CHECK_S + REPORT_S + WORST_S - CHECK_S) < 5


def test_a_member_that_answers_by_no_way_demotes_nobody_and_is_asked_ever_less_often() -> None:
    world = World()
    world.run(5)
    world.dead, world.hears = {X, Y}, False
    world.run(60)
    asked = len(world.sent)
    world.run(300)
    assert not world.probes.demoted and not world.changes
    assert (len(world.sent) - asked) / 300 < 0.5


def test_a_backup_that_swallows_is_known_before_it_is_needed_only_when_the_way_in_use_is_in_doubt() -> None:
    world = World(others=(Y, Z))
    world.dead = {X, Y}
    world.run(WORST_S + 1)
    assert world.probes.demoted == {X, Y}


def test_probes_that_are_lost_for_a_moment_demote_nobody() -> None:
    world = World()
    world.run(2)
    world.dead = {X}
    world.run(CHECK_S - 2 + 2 * PROBE_GAP_S)
    world.dead = set()
    world.run(60)
    assert not world.changes


def test_a_way_that_is_mended_is_used_again_after_three_answers_and_stays() -> None:
    world = World()
    world.dead = {X}
    world.run(WORST_S + 0.1)
    assert world.probes.demoted == {X}
    world.dead, world.used, world.others, began = set(), (Y,), (X,), world.now
    world.run(DEMOTED_FIRST_S + ANSWERS * (PROBE_GAP_S + world.rtt_s) + 0.1)
    assert not world.probes.demoted
    assert world.changes[-1][1] == Changed(X, False)
    assert world.changes[-1][0] - began <= DEMOTED_FIRST_S + ANSWERS * (PROBE_GAP_S + world.rtt_s)
    world.run(600)
    assert len(world.changes) == 2


def test_a_way_that_stays_broken_is_tried_ever_less_often() -> None:
    world = World()
    world.dead = {X}
    world.run(WORST_S + 0.1)
    world.used, world.others = (Y,), (X,)
    world.run(3600)
    tries = [at for at, way in world.sent if way == X][PROBES:]
    assert 10 <= len(tries) <= 15
    assert max(later - earlier for earlier, later in itertools.pairwise(tries)) >= DEMOTED_MOST_S
    assert world.probes.demoted == {X} and len(world.changes) == 1


def test_a_relay_that_answers_when_it_is_tried_and_swallows_when_it_is_used_gets_frames_ever_more_rarely() -> None:
    world, used_s = World(), 0.0
    for _ in range(7200):
        demoted = X in world.probes.demoted
        world.dead = set() if demoted else {X}
        world.used, world.others = ((Y,), (X,)) if demoted else ((X,), (Y,))
        used_s += 0.0 if demoted else 1.0
        world.run(1.0)
    assert used_s / 7200 < 0.03


def test_two_ways_in_use_are_asked_each_and_only_the_one_that_swallows_is_demoted() -> None:
    world = World(used=(X, Y), others=())
    world.run(CHECK_S)
    assert {way for _, way in world.sent} == {X, Y}
    world.dead = {Y}
    world.run(WORST_S + 0.1)
    assert world.probes.demoted == {Y}


def test_a_way_whose_answers_are_late_is_no_worse_than_others() -> None:
    world = World(rtt_s=1.5)
    world.run(120)
    assert not world.probes.demoted


def test_where_the_last_way_fails_too_a_demoted_one_that_is_mended_is_taken_before_its_time() -> None:
    world = World()
    world.dead = {X}
    world.run(WORST_S + 200)  # its next try is minutes away
    world.used, world.others = (Y,), (X,)
    world.dead, world.hears = {Y}, False
    world.run(15)
    assert world.probes.demoted == {Y}


def test_answers_to_nothing_change_nothing() -> None:
    world = World()
    world.dead = {X, Y}
    world.run(0.1)
    assert not world.probes.answered(12345, world.now)
    assert not world.probes.answered(0, world.now + ANSWER_S + 1)
    assert world.probes.answered(0, world.now) is False  # it was taken the first time


def test_ways_and_probes_are_bounded() -> None:
    probes = WayProbes(0.0)
    many = tuple(PeerId(bytes((number,))) for number in range(40))
    numbers = itertools.count()
    for step in range(400):
        now = step * 0.25
        probes.ways_are(many[step % 30 : step % 30 + 3], many[30:])
        probes.traffic(now, heard=False)
        probes.tick(now, lambda: next(numbers))
        assert len(probes._ways) <= MAX_WAYS
        assert len(probes._under_way) <= MAX_UNDER_WAY
