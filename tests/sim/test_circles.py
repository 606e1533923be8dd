"""By what members look for each other, in a VLAN with a group: who has it, who shows itself, and who is left out."""

from __future__ import annotations

import pytest

from peertap.node.commands import JoinBy, Kick
from peertap.node.vlan import LocalVlan
from tests.support.club import PORT, Club
from tests.support.identities import identity


@pytest.fixture
def club() -> Club:
    club = Club("ada", "bob", "cyd")
    for name in ("bob", "cyd"):
        club.join(name, "ada")
    club.run(3)
    return club


def vlans(club: Club, name: str) -> tuple[LocalVlan, LocalVlan]:
    """The VLAN itself and its lobby."""
    found = list(club.nodes[name].node.vlans.values())
    inside = [one for one in found if one.is_inside]
    lobby = [one for one in found if type(one.source).__name__ == "LobbyMembership"]
    return inside[0], lobby[0]


def test_all_members_share_two_circles_and_admins_alone_show_themselves_in_the_lobbys(club: Club) -> None:
    both = {name: vlans(club, name) for name in ("ada", "bob", "cyd")}
    assert len({inside.source.keys.circle for inside, _ in both.values()}) == 1
    assert len({lobby.source.keys.circle for _, lobby in both.values()}) == 1
    assert all(inside.source.is_shown and inside.source.is_sought for inside, _ in both.values())
    assert {name: lobby.source.is_shown for name, (_, lobby) in both.items()} == {
        "ada": True,
        "bob": False,
        "cyd": False,
    }
    assert all(lobby.source.is_sought for _, lobby in both.values())


def test_who_was_kicked_does_not_know_by_what_the_others_look_for_each_other_then(club: Club) -> None:
    known = {one.source.keys.circle for one in vlans(club, "cyd")}
    lobby = vlans(club, "cyd")[1].source.keys.circle
    club.nodes["ada"].command(Kick("club", identity("cyd").public_key))
    club.run(200)
    for name in ("ada", "bob"):
        inside, same = vlans(club, name)
        assert inside.source.keys.circle not in known
        assert same.source.keys.circle == lobby, "which those who slept through it have, too"
    assert not vlans(club, "bob")[1].source.is_shown


def test_a_newcomer_seeks_the_inviter_by_what_the_invite_says_and_shows_itself_to_nobody() -> None:
    club = Club("ada", "bob")
    invite = club.invite("ada")
    club.nodes["bob"].command(JoinBy(invite, PORT))
    (sought,) = club.nodes["bob"].node.vlans.values()
    doors = [one for one in club.nodes["ada"].node.vlans.values() if type(one.source).__name__ == "DoorMembership"]
    assert [one.source.keys.circle for one in doors] == [sought.source.keys.circle]
    assert (sought.source.is_shown, sought.source.is_sought) == (False, True)
    assert (doors[0].source.is_shown, doors[0].source.is_sought) == (True, False)
    assert sought.source.is_member(identity("ada").peer_id)
    assert not sought.source.is_member(identity("cyd").peer_id)
