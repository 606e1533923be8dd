"""Circles: who knows the secret finds the others, who does not learns nothing, and days do not mix."""

from dataclasses import replace

import pytest

from peertap._core import StaticSecret
from peertap.errors import DecodeError
from peertap.vlan.circles import (
    CONTENT_BYTES,
    DAY_S,
    MAX_FOUND_ADDRESSES,
    OVERLAP_S,
    SLOT_BYTES,
    Circle,
    days,
)
from peertap.vlan.membership import StaticMembership
from tests.support.identities import identity

A, B = identity("a"), identity("b")
NOON = 20_000 * DAY_S + DAY_S / 2
DAY = 20_000
SECRET, NONCE, SALT = b"c" * 32, b"n" * 12, b"s" * 16
ADDRESSES = (f"/ip4/192.0.2.1/tcp/4511/p2p/{A.text}", f"/dns/relay.example.org/tcp/4511/p2p/{B.text}")


def circle(secret: bytes = SECRET, day: int = DAY) -> Circle:
    return Circle(secret, day)


def test_a_member_finds_another_by_its_record() -> None:
    record = circle().record(A, ADDRESSES, NOON, NONCE)
    found = circle().open_untrusted(record)
    assert (found.member, found.addresses) == (A.peer_id, ADDRESSES)


def test_another_secret_or_another_day_neither_opens_a_record_nor_has_its_key() -> None:
    record = circle().record(A, ADDRESSES, NOON, NONCE)
    for other in (circle(b"d" * 32), circle(day=DAY + 1)):
        assert other.key != record.key
        with pytest.raises(DecodeError):
            other.open_untrusted(record)


def test_a_record_shows_neither_the_member_nor_its_addresses_nor_how_many_there_are() -> None:
    one, two = (circle().record(A, ADDRESSES[:count], NOON, NONCE) for count in (1, 2))
    assert len(one.emit()) == len(two.emit())
    for secret in (A.public_key, A.text.encode(), b"192.0.2.1", b"example"):
        assert secret not in two.emit()


def test_a_members_records_of_two_days_have_nothing_in_common() -> None:
    today, tomorrow = (Circle(SECRET, day).record(A, ADDRESSES, NOON, NONCE) for day in (DAY, DAY + 1))
    assert {today.owner, today.slot, today.key}.isdisjoint({tomorrow.owner, tomorrow.slot, tomorrow.key})


def test_a_record_that_was_changed_anywhere_is_refused() -> None:
    record = circle().record(A, ADDRESSES, NOON, NONCE)
    for changed in (
        replace(record, slot=b"x" * 16), replace(record, time=record.time + 1),
        replace(record, sealed=record.sealed[:-1] + bytes((record.sealed[-1] ^ 1,))),
        replace(record, signature=bytes(64)),
    ):  # fmt: skip
        with pytest.raises(DecodeError):
            circle().open_untrusted(changed)


def test_a_member_cannot_speak_for_another() -> None:
    class Liar:
        public_key = A.public_key

        @staticmethod
        def sign(message: bytes) -> bytes:
            return B.sign(message)

    with pytest.raises(DecodeError, match="did not sign"):
        circle().open_untrusted(circle().record(Liar(), ADDRESSES, NOON, NONCE))


def test_more_addresses_than_fit_are_left_out_from_the_end() -> None:
    many = tuple(f"/dns/{'x' * 60}.{'y' * 60}.example/tcp/{port}/p2p/{A.text}" for port in range(1000, 1020))
    found = circle().open_untrusted(circle().record(A, many, NOON, NONCE))
    assert 1 <= len(found.addresses) <= MAX_FOUND_ADDRESSES
    assert found.addresses == many[: len(found.addresses)]
    assert sum(map(len, found.addresses)) < CONTENT_BYTES


def test_clocks_that_differ_by_less_than_six_hours_have_a_day_in_common_at_any_time() -> None:
    for hour in range(48):
        here = NOON + hour * 3600
        for away_s in range(0, 2 * OVERLAP_S, 900):
            assert set(days(here)) & set(days(here + away_s)), (hour, away_s)
    assert days(NOON) == (DAY,)


def test_a_slot_on_the_lan_opens_to_the_circle_alone() -> None:
    slot = circle().lan_slot(SALT, A, 4511, ("192.0.2.1", "2001:db8::1"))
    assert len(slot) == SLOT_BYTES
    (found,) = circle().open_lan_untrusted(SALT, [b"\0" * SLOT_BYTES, slot, b""])
    assert (found.member, found.port) == (A.peer_id, 4511)
    assert [str(one) for one in found.addresses] == ["192.0.2.1", "2001:db8::1"]
    for other, salt in ((circle(b"d" * 32), SALT), (circle(day=DAY + 1), SALT), (circle(), b"t" * 16)):
        assert other.open_lan_untrusted(salt, [slot]) == []


def test_two_announcements_of_one_member_have_nothing_in_common() -> None:
    one, two = (circle().lan_slot(salt, A, 4511, ("192.0.2.1",)) for salt in (SALT, b"t" * 16))
    assert not any(one[at : at + 4] == two[at : at + 4] for at in range(SLOT_BYTES - 4))


def test_members_of_a_static_vlan_have_one_circle_and_of_another_vlan_another() -> None:
    secrets = [b"k" * 32, b"k" * 32, b"l" * 32]
    one, same, other = (StaticMembership("lab", StaticSecret(secret)).keys.circle for secret in secrets)
    assert one == same != other
    assert len(one) == 32
