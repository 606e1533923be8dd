"""Where hosts are: moves, freezing, and what a member cannot do to others' hosts."""

import pytest

from peertap.types import Mac, PeerId
from peertap.vlan import hosts as module
from peertap.vlan.hosts import FROZEN_S, MAX_ALL, MAX_FIRST, MAX_STEP, WINDOW_S, HostTable, Outcome
from peertap.wire.macs import MAX_HOSTS, MAX_MOVES, Add, Host, Placed

ME, A, B, E = (PeerId(name * 38) for name in (b"m", b"a", b"b", b"e"))
VIRTUAL = Mac(bytes.fromhex("020000000001"))


def host(number: int) -> Host:
    return Host(Mac(b"\x06\x00" + number.to_bytes(4, "big")))


X = host(1)


def table() -> HostTable:
    return HostTable(ME, lambda mac: mac == VIRTUAL)


def test_a_host_at_our_port_is_told_once_and_withdrawn_when_it_is_gone() -> None:
    hosts = table()
    out = hosts.seen(X, 0)
    assert (out.add, out.placed) == ([Placed(X, 0)], {X: ME})
    assert hosts.seen(X, 1) == Outcome()
    assert hosts.own() == (Placed(X, 0),)
    out = hosts.gone(X, 2)
    assert (out.withdraw, out.placed, hosts.where(X)) == ([Placed(X, 0)], {X: None}, None)
    assert hosts.gone(X, 3) == Outcome()


def test_a_host_that_moves_to_us_counts_one_up_and_one_that_moves_away_is_withdrawn() -> None:
    hosts = table()
    assert hosts.told(A, [Placed(X, 3)], 0).placed == {X: A}
    out = hosts.seen(X, 1)
    assert (out.add, out.placed) == ([Placed(X, 4)], {X: ME})
    out = hosts.told(B, [Placed(X, 5)], 2)
    assert (out.placed, out.withdraw, out.release) == ({X: B}, [Placed(X, 4)], [X])
    assert hosts.own() == ()


def test_a_counter_that_a_member_drove_to_its_end_ends_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FIRST", MAX_MOVES)  # a quarter of an hour of Adds, each 80 steps up
    hosts, z = table(), PeerId(b"z" * 38)
    hosts.told(z, [Placed(X, MAX_MOVES)], 0)
    out = hosts.seen(X, 1)
    assert (out.add, out.placed) == ([Placed(X, MAX_MOVES)], {X: ME})
    assert Add(1, tuple(out.add)).emit()


def test_of_equal_counters_the_lowest_member_has_the_host_and_who_lost_it_claims_it_by_speaking() -> None:
    hosts = table()
    hosts.seen(X, 0)
    assert hosts.told(B, [Placed(X, 0)], 1).placed == {X: B}  # b < m
    assert hosts.told(A, [Placed(X, 0)], 2).placed == {X: A}
    assert hosts.told(B, [Placed(X, 0)], 3).placed == {}
    assert hosts.seen(X, 4).add == [Placed(X, 1)]


def test_a_host_that_moved_five_times_in_180_s_stays_where_it_was_before() -> None:
    hosts = table()
    hosts.seen(X, 0)
    for moves in (1, 3):
        assert hosts.told(E, [Placed(X, moves)], moves).placed == {X: E}
        assert hosts.seen(X, moves).placed == {X: ME}
    out = hosts.told(E, [Placed(X, 5)], 5)
    (frozen,) = out.frozen
    assert (frozen.at, frozen.claimants) == (ME, (E,))
    assert (out.placed, out.withdraw, hosts.where(X)) == ({}, [], ME)
    assert hosts.told(E, [Placed(X, 99)], 6).placed == {}
    assert hosts.frozen()[X].claimants == (E,)
    assert hosts.next_deadline() == 5 + FROZEN_S


