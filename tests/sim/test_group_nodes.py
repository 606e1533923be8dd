"""VLANs with a group among whole nodes: invites, doors, letters, epochs, removals, restarts, partitions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peertap.errors import ConfigError
from peertap.node.commands import Approve, Demote, JoinBy, Kick, LeaveVlan, Promote, Restore, Revoke, Rotate
from peertap.node.events import TimePassed
from peertap.types import Mac, PeerId, VlanId
from peertap.vlan import introductions
from peertap.vlan.group_actions import ToAll
from peertap.vlan.letters import Secrets
from peertap.vlan.names import virtual_mac
from tests.support.club import PORT, Club
from tests.support.identities import identity


@pytest.fixture
def club() -> Club:
    club = Club("ada", "bob", "cyd", "dan")
    for name in ("bob", "cyd", "dan"):
        club.join(name, "ada")
    club.run(3)
    return club


def test_three_come_in_one_after_the_other_and_all_hear_each_other(club: Club) -> None:
    club.agree("ada", "bob", "cyd", "dan")


def test_a_newcomer_is_in_and_heard_within_half_a_second_and_hears_everything_two_seconds_later() -> None:
    club = Club("ada", "bob")
    club.nodes["bob"].command(JoinBy(club.invite("ada"), PORT))
    club.run(0.5)
    club.frames("bob", "ada")
    assert club.nodes["ada"].unicast("club", club.nodes["bob"].vlan("club").mac, "at once")  # type: ignore[attr-defined]
    club.run(2)
    club.agree("ada", "bob")


def test_who_was_kicked_hears_nothing_a_second_later_and_does_not_come_back(club: Club) -> None:
    dan = club.nodes["dan"]
    club.nodes["ada"].command(Kick("club", identity("dan").public_key))
    club.run(1.0)
    assert "club" not in dan.disk
    assert club.state("dan") == "gone"
    club.run(3)
    club.agree("ada", "bob", "cyd")
    club.run(200)  # the routing secret is new, too
    numbers = {club.at(name).source.secrets.number for name in ("ada", "bob", "cyd")}  # type: ignore[union-attr]
    assert numbers == {1}
    club.agree("ada", "bob", "cyd")


def test_who_leaves_is_gone_once_an_admin_has_taken_note(club: Club) -> None:
    club.nodes["bob"].command(LeaveVlan("club"))
    club.run(15)
    assert club.state("bob") == "gone"
    club.run(5)
    club.agree("ada", "cyd", "dan")


def test_new_keys_lose_no_frame(club: Club) -> None:
    for _ in range(5):
        before = club.at("bob").group.epoch  # type: ignore[union-attr]
        club.nodes["ada"].command(Rotate("club"))
        for _ in range(30):
            club.run(0.2)
            club.frames("bob", "ada", "cyd", "dan")
            club.frames("ada", "bob", "cyd", "dan")
        assert club.at("bob").group.epoch == before + 1  # type: ignore[union-attr]


def test_an_invite_is_good_once_then_used_up_and_its_next_user_is_told(club: Club) -> None:
    invite = club.invite("ada")
    for name in ("eve", "fay"):
        club.add(name)
        club.link(name, "ada")
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.run(3)
    assert club.state("eve") == "member"
    club.nodes["fay"].command(JoinBy(invite, PORT))
    club.run(5)
    answer = club.at("fay").joining.answer  # type: ignore[union-attr]
    assert answer is not None
    assert "used up" in answer.reason
    assert "club" not in club.nodes["fay"].disk


def test_a_revoked_invite_is_refused(club: Club) -> None:
    invite = club.invite("ada")
    club.nodes["ada"].command(Revoke("club", invite.id[:4]))
    club.add("eve")
    club.link("eve", "ada")
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.run(5)
    assert club.state("eve") == "refused"


def test_an_old_invite_is_refused_before_anything_is_sent(club: Club) -> None:
    invite = club.invite("ada", lifetime_s=10)
    club.run(11)
    club.add("eve")
    with pytest.raises(ConfigError, match="expired"):
        club.nodes["eve"].command(JoinBy(invite, PORT))


def test_another_secret_under_the_invites_name_finds_no_door(club: Club) -> None:
    """Whoever saw all of an invite but its secret, and guesses: there is nobody to ask."""
    invite = club.invite("ada")
    guessed = replace(invite, secret=bytes(16))
    club.add("eve")
    club.link("eve", "ada")
    club.nodes["eve"].command(JoinBy(guessed, PORT))
    club.run(10)
    assert club.state("eve") == "joining"
    assert len(club.at("ada").group.members) == 4  # type: ignore[union-attr]


def test_a_newcomer_waits_for_approval_and_then_comes_in(club: Club) -> None:
    invite = club.invite("ada", approve=True)
    club.add("eve")
    club.link("eve", "ada")
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.run(3)
    assert club.state("eve") == "waiting"
    club.nodes["ada"].command(Approve("club", identity("eve").public_key, is_welcome=True))
    club.run(5)
    club.agree("ada", "bob", "cyd", "dan", "eve")


def test_a_newcomer_whose_inviter_is_away_comes_in_when_it_is_back(club: Club) -> None:
    invite = club.invite("ada")
    club.add("eve")
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.run(60)
    assert club.state("eve") == "joining"
    club.link("eve", "ada")
    club.run(3)
    assert club.state("eve") == "member"


def test_a_newcomer_comes_in_through_a_relay_that_is_no_member() -> None:
    from peertap.mesh.policy import Mode

    club = Club("ada")
    club.add("relay", mode=Mode.OPEN)
    club.add("bob")
    club.link("ada", "relay")
    club.link("bob", "relay")
    club.join("bob", "ada")
    club.run(2)
    club.agree("ada", "bob")


def test_a_new_admin_invites_and_removes(club: Club) -> None:
    club.nodes["ada"].command(Promote("club", identity("bob").public_key))
    club.run(1)
    club.add("eve")
    club.link("eve", "bob")
    club.join("eve", "bob")
    club.nodes["bob"].command(Kick("club", identity("cyd").public_key))
    club.run(5)
    club.agree("ada", "bob", "dan", "eve")


def test_a_member_that_was_off_for_many_epochs_is_back_within_three_seconds(club: Club) -> None:
    neighbours = club.cut_off("dan")
    for _ in range(30):
        club.nodes["ada"].command(Rotate("club"))
        club.run(1)
    for name in neighbours:
        club.link("dan", name)
    club.run(3)
    assert club.at("dan").group.position == club.at("ada").group.position  # type: ignore[union-attr]
    club.run(3)
    club.agree("ada", "bob", "cyd", "dan")


def test_a_member_that_was_off_for_longer_than_the_log_comes_back_by_itself(club: Club) -> None:
    neighbours = club.cut_off("dan")
    for _ in range(63):
        club.nodes["ada"].command(Rotate("club"))
        club.run(0.3)
    for name in neighbours:
        club.link("dan", name)
    club.run(10)
    club.agree("ada", "bob", "cyd", "dan")


def test_a_member_that_restarts_goes_on_from_its_disk(club: Club) -> None:
    for name in ("bob", "ada"):
        for other in club.restart(name):
            club.link(name, other)
        club.run(4)
    club.agree("ada", "bob", "cyd", "dan")


def test_two_sides_of_a_partition_end_in_one_epoch_and_who_was_kicked_on_either_stays_out(club: Club) -> None:
    club.nodes["ada"].command(Promote("club", identity("cyd").public_key))
    club.run(3)
    for name in ("ada", "bob"):
        for link in list(club.nodes[name].trunks.values()):
            if link.other(club.nodes[name]).name in ("cyd", "dan"):
                link.close("cut")
    club.nodes["ada"].command(Kick("club", identity("dan").public_key))
    club.nodes["cyd"].command(Rotate("club"))
    club.run(10)
    for one in ("ada", "bob"):
        for other in ("cyd", "dan"):
            club.link(one, other)
    club.run(20)
    club.agree("ada", "bob", "cyd")


def test_a_restored_backup_never_resumes_and_comes_back_by_an_admin(club: Club) -> None:
    backup = club.at("dan").backup()
    kid = club.nodes["dan"].vlan("club").introductions.group_send.kid  # type: ignore[attr-defined]
    for link in list(club.nodes["dan"].trunks.values()):
        link.close("the disk was lost")
    club.nodes["dan"].disk.clear()
    club.nodes["dan"].boot()
    club.nodes["dan"].command(Restore(backup))
    club.run(5)
    assert club.state("dan") == "returning"
    assert not [one for one in club.nodes["dan"].node.vlans.values() if one.is_inside], "it used what it had"
    with pytest.raises(ConfigError, match="backup"):
        club.nodes["dan"].command(Kick("club", identity("bob").public_key))
    for other in ("ada", "bob"):
        club.link("dan", other)
    club.run(5)
    assert club.state("dan") == "member"
    assert club.nodes["dan"].vlan("club").introductions.group_send.kid != kid  # type: ignore[attr-defined]
    club.run(3)
    club.agree("ada", "bob", "cyd", "dan")


def test_the_only_admin_comes_back_from_its_backup_by_any_member(club: Club) -> None:
    backup = club.at("ada").backup()
    for link in list(club.nodes["ada"].trunks.values()):
        link.close("the disk was lost")
    club.nodes["ada"].disk.clear()
    club.nodes["ada"].boot()
    club.nodes["ada"].command(Restore(backup))
    for other in ("bob", "cyd", "dan"):
        club.link("ada", other)
    club.run(10)
    club.agree("ada", "bob", "cyd", "dan")
    club.nodes["ada"].command(Rotate("club"))
    club.run(4)
    club.agree("ada", "bob", "cyd", "dan")


def test_a_backup_of_another_node_is_refused(club: Club) -> None:
    backup = club.at("dan").backup()
    club.add("eve")
    with pytest.raises(ConfigError, match="another node"):
        club.nodes["eve"].command(Restore(backup))


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_all_of_it_under_packet_loss(loss: float) -> None:
    club = Club("ada", "bob", "cyd")
    club.packet_loss = loss
    club.join("bob", "ada", 60)
    club.join("cyd", "ada", 60)
    club.nodes["ada"].command(Kick("club", identity("bob").public_key))
    club.run(30)
    club.packet_loss = 0.0
    club.run(70)
    club.agree("ada", "cyd")


# What a hostile review found


def storm(club: Club, name: str, times: int, gap_s: float) -> int:
    """A member comes back again and again though it was never away; returns the epochs that this made."""
    before = club.at("ada").group.epoch  # type: ignore[union-attr]
    for _ in range(times):
        vlan = club.at(name)
        group = vlan.group
        assert group is not None
        unix = int(club.nodes[name].node.now_unix)
        group._mls, commit = group._mls.rejoin(group._mls.group_info(), group.epoch, unix)
        vlan._do(group._stepped(commit, None, group._agreed, [ToAll(commit)]), club.now)
        club.nodes[name].post(TimePassed())
        club.run(gap_s)
    return club.at("ada").group.epoch - before  # type: ignore[union-attr]


def test_a_member_that_comes_back_again_and_again_makes_three_epochs(club: Club) -> None:
    assert storm(club, "dan", 12, 0.05) == 3
    club.nodes["ada"].command(Rotate("club"))
    club.run(5)
    assert "too often" in " ".join(club.at("ada").group.refused)  # type: ignore[union-attr]


def test_a_burst_of_epochs_makes_no_key_anew(club: Club) -> None:
    for _ in range(90):
        club.nodes["ada"].command(Rotate("club"))
        club.run(0.03)
    club.run(8)  # the mesh watches every key
    club.agree("ada", "bob", "cyd", "dan")


def test_who_was_kicked_does_not_come_back_by_an_invite_for_many(club: Club) -> None:
    invite = club.invite("ada", uses=5)
    for name in ("eve", "fay"):
        club.add(name)
        club.link(name, "ada")
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.run(3)
    club.nodes["ada"].command(Kick("club", identity("eve").public_key))
    club.run(3)
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.nodes["fay"].command(JoinBy(invite, PORT))
    club.run(5)
    assert club.state("eve") == "refused"
    assert club.state("fay") == "member"
    club.nodes["eve"].command(JoinBy(club.invite("ada"), PORT))
    club.run(5)
    assert club.state("eve") == "member", "an invite that was made after the removal is meant for it"


def test_a_newcomer_comes_in_after_the_admin_who_made_the_secrets_is_none_any_more(club: Club) -> None:
    club.nodes["ada"].command(Promote("club", identity("bob").public_key))
    club.run(2)
    club.nodes["bob"].command(Demote("club", identity("ada").public_key))
    club.run(5)
    club.add("eve")
    club.link("eve", "bob")
    club.join("eve", "bob")


def test_the_routing_secret_changes_after_a_kick_though_the_admin_restarts(club: Club) -> None:
    club.nodes["ada"].command(Kick("club", identity("dan").public_key))
    club.run(30)
    for other in club.restart("ada"):
        club.link("ada", other)
    club.run(150)
    assert club.at("bob").source.secrets.number == 1  # type: ignore[union-attr]
    club.agree("ada", "bob", "cyd")


def test_secrets_that_jump_ahead_or_have_no_creators_word_are_not_taken(club: Club) -> None:
    ada = club.at("ada")
    source = ada.source
    assert source is not None
    for wrong in (replace(source.secrets, number=2**64 - 1), replace(source.secrets, number=1, expiry=1)):
        signed = replace(wrong, signature=identity("ada").sign(wrong.signed(source.vlan_id)))
        for member in ("bob", "cyd"):
            ada._post(club.nodes[member].identity.peer_id, Secrets(signed), club.now)
    club.nodes["ada"].post(TimePassed())
    club.run(3)
    assert {club.at(name).source.secrets.number for name in ("bob", "cyd")} == {0}  # type: ignore[union-attr]


def test_a_welcome_whose_vlan_has_another_label_than_the_invite_is_refused(club: Club) -> None:
    """The label names the file of the record: it must be the one that the newcomer agreed to."""
    unsigned = replace(club.invite("ada"), label="play")
    invite = replace(unsigned, signature=identity("ada").sign(unsigned.signed()))
    club.at("ada").add_invite(invite, club.now)
    club.nodes["ada"].post(TimePassed())
    club.add("eve")
    club.link("eve", "ada")
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.run(5)
    assert list(club.nodes["eve"].disk) == ["play"]
    assert club.nodes["eve"].node.groups.vlans["play"].group is None


def test_a_newcomer_that_slept_through_its_welcome_comes_in_when_it_wakes(club: Club) -> None:
    invite = club.invite("ada", approve=True)
    club.add("eve")
    link = club.link("eve", "ada")
    club.nodes["eve"].command(JoinBy(invite, PORT))
    club.run(3)
    link.close("asleep")
    club.run(1)
    club.nodes["ada"].command(Approve("club", identity("eve").public_key, is_welcome=True))
    club.run(400)
    club.link("eve", "ada")
    club.run(20)
    assert club.state("eve") == "member"
    club.agree("ada", "bob", "cyd", "dan", "eve")


def test_an_invite_for_one_lets_one_of_two_in_who_wait(club: Club) -> None:
    invite = club.invite("ada", approve=True)
    for name in ("eve", "fay"):
        club.add(name)
        club.link(name, "ada")
        club.nodes[name].command(JoinBy(invite, PORT))
    club.run(3)
    club.nodes["ada"].command(Approve("club", identity("eve").public_key, is_welcome=True))
    with pytest.raises(ConfigError, match="used up"):
        club.nodes["ada"].command(Approve("club", identity("fay").public_key, is_welcome=True))


def test_a_wish_to_go_reaches_an_admin_that_was_away(club: Club) -> None:
    others = club.cut_off("ada")
    club.nodes["bob"].command(LeaveVlan("club"))
    club.run(120)
    for other in others:
        club.link("ada", other)
    club.run(30)
    assert club.state("bob") == "gone"


def test_two_admins_that_leave_at_once_are_gone_and_leave_no_two_branches(club: Club) -> None:
    club.nodes["ada"].command(Promote("club", identity("bob").public_key))
    club.nodes["ada"].command(Promote("club", identity("cyd").public_key))
    club.run(3)
    for name in ("ada", "bob"):
        club.nodes[name].command(LeaveVlan("club"))
    club.run(180)
    assert club.state("ada") == "gone"
    assert club.state("bob") == "gone"
    club.agree("cyd", "dan")


def test_of_members_with_one_mac_one_keeps_it_and_the_others_take_another_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def colliding(member: PeerId, vlan: VlanId, nonce: int) -> Mac:
        return virtual_mac(member, vlan, nonce) if nonce else Mac(b"\2\0\0\0\0\1")

    monkeypatch.setattr(introductions, "virtual_mac", colliding)
    names = ("ada", "bob", "cyd", "dan")
    club = Club(*names)
    for name in names[1:]:
        club.nodes[name].command(JoinBy(club.invite("ada"), PORT))
        club.run(10)
    club.agree(*names)
    nonces = {name: club.at(name).record.mac_nonce for name in names}
    assert sorted(nonces.values()) == [0, 1, 1, 1]
    later = next(name for name in names if nonces[name])
    club.restart(later)
    for other in set(names) - {later}:
        club.link(later, other)
    club.run(6)
    assert club.at(later).record.mac_nonce == 1
    club.agree(*names)
