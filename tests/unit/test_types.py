"""Identifiers, and how errors read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.errors import ConfigError, DecodeError, PeerError, PeerTapError, StateError
from peertap.types import Mac, format_mac, is_peer_id, parse_mac, peer_id_of, public_key_of


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_gives_its_public_key_back(key: bytes) -> None:
    peer = peer_id_of(key)
    assert is_peer_id(peer)
    assert public_key_of(peer) == key
    assert not is_peer_id(peer[:-1])
    assert not is_peer_id(b"\1" + peer[1:])


@given(st.binary(min_size=6, max_size=6))
def test_a_mac_survives_its_text(raw: bytes) -> None:
    text = format_mac(Mac(raw))
    assert parse_mac(text) == parse_mac(text.upper().replace(":", "-")) == raw


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:5e:10:00",
        "02:00:5e:10:00:01:02",
        "02:00:5e:10:00:0g",
        "02-00:5e:10:00:01",
        "02005e100001",
        " 02:00:5e:10:00:01",
    ],
)
def test_what_is_no_mac_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_mac(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PeerError("what"), "what"),
        (StateError("what", hint="do"), "what (hint: do)"),
        (ConfigError("what"), "what"),
        (ConfigError("what", file="f"), "f: what"),
        (ConfigError("what", file="f", line=3, key="k", hint="do"), "f:3: k: what (hint: do)"),
        (ConfigError("what", key="k"), "k: what"),
    ],
)
def test_an_error_reads_where_what_and_hint(error: PeerTapError, text: str) -> None:
    assert str(error) == text


def test_many_mistakes_are_a_line_each() -> None:
    error = ConfigError.of([ConfigError("one", key="a"), ConfigError("two", key="b", hint="do")])
    assert str(error) == "a: one\nb: two (hint: do)"
