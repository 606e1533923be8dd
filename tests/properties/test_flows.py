"""Over any frames and ways: a flow keeps its way while that is there, and a way that goes moves its own flows alone."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from peertap._core import way_of_flow

WAYS = st.lists(st.integers(1, 2**32 - 1), min_size=2, max_size=4, unique=True)
ADDRESSES = st.binary(min_size=4, max_size=4)
PORTS = st.integers(0, 0xFFFF)


def tcp(source: bytes, destination: bytes, ports: tuple[int, int], rest: bytes) -> bytes:
    """A TCP segment in IPv4; what is not of the flow comes from `rest`."""
    header = struct.pack("!BBHHHBBH", 0x45, rest[0], 40 + len(rest), rest[1], 0, rest[2], 6, rest[3])
    return bytes(12) + b"\x08\x00" + header + source + destination + struct.pack("!HH", *ports) + rest


@given(ADDRESSES, ADDRESSES, st.tuples(PORTS, PORTS), st.lists(st.binary(min_size=20, max_size=60), min_size=2), WAYS)
def test_all_frames_of_a_flow_take_one_way(
    source: bytes, destination: bytes, ports: tuple[int, int], rests: list[bytes], ways: list[int]
) -> None:
    taken = {way_of_flow(tcp(source, destination, ports, rest), ways) for rest in rests}
    assert len(taken) == 1


@given(st.binary(max_size=200), WAYS, st.randoms())
def test_any_frame_has_one_of_the_ways_whatever_their_order(frame: bytes, ways: list[int], random: object) -> None:
    way = way_of_flow(frame, ways)
    assert way in ways
    random.shuffle(ways)  # type: ignore[attr-defined]
    assert way_of_flow(frame, ways) == way


@given(st.binary(min_size=60, max_size=60), WAYS, st.data())
def test_a_way_that_goes_moves_its_own_flows_alone(frame: bytes, ways: list[int], data: st.DataObject) -> None:
    way = way_of_flow(frame, ways)
    gone = data.draw(st.sampled_from(ways))
    left = [one for one in ways if one != gone]
    assert way_of_flow(frame, left) == way or way == gone


@given(st.binary(min_size=60, max_size=60), WAYS, st.integers(1, 2**32 - 1))
def test_a_way_that_comes_takes_flows_and_moves_none_between_others(frame: bytes, ways: list[int], new: int) -> None:
    assert way_of_flow(frame, [*ways, new]) in (way_of_flow(frame, ways), new)


def test_without_ways_there_is_none() -> None:
    assert way_of_flow(bytes(60), []) is None
