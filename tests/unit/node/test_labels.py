"""Labels: a fail-over of many routes does not fill the queue, and a neighbour's labels are bounded."""

import pytest

from peertap.errors import PeerError
from peertap.node import labels
from peertap.node.labels import MAX_UNCONFIRMED, LabelKey, Labels
from peertap.types import Token, VTag
from peertap.wire.control import Bind, Bound, Unbind

VTAG = VTag(b"v" * 16)


def keys(count: int) -> set[LabelKey]:
    return {(VTAG, Token(number.to_bytes(16, "big")), None) for number in range(count)}


def binds(messages: list[Bind | Unbind]) -> list[int]:
    return [message.label for message in messages if isinstance(message, Bind)]


def test_5000_tokens_that_fail_over_to_a_trunk_are_bound_1024_at_a_time_and_all_in_the_end() -> None:
    one, wanted = Labels(), keys(5000)
    waiting = binds(one.want(wanted, 0.0))
    assert len(waiting) == MAX_UNCONFIRMED
    assert one.want(wanted, 0.0) == [], "nothing more before something is confirmed"
    said = len(waiting)
    while waiting:
        assert one.bound(Bound(waiting.pop(0)))
        new = binds(one.want(wanted, 0.0))
        assert len(new) == (1 if said < 5000 else 0)
        said += len(new)
        waiting += new
    assert said == 5000
    assert all(one.usable(key) is not None for key in wanted)


def test_what_is_wanted_first_is_bound_first_and_takes_the_label_of_what_is_wanted_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labels, "MAX_LABELS", 4)
    monkeypatch.setattr(labels, "MAX_UNCONFIRMED", 3)
    one, hops, backups = Labels(), sorted(keys(2)), sorted(keys(6) - keys(2))
    said = one.want([*hops, *backups], 0.0)
    assert [key for key in (*hops, *backups) if key in one._out] == [*hops, backups[0]]
    for message in said:
        one.bound(Bound(message.label))
    one.want([*hops, *backups], 0.0)
    assert set(one._out) == {*hops, *backups[:2]}, "as many as there may be"
    new = sorted(keys(7) - keys(6))
    said = one.want([*hops, *new, *backups], 0.0)
    assert [type(message) for message in said] == [Unbind, Bind]
    assert set(one._out) == {*hops, *new, backups[0]}


def test_an_unbound_label_that_was_never_confirmed_makes_room() -> None:
    one = Labels()
    one.want(keys(MAX_UNCONFIRMED), 0.0)
    other = {(VTAG, Token(b"o" * 16), None)}
    messages = one.want(other, 0.0)  # type: ignore[arg-type]
    assert len([message for message in messages if isinstance(message, Unbind)]) == MAX_UNCONFIRMED
    assert len(binds(messages)) == 1


def test_a_label_that_is_confirmed_twice_or_out_of_thin_air_makes_no_room() -> None:
    one, wanted = Labels(), keys(2000)
    first = binds(one.want(wanted, 0.0))
    assert one.bound(Bound(first[0]))
    assert not one.bound(Bound(first[0]))
    assert not one.bound(Bound(99_999))
    assert len(binds(one.want(wanted, 0.0))) == 1


def test_labels_rise_and_are_never_used_again() -> None:
    one = Labels()
    first = binds(one.want(keys(10), 0.0))
    one.want(set(), 0.0)
    again = binds(one.want(keys(10), 0.0))
    assert min(again) > max(first)


def test_a_neighbour_that_binds_a_label_again_or_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_LABELS", 3)
    one = Labels()
    for number in (5, 6, 9):
        one.bind_untrusted(Bind(number, VTAG, Token(bytes(16)), None))
    with pytest.raises(PeerError, match="more than 3"):
        one.bind_untrusted(Bind(10, VTAG, Token(bytes(16)), None))
    one.unbind_untrusted(Unbind(5))
    one.unbind_untrusted(Unbind(77))
    for number in (5, 7, 9):
        with pytest.raises(PeerError, match="used before"):
            one.bind_untrusted(Bind(number, VTAG, Token(bytes(16)), None))
    one.bind_untrusted(Bind(10, VTAG, Token(bytes(16)), None))


def test_a_bound_is_said_once_and_only_for_a_label_that_is_there() -> None:
    one = Labels()
    one.bind_untrusted(Bind(1, VTAG, Token(bytes(16)), None))
    assert [one.confirm(number) for number in (1, 1, 2)] == [True, False, False]
