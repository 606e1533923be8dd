"""Introductions under replays, forgetting, loss and nonsense: windows stay, newcomers are heard, all heals."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from peertap._core import StaticSecret
from peertap.types import Mac, PeerId, Sid, Token
from peertap.vlan import introductions
from peertap.vlan.epochs import GRACE_S
from peertap.vlan.introductions import Introductions, SendIntro
from peertap.vlan.membership import StaticMembership
from peertap.vlan.names import BROADCAST, KIND_GROUP
from peertap.wire.introduction import Confirm, Hello, Setup
from peertap.wire.routes import KIND_UNICAST
from tests.support.identities import identity

CHANCE = random.Random(1)
DAY_S = 24 * 3600.0


class Member(Introductions):
    """One run of a member."""

    def __init__(self, name: str, sid: Sid | None = None) -> None:
        membership = StaticMembership("lab", StaticSecret(b"l" * 32))
        sid = sid or Sid(CHANCE.randbytes(16))
        super().__init__(membership, identity(name), sid=sid, random=CHANCE.randbytes, token_to=self.token_to)

    def token_to(self, mac: Mac | None) -> Token:
        kind, at = (KIND_GROUP, BROADCAST) if mac is None else (KIND_UNICAST, mac)
        return Token(self.source.keys.token(kind, at))

    def take(self, intro: SendIntro, now: float) -> list[SendIntro]:
        kind, mac = (KIND_GROUP, BROADCAST) if intro.mac is None else (KIND_UNICAST, intro.mac)
        return self.received_untrusted(self.source.keys.token(kind, mac), intro.nonce, intro.sealed, now)

    def say(self, **fields: object) -> list[SendIntro]:
        """A well-signed Hello to the group with these fields."""
        hello = replace(self._hello(0.0), **fields)  # type: ignore[arg-type]
        return self._to_group(replace(hello, signature=self._identity.sign(Hello.PREFIX + hello.unsigned())))


class Net:
    """Members that hear each other without delay."""

    def __init__(self, *members: Member) -> None:
        self.members, self.now = members, 0.0
        self.log: list[tuple[Member, SendIntro]] = []
        self.drops: Callable[[Member, SendIntro], bool] = lambda _source, _intro: False

    def carry(self, source: Member, intros: Iterable[SendIntro]) -> None:
        queue = [(source, intro) for intro in intros]
        while queue:
            sender, intro = queue.pop(0)
            self.log.append((sender, intro))
            if self.drops(sender, intro):
                continue
            for member in self.members:
                if member is not sender and intro.mac in (None, member.mac):
                    queue += [(member, answer) for answer in member.take(intro, self.now)]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := min((at for one in self.members if (at := one.next_deadline()) is not None), default=end)) < end:
            self.now = max(self.now, due)
            for member in self.members:
                self.carry(member, member.tick(self.now))
            assert all((one.next_deadline() or end) > self.now for one in self.members), "it would spin"
        self.now = end

    def meet(self) -> None:
        for member in self.members:
            self.carry(member, member.edge_up(self.now))
        self.run(1)

    def frames(self, source: Member, to: Member) -> bool:
        """Whether a pair frame is opened; the question for an unknown key follows where it is not."""
        peer = source.peers.get(to.me)
        if peer is None or peer.pair_send is None:
            return False
        if peer.pair_send.kid in pair_kids(to, source):
            return True
        self.carry(to, to.unknown_kid(peer.pair_send.kid, self.now))
        return False


def pair_kids(member: Member, of: Member) -> list[bytes]:
    peer = member.peers.get(of.me)
    return [] if peer is None else [one.key.kid for one in peer.pair_receive]


def heard(by: Member, intros: Iterable[SendIntro], now: float) -> list[SendIntro]:
    """What it says to them."""
    return [answer for intro in intros for answer in by.take(intro, now)]


def two() -> tuple[Net, Member, Member]:
    net = Net(Member("a"), Member("b"))
    net.meet()
    a, b = net.members
    assert net.frames(a, b)
    assert net.frames(b, a)
    return net, a, b


def test_who_keeps_a_mac_says_so_to_whoever_comes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that joined with a MAC that was taken learned of it at the other's next Hello, up to 5 minutes later."""
    monkeypatch.setattr(introductions, "virtual_mac", lambda member, vlan, nonce: Mac(b"\2\0\0\0\0\1"))
    keeps, comes = sorted((Member("a"), Member("b")), key=lambda one: one.me)
    answer = heard(keeps, comes.edge_up(0.0), 0.0)
    assert {intro.mac for intro in answer} == {None}, "the unicast token is its own as well"
    assert heard(keeps, comes.edge_up(0.5), 0.5) == [], "at most one a second"
    assert not keeps.must_renumber
    assert heard(comes, answer, 0.1) == []
    assert comes.must_renumber


