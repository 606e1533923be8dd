"""Numbers of VTags: never used again, and few enough."""

import pytest

from peertap.node import carried
from peertap.node.carried import OTHERS, Carried
from peertap.types import VTag


def vtag(number: int) -> VTag:
    return VTag(number.to_bytes(16, "big"))


def test_a_vtag_keeps_its_number_and_a_number_is_never_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "MAX_CLASSES", 2)
    numbers = Carried(lambda _vtag: False)
    first = [numbers.number(vtag(one)) for one in (1, 2, 1, 2)]
    assert first == [1, 2, 1, 2]
    assert numbers.number(vtag(3)) == OTHERS, "both are in use"
    numbers.begin()
    assert numbers.number(vtag(2)) == 2
    assert numbers.number(vtag(3)) == 3, "in place of 1, which no label needs"
    assert set(numbers.numbers) == {vtag(2), vtag(3)}


def test_our_own_vlans_are_counted_and_not_limited() -> None:
    numbers = Carried(lambda one: one == vtag(1))
    assert numbers.tables() == ()
    numbers.number(vtag(1))
    numbers.number(vtag(2))
    assert [(one.number, one.limited) for one in numbers.tables()] == [(OTHERS, True), (1, False), (2, True)]
