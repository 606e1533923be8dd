"""Whom to dial: who is always wanted, who only now and then, and how often."""

import itertools

from peertap.mesh.book import (
    ALWAYS_AT_ONCE,
    GIVE_UP_FAILURES,
    MAX_PEERS,
    MOST_S,
    OTHERS_AT_ONCE,
    QUICK_AT_ONCE,
    QUICK_FOR_S,
    QUICK_S,
    RULES,
    SOON_MOST_S,
    PeerBook,
    Source,
)
from peertap.types import PeerId

ME = PeerId(b"me".ljust(38, b"."))


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(38, "big"))


def address(number: int, host: int = 1) -> str:
    return f"/ip4/192.0.2.{host}/tcp/4511/p2p/{number}"


def book() -> PeerBook:
    numbers = itertools.cycle((0.1, 0.9, 0.5, 0.3, 0.7))
    return PeerBook(ME, lambda: next(numbers))


def drive(found: PeerBook, begin: float, end: float, *, attempt_s: float = 0.5) -> list[tuple[float, PeerId, bool]]:
    """Dials all that is wanted, in vain; returns when whom, and whether quickly."""
    dialled, under_way, now = [], [], begin
    while now < end:
        for over_at, one in [one for one in under_way if one[0] <= now]:
            under_way.remove((over_at, one))
            found.failed(one.peer, now, is_quick=one.is_quick)
            found.ended(one.peer)
        for one in found.wanted(now):
            dialled.append((now, one.peer, one.is_quick))
            under_way.append((now + attempt_s, one))
        due_at = min([found.next_deadline(now), *(over_at for over_at, _ in under_way)])
        assert due_at > now or under_way, "it would turn in a circle"
        now = max(due_at, now + 0.001)
    return dialled


def test_a_configured_peer_is_dialled_at_once_and_for_ever() -> None:
    found = book()
    found.learn(Source.CONFIGURED, peer(1), [address(1)], 0.0)
    times = [at for at, *_ in drive(found, 0.0, 3600.0)]
    assert times[0] == 0.0
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert max(gap for at, gap in zip(times, gaps, strict=False) if at < 55) <= SOON_MOST_S + 0.6
    assert max(gaps) <= MOST_S + 0.6
    assert 3600 / (MOST_S + 0.5) <= len(times) <= 60 * 4 + 3600 / (MOST_S / 2)


def test_what_worked_last_is_tried_first() -> None:
    found = book()
    found.learn(Source.CONFIGURED, peer(1), [address(1, 1), address(1, 2)], 0.0)
    found.wanted(0.0)
    found.reached(peer(1), address(1, 2), 1.0)
    found.ended(peer(1))
    found.lost(peer(1), 100.0)
    assert found.wanted(101.0)[0].addresses == (address(1, 2), address(1, 1))


def test_nobody_is_dialled_twice_at_a_time_nor_while_there_is_a_trunk() -> None:
    found = book()
    found.learn(Source.CONFIGURED, peer(1), [address(1)], 0.0)
    assert len(found.wanted(0.0)) == 1
    assert found.wanted(10.0) == []
    assert found.next_deadline(10.0) == float("inf")
    found.reached(peer(1), address(1), 10.0)
    found.ended(peer(1))
    assert found.wanted(1000.0) == []


def test_an_address_that_comes_while_another_is_silent_is_not_kept_waiting() -> None:
    """It happened: an old announcement repeated the silent address, and the new one waited four seconds."""
    found = book()
    found.learn(Source.RECORD, peer(1), [address(1, 1)], 0.0)
    assert len(found.wanted(0.0)) == 1
    found.learn(Source.LAN, peer(1), [address(1, 1)], 0.4)
    assert found.wanted(0.4) == [], "that one is being dialled"
    found.learn(Source.LAN, peer(1), [address(1, 2)], 0.5)
    assert found.next_deadline(0.5) <= 0.5
    assert [one.addresses for one in found.wanted(0.5)] == [(address(1, 2),)]
    for host in range(3, 9):
        found.learn(Source.LAN, peer(1), [address(1, host)], 0.6)
        found.wanted(0.6)
    found.learn(Source.LAN, peer(1), [address(1, 9)], 0.7)
    assert found.wanted(0.7) == [], "nobody makes us dial one peer in many ways at a time"
    found.ended(peer(1))
    assert len(found.wanted(0.8)) == 1


def test_of_thousands_that_were_heard_of_few_are_dialled_at_a_time() -> None:
    found = book()
    for number in range(1, 3001):
        found.learn(Source.TOLD, peer(number), [address(number)], 0.0)
    assert len(found.wanted(0.0)) == min(OTHERS_AT_ONCE, RULES[Source.TOLD].share)
    for number in range(3001, 3101):
        found.learn(Source.CONFIGURED, peer(number), [address(number)], 1.0)
    assert len(found.wanted(1.0)) == ALWAYS_AT_ONCE, "others do not stand in the way of those who were chosen"