def test_of_a_run_that_an_overtaken_hello_makes_known_the_latest_one_counts() -> None:
    net = Net(Member("a"), Member("b"))
    a, b = net.members
    answer = heard(b, a.edge_up(0.0), 0.0)
    b.generation_spent(b.group_send.kid, 0.0)
    heard(a, b.edge_up(0.0), 0.0)
    assert b.me not in a.peers
    heard(a, answer, 0.0)
    assert a.peers[b.me].hello.generation == 1


@pytest.mark.parametrize("first", ["victim", "thief"])
def test_a_member_that_says_hello_with_anothers_sid_neither_takes_its_place_nor_silences_it(first: str) -> None:
    """A later Hello of the same sid counted, whoever had signed it: the thief's keys were taken for the victim's."""
    a, victim, thief = Member("a"), Member("v"), Member("t")
    answer = heard(victim, a.edge_up(0.0), 0.0)
    thief.sid, thief._serial = victim.sid, 1000
    thief.generation_spent(thief.group_send.kid, 0.0)
    if first == "victim":
        heard(a, victim.edge_up(0.0), 0.0)
    heard(a, thief.edge_up(0.0), 0.0)
    heard(a, answer, 0.0)
    assert a.peers.keys() == {victim.me}
    assert a.peers[victim.me].hello.member == victim.me
    assert a.peers[victim.me].hello.generation == 0


def test_a_member_that_is_known_by_anothers_sid_keeps_nobody_out() -> None:
    """Whoever said Hello with a sid first had it: the member whose it was could not be met."""
    victim = Member("v")
    a, thief = Member("a"), Member("t", victim.sid)
    Net(a, thief).meet()
    assert a.peers.keys() == {thief.me}
    net = Net(a, victim)
    net.meet()
    assert net.frames(a, victim)
    assert net.frames(victim, a)
    a.forget(victim.me)
    a.forget(thief.me)
    net.now = 400.0
    net.meet()
    assert a.peers.keys() == {victim.me}
    assert net.frames(a, victim)
    assert not a.rejected


# Hellos that nobody may say


@pytest.mark.parametrize(
    "fields",
    [
        {"generation": 2**32 - 1},
        {"floor": 2**63},
        {"floor": 2**64 - 1},
        {"floor": 2**32 + 1},
        {"member": PeerId(b"abcdef" + bytes(32))},
    ],
    ids=str,
)
def test_a_hello_out_of_bounds_is_rejected_and_counted_and_a_newcomer_is_heard(fields: dict[str, object]) -> None:
    evil, a, b = Member("evil"), Member("a"), Member("b")
    for intro in evil.say(**fields):
        assert a.take(intro, 0.0) == []
    assert a.rejected == 1
    assert not a._candidates
    net = Net(a, b)
    net.meet()
    assert net.frames(a, b)


