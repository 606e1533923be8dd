"""Groups of several members over months: who may do what, and who is in after all."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from peertap.errors import ConfigError, PeerError
from peertap.vlan.commits import MAX_COMMITS
from peertap.vlan.group import COMMIT_AFTER_S, RANK_STEP_S, Group
from peertap.vlan.saved import SavedGroup
from peertap.vlan.steps import UPDATE_S
from peertap.wire.charter import SpentInvite
from peertap.wire.motion import Removal
from tests.support.identities import identity
from tests.support.town import HYBRID, Town, Us, key_of, member


def test_members_come_go_and_are_removed() -> None:
    town = Town("b", "c", "d", suite=HYBRID)
    town.agree("mayor", "b", "c", "d")
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    assert town["c"].is_gone
    town.agree("mayor", "b", "d")
    town.do("d", town["d"].leave(town.unix))
    town.pass_time(COMMIT_AFTER_S + 1)
    assert town["d"].is_gone
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.agree("mayor", "b")
    town.invite("c")
    town.agree("mayor", "b", "c")
    assert town["b"].charter.removed == {key_of("d")}


def test_only_admins_command_and_the_last_one_stays() -> None:
    town = Town("b", "c")
    for refused in (
        lambda: town["b"].kick(key_of("c"), town.unix),
        lambda: town["b"].promote(key_of("b"), town.unix),
        lambda: town["b"].admit([], town.unix),
        lambda: town["mayor"].kick(key_of("nobody"), town.unix),
        lambda: town["mayor"].kick(key_of("mayor"), town.unix),
        lambda: town["mayor"].leave(town.unix),
        lambda: town["mayor"].demote(key_of("mayor"), town.unix),
        lambda: town["mayor"].demote(key_of("b"), town.unix),
    ):
        with pytest.raises(ConfigError):
            refused()
    town.agree("mayor", "b", "c")


def test_an_admin_can_be_made_and_unmade_and_leave() -> None:
    town = Town("b", "c")
    town.do("mayor", town["mayor"].promote(key_of("b"), town.unix))
    town.do("b", town["b"].demote(key_of("mayor"), town.unix))
    with pytest.raises(ConfigError):
        town["mayor"].kick(key_of("c"), town.unix)
    town.do("b", town["b"].promote(key_of("c"), town.unix))
    town.do("b", town["b"].leave(town.unix))
    town.pass_time(COMMIT_AFTER_S + 1)
    town.agree("mayor", "c")
    assert town["mayor"].charter.admins == (key_of("c"),)


def test_a_commit_by_a_member_who_is_no_admin_is_refused_and_changes_nothing() -> None:
    town = Town("b", "c")
    before = town["c"].position
    commit, _ = town["b"].mls.commit(town.unix, removes=[leaf.index for leaf in town["b"].mls.leaves[:1]])
    for name in ("mayor", "c"):
        assert town[name].received_untrusted(commit, key_of("b"), town.now, town.unix) == []
        assert list(town[name].refused) == ["its sender is no admin"]
        assert town[name].position == before
    town["b"].mls.drop_step()
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.agree("mayor", "b", "c")


def test_a_wish_is_committed_by_the_highest_admin_present() -> None:
    town = Town("b", "c", "d")
    town.do("mayor", town["mayor"].promote(key_of("b"), town.unix))
    town.citizens["mayor"].is_away = True
    epoch = town["d"].epoch
    town.do("d", town["d"].rotate(town.unix))
    town.pass_time(COMMIT_AFTER_S + 1)
    assert town["d"].epoch == epoch  # the first in rank would have
    town.pass_time(RANK_STEP_S)
    assert town["d"].epoch == epoch + 1
    town.come_back("mayor")
    town.agree("mayor", "b", "c", "d")


def test_who_was_away_gets_the_commits_that_it_lacks() -> None:
    town = Town("b", "c")
    town.citizens["c"].is_away = True
    for _ in range(50):
        town.do("mayor", town["mayor"].rotate(town.unix))
    town.come_back("c")
    town.agree("mayor", "b", "c")


def test_who_hears_a_later_epoch_asks_for_what_it_lacks() -> None:
    town = Town("b", "c")
    town.citizens["c"].is_away = True
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.citizens["c"].is_away = False
    town.do("mayor", town["mayor"].rotate(town.unix))
    town.agree("mayor", "b", "c")


def test_who_cannot_follow_asks_the_admins_however_often_something_was_refused_before() -> None:
    town = Town("b", "c")
    for _ in range(40):
        town["c"].received_untrusted(town["b"].mls.commit(town.unix)[0], key_of("b"), town.now, town.unix)
        town["b"].mls.drop_step()
    (ask,) = town["c"].given([town["b"].mls.commit(town.unix)[0]], key_of("b"), town.now, town.unix)
    town["b"].mls.drop_step()
    town.do("c", [ask])
    town.pass_time(5)
    town.agree("mayor", "b", "c")


def test_who_was_away_for_longer_than_the_log_rejoins_by_itself() -> None:
    town = Town("b", "c")
    town.citizens["c"].is_away = True
    for _ in range(MAX_COMMITS - 1):
        town.do("mayor", town["mayor"].rotate(town.unix))
    for name in ("mayor", "b"):  # their logs are younger than their groups: they were restarted
        town.citizens[name].restart(town.now)
    town.come_back("c")
    town.agree("mayor", "b", "c")


def test_who_was_removed_while_away_stays_out() -> None:
    town = Town("b", "c")
    town.citizens["c"].is_away = True
    town.do("mayor", town["mayor"].kick(key_of("c"), town.unix))
    stubborn = SavedGroup.parse(town.citizens["c"].state)
    town.come_back("c")
    assert town["c"].is_gone, "whom it meets tells it, with the admin's word"
    town.citizens["c"].group = Group.restore(stubborn, Us("c"), town.now)  # it will not hear of it
    town.do("c", town["c"]._lose(town.now))
    town.pass_time(30)
    del town.citizens["c"]
    town.agree("mayor", "b")


def test_nobody_is_dismissed_but_by_the_word_of_an_admin() -> None:
    town = Town("b", "c")
    removal = Removal(key_of("c"), town["c"]._leaf_of(key_of("c")).key)

    def word(of: Removal, who: str, *, as_if: str = "") -> Removal:
        return replace(of, signatures=((key_of(as_if or who), identity(who).sign(of.signed(town.vlan_id))),))

    by_a_member, by_itself = word(removal, "b"), word(removal, "c")
    of_another_leaf = word(replace(removal, key=bytes(32)), "mayor")
    for one in (by_a_member, by_itself, of_another_leaf, word(removal, "b", as_if="mayor")):
        assert town["c"].dismissed_untrusted(one, town.now) == []
        town.pass_time(15)
        assert not town["c"].is_gone


def test_a_restarted_member_goes_on_from_its_record() -> None:
    town = Town("b", "c")
    for name in ("b", "mayor", "c"):
        town.citizens[name].restart(town.now)
        town.do("mayor", town["mayor"].rotate(town.unix))
        town.agree("mayor", "b", "c")


def test_everybody_gets_new_keys_every_day() -> None:
    town = Town("b")
    epoch = town["b"].epoch
    for name in ("mayor", "b"):
        town.now = 1000.0 + UPDATE_S
        town.do(name, town[name].tick(town.now, town.unix))
    town.pass_time(COMMIT_AFTER_S + 1)
    assert town["b"].epoch == epoch + 2
    town.agree("mayor", "b")


def test_a_key_package_of_somebody_else_is_not_admitted() -> None:
    town = Town("b")
    package = member("thief", town.vlan_id).key_package(town.unix)
    before = town["mayor"].position
    with pytest.raises(PeerError, match="another node's"):
        town["mayor"].admit([(key_of("friend"), package)], town.unix)
    with pytest.raises(PeerError):
        town["mayor"].admit([(key_of("friend"), b"junk")], town.unix)
    assert town["mayor"].position == before
    town.invite("friend")
    town.agree("mayor", "b", "friend")


def test_a_welcome_of_another_vlan_or_for_somebody_else_is_refused() -> None:
    town = Town("b")
    newcomer = member("c", town.vlan_id)
    actions = town["mayor"].admit([(key_of("c"), newcomer.key_package(town.unix))], town.unix)
    (welcome,) = (action.message for action in actions if type(action).__name__ == "Welcome")
    with pytest.raises(PeerError):
        Group.join(member("d", town.vlan_id), Us("d"), welcome, town.vlan_id, 0.0, town.unix)
    with pytest.raises(PeerError, match="another VLAN"):
        Group.join(newcomer, Us("c"), welcome, bytes(16), 0.0, town.unix)


def test_a_used_invite_stays_known_until_it_expires() -> None:
    town = Town("b")
    used = SpentInvite(b"i" * 16, 1, town.unix + 100)
    package = member("c", town.vlan_id).key_package(town.unix)
    town.citizens["mayor"].group.admit([(key_of("c"), package)], town.unix, used=used)
    assert town["mayor"].charter.spent == (used,)
    town.now += 101
    package = member("d", town.vlan_id).key_package(town.unix)
    town["mayor"].admit([(key_of("d"), package)], town.unix)
    assert town["mayor"].charter.spent == ()


@pytest.mark.parametrize("seed", range(12))
def test_after_any_story_all_members_agree(seed: int) -> None:
    """One admin acts at a time; anybody may be away or be restarted at any moment."""
    chance = random.Random(seed)
    town = Town("a", "b", "c", "d")
    town.do("mayor", town["mayor"].promote(key_of("a"), town.unix))
    inside = {"mayor", "a", "b", "c", "d"}
    for step in range(40):
        plain = sorted(inside - {"mayor", "a"})
        match chance.randrange(7):
            case 0:
                town.invite(f"new{step}")
                inside.add(f"new{step}")
            case 1 if len(plain) > 1:
                gone = chance.choice(plain)
                town.do("mayor", town["mayor"].kick(key_of(gone), town.unix))
                inside.discard(gone)
            case 2:
                town.do("mayor", town["mayor"].rotate(town.unix))
            case 3 if plain:
                town.citizens[chance.choice(plain)].is_away = True
            case 4:
                for name in [one.name for one in town.members() if one.is_away]:
                    if name in inside:
                        town.come_back(name)
            case 5 if plain:
                name = chance.choice(plain)
                if not town.citizens[name].is_away:
                    town.do(name, town[name].rotate(town.unix))
                    town.pass_time(COMMIT_AFTER_S + 1)
            case 6:
                town.citizens[chance.choice(sorted(inside))].restart(town.now)
    for name in sorted(inside):
        town.citizens[name].is_away = False
    for name in sorted(inside):
        town.come_back(name)
    gone = [one.name for one in town.members() if one.name not in inside]
    for name in gone:  # they were away when they were removed, and nobody answers them
        del town.citizens[name]
    town.agree(*inside)
    for one in town.members():
        assert one.epochs == sorted(set(one.epochs))
