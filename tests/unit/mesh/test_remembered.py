"""The cache of neighbours: what is written comes back, what is damaged is refused, nothing grows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.mesh.remembered import AGE_S, MAX_ADDRESSES, MAX_FILE_BYTES, MAX_REMEMBERED, NEWS_S, Memory

NOW = 1_800_000_000


def memory(count: int, *, dialled: bool = True) -> Memory:
    made = Memory()
    for number in range(count):
        made.note(f"p{number}", [f"/ip4/192.0.2.1/tcp/{number}/p2p/p{number}"], NOW + number, dialled=dialled)
    return made


def test_what_is_written_comes_back() -> None:
    made = memory(5)
    made.note_servers(["/ip4/192.0.2.9/tcp/4511/p2p/s"])
    assert Memory.parse(made.emit(), NOW) == made


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Memory.parse(data, NOW)


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_a_damaged_file_is_refused_or_read(at: int, junk: bytes) -> None:
    data = memory(3).emit()
    at %= len(data)
    try:
        Memory.parse(data[:at] + junk + data[at + len(junk) :], NOW)
    except DecodeError:
        pass


@pytest.mark.parametrize(
    "content",
    [
        {"version": 2, "peers": [], "servers": []},
        {"version": 1, "peers": [{"addresses": [7], "seen": NOW, "dialled": True}], "servers": []},
        {"version": 1, "peers": [{"addresses": ["x" * 500], "seen": NOW, "dialled": True}], "servers": []},
        {"version": 1, "peers": {}},
        [1],
    ],
)
def test_another_files_content_is_refused(content: object) -> None:
    with pytest.raises(DecodeError):
        Memory.parse(json.dumps(content).encode(), NOW)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(DecodeError):
        Memory.parse(b"[" * 100_000, NOW)


def test_those_who_came_to_us_give_way_first_then_the_oldest() -> None:
    made = memory(MAX_REMEMBERED)
    for number in range(100):
        made.note(f"stranger{number}", [f"/ip4/192.0.2.2/tcp/1/p2p/stranger{number}"], NOW + 1000, dialled=False)
    assert len(made.peers) == MAX_REMEMBERED
    assert not any(name.startswith("stranger") for name in made.peers)
    made.note("new", ["/ip4/192.0.2.3/tcp/1/p2p/new"], NOW + 2000, dialled=True)
    assert "p0" not in made.peers
    assert "new" in made.peers
    assert len(made.emit()) < MAX_FILE_BYTES


def test_a_peer_has_few_addresses_the_newest_first() -> None:
    made = Memory()
    for number in range(20):
        made.note("p", [f"/ip4/192.0.2.1/tcp/{number}/p2p/p"], NOW, dialled=True)
    assert len(made.peers["p"].addresses) == MAX_ADDRESSES
    assert made.peers["p"].addresses[0] == "/ip4/192.0.2.1/tcp/19/p2p/p"


def test_a_neighbour_that_is_simply_there_is_no_news_for_an_hour() -> None:
    made, addresses = Memory(), ["/ip4/192.0.2.1/tcp/1/p2p/p"]
    assert made.note("p", addresses, NOW, dialled=True)
    assert not made.note("p", addresses, NOW + 30, dialled=True)
    assert made.note("p", addresses, NOW + NEWS_S, dialled=True)


def test_who_was_not_seen_for_long_is_forgotten() -> None:
    assert Memory.parse(memory(3).emit(), NOW + AGE_S + 2).peers == {}