@pytest.mark.parametrize("fields", [{"generation": 2**32 - 2}, {"floor": 2**32}], ids=str)
def test_a_hello_at_the_last_possible_value_is_answered(fields: dict[str, object]) -> None:
    evil, a = Member("evil"), Member("a")
    assert [answer for intro in evil.say(**fields) for answer in a.take(intro, 0.0)]
    a.tick(5.0)
    assert a.rejected == 0


@pytest.mark.parametrize("signing_key", [bytes(32), b"\xff" * 32, b"\x02" + bytes(31)], ids=bytes.hex)
def test_a_hello_with_a_signing_key_that_is_none_ends_nothing(signing_key: bytes) -> None:
    evil, a = Member("evil"), Member("a")
    for intro in evil.say(signing_key=signing_key):
        a.take(intro, 0.0)
    a.tick(5.0)
    net = Net(a, Member("b"))
    net.meet()
    assert net.frames(a, net.members[1])


@pytest.mark.parametrize("public", [bytes(1216), b"\xff" * 1216], ids=["zeros", "ones"])
def test_a_member_with_a_prekey_that_is_none_ends_nothing(public: bytes) -> None:
    evil, a = Member("evil"), Member("a")
    evil.pairs._prekeys[0].public = public  # type: ignore[misc]
    net = Net(evil, a)
    net.meet()
    net.run(20)
    other = Net(a, Member("b"))
    other.now = net.now
    other.meet()
    assert other.frames(a, other.members[1])


# Replays


def test_64_replays_of_a_hello_do_not_silence_a_newcomer() -> None:
    _, a, b = two()
    recorded = [intro for intro in a.edge_up(20.0) if b.take(intro, 20.0) is not None]
    for _ in range(64):
        for intro in recorded:
            assert b.take(intro, 20.0) == []
    newcomer = Member("c")
    answers = [answer for intro in newcomer.edge_up(20.0) for answer in b.take(intro, 20.0)]
    assert answers
    assert b.rejected == 0


def test_64_replays_of_a_candidates_hello_do_not_silence_a_newcomer() -> None:
    candidate, b, newcomer = Member("a"), Member("b"), Member("c")
    recorded = candidate.edge_up(20.0)
    for _ in range(65):
        for intro in recorded:
            b.take(intro, 20.0)
    assert len(b._verified) == 1
    assert [answer for intro in newcomer.edge_up(20.0) for answer in b.take(intro, 20.0)]


def test_more_hellos_a_second_than_are_verified_are_counted_and_the_next_second_is_another() -> None:
    b = Member("b")
    for number in range(70):
        for intro in Member(f"m{number}").edge_up(20.0):
            b.take(intro, 20.0)
    assert b.rejected == 6
    assert [answer for intro in Member("late").edge_up(21.1) for answer in b.take(intro, 21.1)]


# A member is forgotten and comes back


def test_a_run_that_comes_back_after_both_sides_forgot_has_the_windows_that_it_had() -> None:
    net, a, b = two()
    setups = [intro for sender, intro in net.log if sender is a and intro.mac == b.mac]
    former = b.peers[a.me]
    pair, groups = {one.key.kid: one.key for one in former.pair_receive}, dict(former.group_receive)
    a.forget(b.me)
    b.forget(a.me)
    assert not b.peers
    net.now = 400.0
    net.meet()
    back = b.peers[a.me]
    for intro in setups:
        b.take(intro, net.now)
    for number, key in groups.items():
        assert back.group_receive[number] is key, "the replay window began anew"
    for one in back.pair_receive:
        assert pair.get(one.key.kid, one.key) is one.key, "the replay window began anew"
    assert net.frames(a, b)
    assert net.frames(b, a)


def test_a_recorded_setup_is_refused_when_its_member_is_back() -> None:
    net, a, b = two()
    setups = [intro for sender, intro in net.log if sender is a and intro.mac == b.mac]
    old = b.peers[a.me].pair_receive[0].key
    b.forget(a.me)
    net.now = 400.0
    net.meet()
    before = list(b.peers[a.me].pair_receive)
    for intro in setups:
        b.take(intro, net.now)
    assert b.peers[a.me].pair_receive == before
    assert [one.key for one in before if one.key.kid == old.kid] == [old]


