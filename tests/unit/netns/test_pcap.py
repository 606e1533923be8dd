"""The pcap reader and writer."""

import struct

import pytest

from netns import pcap
from netns.pcap import Packet

PACKETS = [Packet(1000.25, b"a" * 60), Packet(1000.5, b""), Packet(1001.000001, bytes(range(256)) * 5)]


def test_what_is_written_is_read_again() -> None:
    assert pcap.read(pcap.write(PACKETS)) == PACKETS


def test_a_record_cut_short_is_left_out() -> None:
    capture = pcap.write(PACKETS)
    assert pcap.read(capture[:-1]) == PACKETS[:2]
    assert pcap.read(capture[: 24 + 8]) == []


def test_big_endian_nanosecond_files_are_read_too() -> None:
    head = struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    record = struct.pack(">4I", 7, 500_000_000, 3, 3) + b"abc"
    assert pcap.read(head + record) == [Packet(7.5, b"abc")]


@pytest.mark.parametrize("junk", [b"", b"\x0a\x0d\x0d\x0a" + bytes(40), b"x" * 23])
def test_other_files_are_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match="not a pcap file"):
        pcap.read(junk)


def test_another_link_type_is_refused() -> None:
    capture = bytearray(pcap.write([]))
    capture[20:24] = struct.pack("<I", 113)
    with pytest.raises(ValueError, match="link type 113"):
        pcap.read(bytes(capture))


def test_a_record_of_absurd_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a record of"):
        pcap.read(pcap.write([]) + struct.pack("<4I", 0, 0, 1 << 31, 1 << 31))