def test_a_host_that_is_frozen_elsewhere_is_refused_at_our_port_until_it_thaws() -> None:
    hosts = table()
    hosts.told(A, [Placed(X, 0)], 0)
    for moves in (1, 3):
        hosts.seen(X, moves)
        hosts.told(A, [Placed(X, moves + 1)], moves)
    out = hosts.seen(X, 5)
    assert (out.refuse, hosts.where(X), hosts.own()) == ([X], A, ())
    assert (out.add, out.withdraw) == ([Placed(X, 5)], [Placed(X, 5)]), "all are to see it"
    assert hosts.seen(X, 6).refuse == [X]
    assert hosts.thaw(5 + FROZEN_S).release == [X]
    assert hosts.seen(X, 6 + FROZEN_S).placed == {X: ME}


def test_moves_that_are_far_apart_freeze_nothing() -> None:
    hosts = table()
    hosts.seen(X, 0)
    for number in range(1, 20, 2):
        now = number * WINDOW_S / 4
        assert hosts.told(E, [Placed(X, number)], now).frozen == []
        assert hosts.seen(X, now + 1).frozen == []


def test_withdrawing_between_claims_hides_no_move() -> None:
    hosts = table()
    hosts.told(A, [Placed(X, 0)], 0)
    frozen = []
    for number in range(1, 7):
        member, other = (E, A) if number % 2 else (A, E)
        hosts.withdrawn(other, [X], number)
        frozen += hosts.told(member, [Placed(X, number)], number).frozen
    assert [one.at for one in frozen] == [A]


def test_a_virtual_mac_is_never_behind_anybody() -> None:
    hosts = table()
    assert hosts.told(E, [Placed(Host(VIRTUAL), 0), Placed(Host(VIRTUAL, 7), 0)], 0) == Outcome()
    hosts.told(E, [Placed(X, 0)], 0)
    assert hosts.virtual(X.mac, 1).placed == {X: None}


def test_a_counter_that_nobody_comes_to_honestly_is_not_believed() -> None:
    hosts = table()
    hosts.seen(X, 0)
    assert hosts.told(E, [Placed(X, MAX_STEP + 1)], 0).overdone == [X]
    assert hosts.told(E, [Placed(host(2), MAX_FIRST + 1)], 0).overdone == [host(2)]
    assert hosts.where(X) == ME
    assert hosts.told(E, [Placed(X, MAX_STEP)], 0).placed == {X: E}
    assert hosts.seen(X, 1).add == [Placed(X, MAX_STEP + 1)]


def test_a_list_replaces_what_a_member_told_and_nothing_stays_of_one_that_left() -> None:
    hosts = table()
    hosts.told(A, [Placed(host(n), 0) for n in range(3)], 0)
    out = hosts.listed(A, [Placed(host(n), 0) for n in range(2, 5)], 1)
    assert out.placed == {host(0): None, host(1): None, host(3): A, host(4): A}
    assert hosts.left(A, 2).placed == {host(n): None for n in range(2, 5)}
    assert hosts.all() == []


def test_a_member_that_invents_hosts_has_1024_and_leaves_room_for_others() -> None:
    hosts = table()
    hosts.told(E, [Placed(host(n), 0) for n in range(5000)], 0)
    assert len(hosts.all()) == MAX_HOSTS
    assert hosts.told(A, [Placed(host(9000), 0)], 0).placed == {host(9000): A}
    members = [PeerId(bytes((n,)) * 38) for n in range(1, 9)]
    for number, member in enumerate(members):
        hosts.told(member, [Placed(host(10_000 * number + n), 0) for n in range(1024)], 0)
    assert len(hosts.all()) <= MAX_ALL


def test_events_that_were_lost_are_made_up_for_by_what_the_port_has() -> None:
    hosts = table()
    hosts.seen(X, 0)
    hosts.seen(host(2), 0)
    out = hosts.only([host(2), host(3)], 1)
    assert (out.add, out.withdraw) == ([Placed(host(3), 0)], [Placed(X, 0)])


def test_what_is_long_past_is_forgotten() -> None:
    hosts = table()
    for n in range(100):
        hosts.told(A, [Placed(host(n), 0)], 0)
    hosts.left(A, 1)
    hosts.thaw(1 + WINDOW_S)
    assert hosts._past == {}