@pytest.mark.parametrize("evicted", [False, True], ids=["kept", "evicted"])
def test_a_recorded_setup_opens_nothing_before_the_honest_one_comes(
    monkeypatch: pytest.MonkeyPatch, evicted: bool
) -> None:
    """The relay holds back all that is new but Hellos, and plays what it recorded."""
    if evicted:
        monkeypatch.setattr(introductions, "MAX_DEPARTED", 0)
    net, a, b = two()
    setups = [intro for sender, intro in net.log if sender is a and intro.mac == b.mac]
    old = b.peers[a.me].pair_receive[0].key
    b.forget(a.me)
    net.now = 400.0
    monkeypatch.setattr(a, "_offer", lambda _peer, _now: [])
    net.meet()
    back = b.peers[a.me]
    for intro in setups:
        b.take(intro, net.now)
    kept = [one.key for one in back.pair_receive]
    assert kept == ([] if evicted else [old])


@pytest.mark.parametrize("evicted", [False, True], ids=["kept", "evicted"])
@pytest.mark.parametrize("forgetful", [(0,), (1,), (0, 1)], ids=["one", "other", "both"])
def test_members_of_which_one_forgot_the_other_get_unicast_back(
    monkeypatch: pytest.MonkeyPatch, forgetful: tuple[int, ...], evicted: bool
) -> None:
    if evicted:
        monkeypatch.setattr(introductions, "MAX_DEPARTED", 0)
    net, a, b = two()
    net.run(30)
    for number in forgetful:
        net.members[number].forget(net.members[1 - number].me)
    net.run(400)
    for _ in range(10):
        net.frames(a, b)
        net.frames(b, a)
        net.run(1)
    assert net.frames(a, b)
    assert net.frames(b, a)


def test_a_pair_frame_to_a_member_that_forgot_its_sender_brings_unicast_back_in_seconds() -> None:
    net, a, b = two()
    net.run(30)
    b.forget(a.me)
    for _ in range(20):
        net.frames(a, b)
        net.run(0.5)
    assert net.frames(a, b)
    assert net.frames(b, a)


def test_a_prekey_given_up_with_a_departed_run_delays_no_setup_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introductions, "MAX_DEPARTED", 0)
    net = Net(Member("a"), Member("b"), Member("c"))
    net.meet()
    a, b, c = net.members
    net.run(30)
    b.forget(a.me)
    sender = c.peers[b.me].pair_send
    assert sender is not None
    net.carry(c, c.generation_spent(sender.kid, net.now))
    net.run(10)
    renewed = c.peers[b.me]
    assert renewed.pending is None
    assert renewed.pair_send is not None
    assert renewed.pair_send.kid != sender.kid


def test_another_run_of_a_forgotten_member_begins_with_its_own_keys() -> None:
    _net, a, b = two()
    former = {key.kid for key in b.peers[a.me].group_receive.values()}
    b.forget(a.me)
    again = Net(Member("a"), b)
    again.now = 400.0
    again.meet()
    assert not former & {key.kid for key in b.peers[a.me].group_receive.values()}
    assert again.frames(again.members[0], b)
    assert b.peers[a.me].id == 1, "the data plane knows it by the same number"


def test_departed_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introductions, "MAX_DEPARTED", 2)
    b = Member("b")
    first = b.pairs.prekey
    for number in range(5):
        net = Net(Member(f"m{number}"), b)
        net.now = 10.0 * number
        net.meet()
        b.forget(net.members[0].me)
    assert len(b._departed) == 2
    assert b.pairs.prekey != first


# Unknown keys


