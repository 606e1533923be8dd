"""What anybody on the LAN can announce."""

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.shell.interfaces import LocalAddress
from peertap.shell.lan import is_on_link, read_untrusted
from peertap.vlan.circles import MAX_SLOTS, SALT_BYTES, SLOT_BYTES

SALT = b"s" * SALT_BYTES
HERE = [LocalAddress("up0", ip_interface("10.87.0.1/24"), True), LocalAddress("up0", ip_interface("fd00::1/64"), False)]


def test_an_announcements_slots_are_those_of_its_strings() -> None:
    slots = [bytes((number,)) * SLOT_BYTES for number in range(MAX_SLOTS)]
    strings = {str(at // 2).encode(): slots[at] + slots[at + 1] for at in range(0, MAX_SLOTS, 2)}
    heard = read_untrusted({b"s": SALT, **strings}, 4511, [])
    assert heard is not None
    assert list(heard.slots) == slots


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {b"s": SALT[:-1]},
        {b"s": SALT, b"0": b"x" * (SLOT_BYTES - 1)},
        {b"s": None, b"0": None},
        {b"s": SALT, **{str(number).encode(): b"x" * (3 * SLOT_BYTES) for number in range(4)}},
    ],
)
def test_what_is_no_announcement_of_ours_is_none(properties: dict[bytes, bytes | None]) -> None:
    assert read_untrusted(properties, 4511, []) is None


@given(
    st.dictionaries(st.sampled_from([b"s", b"0", b"1", b"2", b"3", b"relay"]), st.none() | st.binary(max_size=255)),
    st.integers(0, 65535),
    st.lists(st.text(max_size=20), max_size=8),
)
def test_random_announcements_raise_nothing(properties: dict[bytes, bytes | None], port: int, hosts: list[str]) -> None:
    heard = read_untrusted(properties, port, hosts)
    assert heard is None or len(heard.slots) <= MAX_SLOTS
    for host in hosts:
        is_on_link(host, HERE)


def test_a_lan_sends_nobody_elsewhere() -> None:
    assert is_on_link("10.87.0.9", HERE)
    assert is_on_link("fd00::9", HERE)
    for elsewhere in ("192.0.2.1", "127.0.0.1", "10.87.0.1", "fe80::1", "2001:db8::1", "not an address", ""):
        assert not is_on_link(elsewhere, HERE)
