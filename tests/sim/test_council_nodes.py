"""A VLAN in which two of three admins have to agree, among whole nodes: what they type, and what it leads to."""

from __future__ import annotations

from typing import Any

import pytest

from peertap.errors import ConfigError
from peertap.node.commands import Agree, Approve, JoinBy, Kick, LeaveVlan, Promote, Revoke
from peertap.observe.groups import group_status
from tests.support.club import PORT, Club
from tests.support.identities import identity


@pytest.fixture
def club() -> Club:
    club = Club("ada", "bob", "cyd", founders=("bob", "cyd"), threshold=2)
    for name in ("bob", "cyd"):
        club.join(name, "ada")
    club.run(3)
    club.agree("ada", "bob", "cyd")
    return club


def changes(club: Club, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = group_status(club.nodes[name].node, club.at(name))["changes"]
    return found


def agree(club: Club, name: str) -> dict[str, Any]:
    (one,) = changes(club, name)
    return club.nodes[name].command(Agree("club", one["id"], is_welcome=True))


def come(club: Club, name: str, by: str, **fields: Any) -> None:
    """A newcomer shows its invite, and waits."""
    invite = club.invite(by, **fields)
    club.add(name)
    club.link(name, by)
    club.nodes[name].command(JoinBy(invite, PORT))
    club.run(3)
    assert club.state(name) == "waiting"


def test_a_newcomer_waits_until_another_admin_agrees(club: Club) -> None:
    come(club, "dan", "ada")
    assert group_status(club.nodes["dan"].node, club.at("dan"))["reason"] == "2 admins have to agree"
    (change,) = changes(club, "bob")
    assert [part["do"] for part in change["what"]] == ["admit"]
    assert len(change["agreed"]) == 1
    assert agree(club, "bob")["agreement"] == "waits"
    club.run(5)
    club.agree("ada", "bob", "cyd", "dan")
    assert not any(changes(club, name) for name in ("ada", "bob", "cyd", "dan"))
    assert not club.at("ada").doors.invites.waiting


def test_an_invite_with_approval_takes_the_inviters_word_and_another_one(club: Club) -> None:
    come(club, "dan", "ada", approve=True)
    assert not changes(club, "bob")
    found = club.nodes["ada"].command(Approve("club", identity("dan").public_key, is_welcome=True))
    assert found["agreement"] == "waits"
    club.run(2)
    agree(club, "cyd")
    club.run(5)
    club.agree("ada", "bob", "cyd", "dan")


def test_a_newcomer_comes_in_although_its_inviter_was_restarted_before_the_others_agreed(club: Club) -> None:
    come(club, "dan", "ada")
    for other in club.restart("ada"):
        club.link("ada", other)
    agree(club, "bob")
    club.run(120)
    club.agree("ada", "bob", "cyd", "dan")


def test_a_removal_waits_for_another_admin_and_then_counts_for_all(club: Club) -> None:
    come(club, "dan", "ada")
    agree(club, "bob")
    club.run(5)
    found = club.nodes["cyd"].command(Kick("club", identity("dan").public_key))
    assert found["agreement"] == "waits"
    club.run(2)
    club.agree("ada", "bob", "cyd", "dan")
    agree(club, "ada")
    club.run(5)
    assert club.state("dan") == "gone"
    club.agree("ada", "bob", "cyd")


def test_an_invite_that_is_revoked_meanwhile_lets_nobody_in(club: Club) -> None:
    come(club, "dan", "ada")
    *_, name = club.at("ada").doors.invites.open
    club.nodes["ada"].command(Revoke("club", name))
    agree(club, "bob")
    club.run(30)
    club.agree("ada", "bob", "cyd")


def test_a_change_that_was_refused_is_not_shown_again(club: Club) -> None:
    club.nodes["ada"].command(Kick("club", identity("cyd").public_key))
    club.run(2)
    (one,) = changes(club, "bob")
    club.nodes["bob"].command(Agree("club", one["id"], is_welcome=False))
    club.run(130)
    assert changes(club, "bob") == []
    assert len(changes(club, "ada")) == 1
    with pytest.raises(ConfigError, match="nothing like that"):
        club.nodes["bob"].command(Agree("club", "00000000", is_welcome=True))


def test_an_admin_that_was_away_learns_what_waits(club: Club) -> None:
    neighbours = club.cut_off("cyd")
    club.nodes["ada"].command(Promote("club", identity("cyd").public_key))  # is one: nothing to do
    come(club, "dan", "ada")
    for name in neighbours:
        club.link("cyd", name)
    club.run(90)
    agree(club, "cyd")
    club.run(5)
    club.agree("ada", "bob", "cyd", "dan")


def test_one_of_two_founders_is_enough_where_the_creator_said_so() -> None:
    club = Club("ada", "bob", "cyd", founders=("bob",))
    club.join("bob", "ada")
    club.join("cyd", "bob")
    club.run(3)
    club.agree("ada", "bob", "cyd")
    club.nodes["bob"].command(Kick("club", identity("ada").public_key))
    club.run(5)
    club.agree("bob", "cyd")


def test_a_founder_that_is_not_in_yet_keeps_nobody_from_going_on() -> None:
    club = Club("ada", "bob", founders=("zoe",))
    assert len(group_status(club.nodes["ada"].node, club.at("ada"))["awaited"]) == 1
    club.join("bob", "ada")
    club.nodes["ada"].command(Promote("club", identity("bob").public_key))
    club.run(2)
    club.nodes["ada"].command(LeaveVlan("club"))
    club.run(60)
    assert club.state("ada") == "gone"
    club.agree("bob")
    assert club.at("bob").source.secrets.admin == identity("bob").public_key  # type: ignore[union-attr]