def test_junk_kids_over_time_do_not_silence_the_question_for_a_real_one() -> None:
    a = Member("a")
    for number in range(400):
        a.unknown_kid(CHANCE.randbytes(4), number / 2)
    asked = [number for number in range(11) if a.unknown_kid(b"real", 200.0 + number / 10)]
    assert asked


def test_a_flood_of_junk_kids_does_not_silence_the_question_for_a_real_one_for_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = Member("a")
    asked: list[tuple[bytes, float]] = []
    original = a._hello

    def hello(now: float, *, echo: Hello | None = None, asked_kid: bytes = bytes(4)) -> Hello:
        asked.append((asked_kid, now))
        return original(now, echo=echo, asked_kid=asked_kid)

    monkeypatch.setattr(a, "_hello", hello)
    for step in range(5_000):  # a thousand junk kids a second, and ten frames of a member
        now = step / 1000
        a.unknown_kid(CHANCE.randbytes(4), now)
        if step % 100 == 50:
            a.unknown_kid(b"real", now)
    first = next((at for kid, at in asked if kid == b"real"), None)
    assert first is not None
    assert first <= 1.05
    assert len(asked) <= 11, "one question in 0.5 s for all"


# Generations, prekeys, losses


def test_a_generation_step_keeps_receiving_under_the_old_key_with_its_window() -> None:
    net, a, b = two()
    before = dict(b.peers[a.me].group_receive)
    spent = a.group_send.kid
    net.carry(a, a.generation_spent(spent, net.now))
    after = b.peers[a.me].group_receive
    assert a.group_send.kid != spent
    epoch = a.epochs.newest.id
    assert after[epoch, 0] is before[epoch, 0], "frames under way are still opened, and replays refused"
    assert after[epoch, 1] is before[epoch, 1], "the next key was ready, with its window"
    assert after[epoch, 1].kid == a.group_send.kid
    assert sorted(number for _, number in after) == [0, 1, 2]
    net.carry(a, a.generation_spent(a.group_send.kid, net.now))
    assert sorted(number for _, number in b.peers[a.me].group_receive) == [1, 2, 3]


def test_a_generation_step_whose_hello_was_lost_is_received_under_the_next_key_that_is_there() -> None:
    _, a, b = two()
    a.generation_spent(a.group_send.kid, 5.0)  # nobody hears it
    assert a.group_send.kid in {key.kid for key in b.peers[a.me].group_receive.values()}


def test_a_spent_pair_key_is_replaced_and_the_former_is_received_for_five_seconds() -> None:
    net, a, b = two()
    sender = a.peers[b.me].pair_send
    assert sender is not None
    net.carry(a, a.generation_spent(sender.kid, net.now))
    assert len(pair_kids(b, a)) == 2
    assert net.frames(a, b)
    net.run(6)
    assert len(pair_kids(b, a)) == 1
    assert net.frames(a, b)


def test_a_confirm_that_was_lost_is_said_again() -> None:
    net = Net(Member("a"), Member("b"))
    a, b = net.members
    lost: list[float] = []

    def lose_confirms(sender: Member, intro: SendIntro) -> bool:
        """All that b says within 2 s of its first Confirm."""
        if sender is b and (intro.after_applied or lost) and net.now < (lost or [net.now])[0] + 2:
            lost.append(net.now)
            return True
        return False

    net.drops = lose_confirms
    net.meet()
    assert lost
    key = b.peers[a.me].pair_receive[0].key
    assert a.peers[b.me].pair_send is None
    net.run(10)
    assert net.frames(a, b)
    assert net.frames(b, a)
    assert b.peers[a.me].pair_receive[0].key is key


def test_a_setup_whose_epoch_ended_before_its_confirm_came_is_made_in_the_next_one() -> None:
    """A member back with the keys of long ago: who still had them answers, and drops them before the setup comes."""
    net = Net(Member("a"), Member("b"))
    a, b = net.members
    net.drops = lambda sender, intro: sender is a and intro.mac == b.mac
    net.meet()
    first = a.peers[b.me].pending
    assert first is not None
    for member in net.members:
        member.epoch_began(StaticSecret(b"m" * 32).keys(member.source.vlan_id), set(), net.now)
    net.run(GRACE_S + 0.1)
    assert first.epoch not in a.epochs.live
    net.drops = lambda _sender, _intro: False
    net.run(3)
    assert net.frames(a, b)
    assert net.frames(b, a)


