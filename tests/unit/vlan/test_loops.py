"""Which of the members on one LAN forwards: start, take-over, lost probes, a LAN that splits and joins, a loop."""

import itertools

import pytest

from peertap.vlan.loops import LOST_S, MAX_HEARD, OFF_S, SILENCE_S, LoopGuard, Standing


class Lan:
    """Ports on LANs, by the number of the LAN; probes arrive at once unless they are lost."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.place = dict.fromkeys(names, 1)
        self.ports: dict[str, LoopGuard] = {}
        self.lost: set[str] = set()
        self._numbers = itertools.count(1)
        self._next: dict[str, float] = {}
        self._said: dict[str, tuple[bool, bool]] = {}

    def open(self, name: str) -> None:
        self.ports[name] = LoopGuard(name.encode() * 8, bytes(8), self.now)

    def die(self, name: str) -> None:
        del self.ports[name]

    def run(self, seconds: float) -> float:
        """Returns for how long two ports of one LAN forwarded."""
        both = 0.0
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            for port in self.ports.values():
                port.tick(self.now)
            while sum(self._probe(name) for name in list(self.ports)):
                pass
            for lan in set(self.place.values()):
                both += 0.05 * (len([one for one in self.forwarding() if self.place[one] == lan]) > 1)
        return both

    def forwarding(self) -> list[str]:
        return [name for name, port in self.ports.items() if port.forwards]

    def _probe(self, name: str) -> bool:
        """Sends one where it is due, or where what it says changed."""
        port = self.ports[name]
        says = (port.forwards, port.gap_s > 0)
        if not port.gap_s or (self._next.get(name, 0.0) > self.now and self._said.get(name) == says):
            return False
        self._next[name], self._said[name] = self.now + port.gap_s, says
        number = next(self._numbers)
        for other, heard in self.ports.items():
            if other != name and self.place[other] == self.place[name] and name not in self.lost:
                heard.heard(port.own, number, self.now, forwards=port.forwards)
        return True


def test_a_port_alone_is_silent_for_three_seconds_and_then_forwards() -> None:
    lan = Lan("a")
    lan.open("a")
    lan.run(SILENCE_S - 0.1)
    assert (lan.forwarding(), lan.ports["a"].gap_s) == ([], 0)
    lan.run(0.2)
    assert lan.forwarding() == ["a"]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_of_those_on_one_lan_the_lowest_forwards_in_whatever_order_they_come(order: tuple[str, ...]) -> None:
    lan = Lan("a", "b", "c")
    both = 0.0
    for name in order:
        lan.open(name)
        both += lan.run(5)
    assert (lan.forwarding(), both) == (["a"], 0.0)
    assert [lan.ports[name].standing for name in "bc"] == [Standing.BLOCKED, Standing.BLOCKED]
    assert lan.ports["c"].rival == b"a" * 8


def test_those_that_start_at_one_moment_settle_at_once() -> None:
    lan = Lan("a", "b", "c")
    for name in "bca":
        lan.open(name)
    assert lan.run(4) <= 0.05
    assert lan.forwarding() == ["a"]


def test_the_next_one_takes_over_within_three_seconds_of_the_death_of_the_forwarder() -> None:
    lan = Lan("a", "b", "c")
    for name in "abc":
        lan.open(name)
    lan.run(5)
    lan.die("a")
    lan.run(LOST_S + 0.1)
    assert lan.forwarding() == ["b"]
    assert lan.run(10) == 0
    lan.open("a")
    assert lan.run(6) == 0
    assert lan.forwarding() == ["a"]


def test_a_lost_probe_changes_nothing() -> None:
    lan = Lan("a", "b")
    for name in "ab":
        lan.open(name)
    lan.run(5)
    for _ in range(20):
        lan.lost = {"a"}
        assert lan.run(0.95) == 0
        lan.lost = set()
        assert lan.run(1.2) == 0
        assert lan.forwarding() == ["a"]


def test_a_lan_that_splits_has_two_forwarders_and_when_it_joins_again_one_within_a_second() -> None:
    lan = Lan("a", "b")
    for name in "ab":
        lan.open(name)
    lan.run(5)
    lan.place["b"] = 2
    lan.run(3)
    assert lan.forwarding() == ["a", "b"]
    lan.place["b"] = 1
    assert lan.run(3) <= 1.1
    assert lan.forwarding() == ["a"]


def test_the_lowest_waits_while_a_higher_one_that_does_not_hear_it_forwards() -> None:
    lan = Lan("a", "b")
    lan.lost = {"a"}
    lan.open("b")
    lan.run(5)
    lan.open("a")
    assert lan.run(10) == 0
    assert (lan.ports["a"].standing, lan.ports["a"].rival) == (Standing.WAITING, b"b" * 8)
    lan.lost = set()
    lan.run(1.1)
    assert lan.forwarding() == ["a"]


def test_its_own_probe_switches_a_port_off_until_none_came_back_for_half_a_minute() -> None:
    port = LoopGuard(b"a" * 8, bytes(8), 0.0)
    port.tick(SILENCE_S)
    port.heard_own(4.0)
    assert (port.standing, port.forwards) == (Standing.OFF, False)
    port.heard_own(20.0)
    port.tick(20.0 + OFF_S - 0.1)
    assert port.standing is Standing.OFF
    port.tick(20.0 + OFF_S)
    assert port.standing is Standing.LISTENING
    port.tick(20.0 + OFF_S + SILENCE_S)
    assert port.forwards


def test_a_recording_of_an_older_probe_keeps_no_port_blocked() -> None:
    port = LoopGuard(b"b" * 8, bytes(8), 0.0)
    port.tick(SILENCE_S)
    other = b"a" * 8, bytes(8)
    port.heard(other, 7, 4.0, forwards=True)
    port.heard(other, 7, 6.0, forwards=True)
    port.tick(4.0 + LOST_S)
    assert port.forwards


def test_a_flood_of_invented_handles_is_bounded_and_keeps_the_lowest() -> None:
    port = LoopGuard(b"\xff" * 8, bytes(8), 0.0)
    for number in range(1000, 0, -1):
        port.heard((number.to_bytes(8, "big"), bytes(8)), 1, 1.0, forwards=True)
    assert len(port._heard) == MAX_HEARD
    port.tick(3.0)
    assert port.rival == (1).to_bytes(8, "big")