def test_strangers_are_left_alone_once_there_are_trunks() -> None:
    found = book()
    found.reached(peer(100), None, 0.0)
    for source, number in ((Source.RELAY, 1), (Source.BOOTSTRAP, 2), (Source.CACHED, 3)):
        found.learn(source, peer(number), [address(number)], 0.0)
    assert [one.peer for one in found.wanted(0.0)] == [peer(3)]
    found.reached(peer(101), None, 0.0)
    found.lost(peer(100), 1.0)
    found.lost(peer(101), 1.0)
    assert {one.peer for one in found.wanted(1.0)} == {peer(1), peer(2)}


def test_a_source_gets_no_more_than_its_share() -> None:
    found = book()
    for number in range(1, 50):
        found.learn(Source.LAN, peer(number), [address(number)], 0.0)
    for _ in range(50):
        for one in found.wanted(0.0):
            found.reached(one.peer, one.addresses[0], 0.0)
            found.ended(one.peer)
    assert found.trunks == RULES[Source.LAN].share


def test_a_peer_nobody_chose_is_given_up_and_comes_back_when_it_is_heard_of() -> None:
    found = book()
    found.learn(Source.LAN, peer(1), [address(1)], 0.0)
    assert len(drive(found, 0.0, 100_000.0)) == GIVE_UP_FAILURES
    assert len(found) == 0
    found.learn(Source.LAN, peer(1), [address(1)], 100_000.0)
    assert len(found.wanted(100_000.0)) == 1


def test_after_a_partition_of_a_minute_a_few_are_tried_every_two_seconds_in_turn() -> None:
    found = book()
    for number in range(1, 17):
        found.learn(Source.CONFIGURED, peer(number), [address(number)], 0.0)
    for one in found.wanted(0.0):
        found.reached(one.peer, one.addresses[0], 0.1)
        found.ended(one.peer)
    for number in range(1, 17):
        found.lost(peer(number), 1000.0)
    dialled = drive(found, 1000.0, 1120.0)
    late = [one for one in dialled if one[0] > 1030.0]
    times = [at for at, *_ in late]
    assert max(after - before for before, after in itertools.pairwise(times)) <= QUICK_S
    quick = [one for one in late if one[2]]
    assert {who for _, who, _ in quick} == {peer(number) for number in range(1, 17)}, "all have their turn"
    spans = 90.0 / (QUICK_S / 2)
    assert len(quick) <= QUICK_AT_ONCE * (spans + 1), "no storm"
    assert drive(found, 1000.0 + QUICK_FOR_S + 30, 1000.0 + QUICK_FOR_S + 60)[0][2] is False


def test_a_lost_neighbours_other_addresses_are_tried_too() -> None:
    """Quick dials take one address; a peer that has moved has to be found at another."""
    found = book()
    found.learn(Source.CONFIGURED, peer(1), [address(1, 1), address(1, 2)], 0.0)
    found.wanted(0.0)
    found.reached(peer(1), address(1, 1), 0.0)
    found.ended(peer(1))
    found.lost(peer(1), 100.0)
    full = [at for at, _, is_quick in drive(found, 100.0, 200.0, attempt_s=2.0) if not is_quick]
    assert len(full) >= 6


def test_a_trunk_that_ends_at_once_again_and_again_is_not_dialled_in_a_circle() -> None:
    found = book()
    found.learn(Source.CONFIGURED, peer(1), [address(1)], 0.0)
    now, dials = 0.0, 0
    while now < 60.0:
        for one in found.wanted(now):
            dials += 1
            found.reached(one.peer, one.addresses[0], now)
            found.ended(one.peer)
            found.lost(one.peer, now + 0.01)
        now = max(found.next_deadline(now), now + 0.01)
    assert dials <= 120, "no more often than a peer that does not answer"


def test_who_is_no_longer_configured_is_no_longer_dialled() -> None:
    found = book()
    found.replace(Source.CONFIGURED, {peer(1): [address(1)], peer(2): [address(2)]}, 0.0)
    found.learn(Source.TOLD, peer(1), [address(1, 9)], 0.0)
    found.replace(Source.CONFIGURED, {peer(2): [address(2)]}, 1.0)
    assert [one.peer for one in found.wanted(1.0)] == [peer(2)]
    assert not found.is_chosen(peer(1))


def test_a_full_book_forgets_the_least_promising_and_never_whom_the_operator_chose() -> None:
    found = book()
    for number in range(1, MAX_PEERS + 1):
        found.learn(Source.TOLD, peer(number), [address(number)], 0.0)
    found.learn(Source.RELAY, peer(MAX_PEERS + 1), [address(1)], 0.0)
    assert found.addresses(peer(MAX_PEERS + 1)) == (), "a stranger drives nobody out"
    found.learn(Source.CONFIGURED, peer(MAX_PEERS + 2), [address(1)], 0.0)
    assert found.is_chosen(peer(MAX_PEERS + 2))
    assert len(found) == MAX_PEERS


def test_a_node_does_not_dial_itself() -> None:
    found = book()
    found.learn(Source.LAN, ME, [address(1)], 0.0)
    assert len(found) == 0