def test_a_member_heard_in_a_later_epoch_gets_its_setup_there() -> None:
    net = Net(Member("a"), Member("b"))
    a, b = net.members
    net.drops = lambda sender, intro: sender is a and intro.mac == b.mac
    net.meet()
    later = StaticSecret(b"m" * 32).keys(a.source.vlan_id)
    b.epoch_began(later, set(), net.now)
    net.run(GRACE_S + 0.1)
    net.drops = lambda _sender, _intro: False
    a.epoch_began(later, set(), net.now)
    net.carry(b, b.edge_up(net.now))
    net.run(GRACE_S - 1)  # a has the former epoch still
    assert net.frames(a, b)


def test_a_setup_that_comes_twice_gets_the_same_confirm_and_no_other_key() -> None:
    net, a, b = two()
    setup, key = b.peers[a.me].setup_seen, b.peers[a.me].pair_receive[0].key
    assert setup is not None
    answers = [answer for intro in a._to_member(b.mac, setup, a.epochs.sending) for answer in b.take(intro, net.now)]
    assert len(answers) == 1
    assert b.peers[a.me].pair_receive[0].key is key


def test_a_setup_of_an_older_generation_or_with_nonsense_changes_nothing() -> None:
    net, a, b = two()
    key, rejected = b.peers[a.me].pair_receive, b.rejected
    for setup in (Setup(b.sid, 0, b"x" * 1200), Setup(b.sid, 99, b""), Setup(b.sid, 99, b"\xff" * 1290)):
        for intro in a._to_member(b.mac, setup, a.epochs.sending):
            assert b.take(intro, net.now) == []
    assert b.peers[a.me].pair_receive == key
    assert b.rejected == rejected + 3
    for intro in a._to_member(b.mac, Confirm(b.sid, 1, bytes(16)), a.epochs.sending):
        b.take(intro, net.now)
    assert net.frames(b, a)


def test_after_24_hours_a_setup_under_the_former_prekey_still_opens() -> None:
    net, a, b = two()
    former = b.pairs.prekey
    net.drops = lambda sender, _intro: sender is b  # a hears nothing of the renewal
    net.run(DAY_S + 10)
    assert b.pairs.prekey != former
    assert a.peers[b.me].hello.prekey == former
    net.drops = lambda _sender, _intro: False
    sender = a.peers[b.me].pair_send
    assert sender is not None
    net.carry(a, a.generation_spent(sender.kid, net.now))
    renewed = a.peers[b.me].pair_send
    assert renewed is not None
    assert renewed.kid != sender.kid
    assert net.frames(a, b)


def test_a_spent_pair_key_is_replaced_also_when_the_other_prekey_is_renewed_meanwhile() -> None:
    net, a, b = two()
    sender = a.peers[b.me].pair_send
    assert sender is not None
    net.drops = lambda source, _intro: source is a
    net.carry(a, a.generation_spent(sender.kid, net.now))
    b._prekey_until = net.now
    net.carry(b, b.tick(net.now))
    net.drops = lambda _source, _intro: False
    net.run(400)
    renewed = a.peers[b.me].pair_send
    assert renewed is not None
    assert renewed.kid != sender.kid


def test_a_prekey_is_gone_after_two_renewals() -> None:
    net, a, b = two()
    former = b.pairs.prekey
    net.run(2 * DAY_S + 10)
    assert len(b.pairs._prekeys) == 2
    assert former not in {one.public for one in b.pairs._prekeys}
    assert a.peers[b.me].hello.prekey == b.pairs.prekey
