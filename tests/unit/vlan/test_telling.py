"""Who is told of which hosts, and what happens where a message is lost."""

from peertap.types import Mac
from peertap.vlan.telling import MAX_PER_S, Listener, Teller
from peertap.wire.macs import MAX_TOLD, Add, Host, Hosts, Placed, Withdraw


def placed(number: int) -> Placed:
    return Placed(Host(Mac(b"\x06\x00" + number.to_bytes(4, "big"))), 0)


def test_changes_are_told_at_once_in_messages_that_fit_a_group_packet() -> None:
    teller = Teller()
    told = teller.tell([placed(n) for n in range(MAX_TOLD + 1)], [placed(999)], 0)
    assert [(type(one), one.serial, len(one.hosts)) for one in told] == [(Add, 1, 80), (Add, 2, 1), (Withdraw, 3, 1)]
    assert max(len(one.emit()) for one in told) <= 1006


def test_the_number_that_holds_is_said_again_soon_and_then_now_and_then() -> None:
    teller = Teller()
    assert teller.next_deadline() is None
    teller.tell([placed(1)], [], 0.0)
    said = []
    while (due := teller.next_deadline()) is not None and due < 30:
        said += [(round(due, 1), one.serial) for one in teller.tick(due)]
    assert said == [(0.3, 1), (1.0, 1), (3.0, 1), (7.0, 1), (17.0, 1), (27.0, 1)]


def test_whoever_missed_a_message_notices_by_the_next_and_asks_until_the_list_comes() -> None:
    listener = Listener(serial=4)
    assert listener.accept(Add(5, (placed(1),)), 0)
    assert not listener.accept(Add(5), 0)
    assert not listener.asks(0)
    assert listener.accept(Add(7, (placed(2),)), 1)  # the news is good all the same
    assert listener.asks(1)
    assert not listener.asks(1.4)
    assert listener.asks(1.5)
    assert not listener.asks(2.4)
    assert listener.accept_list(Hosts(7, ()))
    assert (listener.serial, listener.next_deadline()) == (7, None)
    assert not listener.accept(Withdraw(6, (placed(1),)), 2), "overtaken"


def test_a_beacon_alone_tells_that_the_last_message_was_lost() -> None:
    listener = Listener(serial=4)
    listener.accept(Add(5), 0)
    assert listener.asks(0)


def test_a_list_that_was_overtaken_changes_nothing() -> None:
    listener = Listener(serial=4)
    listener.accept(Add(5, (placed(1),)), 0)
    assert not listener.accept_list(Hosts(4, ()))
    assert listener.serial == 5


def test_a_member_that_says_too_much_is_asked_for_its_list_afterwards() -> None:
    listener = Listener(serial=0)
    taken = [listener.accept(Add(n, (placed(n),)), 0.5) for n in range(1, 200)]
    assert taken.count(True) == MAX_PER_S
    assert listener.asks(0.5)


def test_a_member_that_asks_all_the_time_is_answered_four_times_a_second() -> None:
    teller = Teller()
    answers = [teller.answer(1, (), n / 100) for n in range(100)]
    assert sum(one is not None for one in answers) == 4
    assert teller.answer(2, (placed(1),), 0.99) == Hosts(0, (placed(1),))
