"""A process ends between any two actions: it starts again from its disk, and the group goes on."""

from __future__ import annotations

import pytest

from peertap.errors import ConfigError, DecodeError
from peertap.vlan.group import COMMIT_AFTER_S
from peertap.vlan.saved import SavedGroup
from tests.support.town import Town, key_of


def story(town: Town) -> None:
    """Something of everything."""
    town.do("mayor", town["mayor"].promote(key_of("a"), town.unix))
    town.do("b", town["b"].rotate(town.unix))
    town.pass_time(COMMIT_AFTER_S + 1)
    town.do("a", town["a"].kick(key_of("c"), town.unix))
    town.do("d", town["d"].leave(town.unix))
    town.pass_time(COMMIT_AFTER_S + 1)
    town.do("mayor", town["mayor"].rotate(town.unix))


def actions_of_the_story() -> int:
    town = Town("a", "b", "c", "d")
    before = town.done
    story(town)
    return town.done - before


@pytest.mark.parametrize("crash_at", range(1, actions_of_the_story() + 1))
def test_after_a_crash_before_any_action_all_members_agree(crash_at: int) -> None:
    town = Town("a", "b", "c", "d")
    town.crash_at = town.done + crash_at
    try:
        story(town)
    except ConfigError:
        assert crash_at < 10  # before a knew that it is an admin
    town.heal(40)
    inside = {one.name for one in town.members() if key_of(one.name) in town["mayor"].members}
    assert inside >= {"mayor", "a", "b"}
    for name in set(town.citizens) - inside:
        del town.citizens[name]
    town.agree(*inside)
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.heal()
    town.agree(*inside)


def test_a_newcomer_whose_welcome_was_lost_is_admitted_again() -> None:
    town = Town("a")
    town.crash_at = town.done + 3  # Save, ToAll, then the Welcome
    town.invite("b")
    assert "b" not in town.citizens
    town.heal()
    assert key_of("b") in town["a"].members
    town.newcomers.clear()
    town.invite("b")
    town.agree("mayor", "a", "b")


def test_a_cut_or_changed_state_is_refused() -> None:
    state = Town("a", "b").citizens["a"].state
    assert SavedGroup.parse(state).emit() == state
    for end in range(0, len(state), 11):
        with pytest.raises(DecodeError):
            SavedGroup.parse(state[:end])
    with pytest.raises(DecodeError, match="no state"):
        SavedGroup.parse(b"NONE" + state[4:])
