"""Datagrams taken apart and put together again."""

import struct

import pytest

from netns.capture import find_clear_text
from netns.packets import Datagram, checksum, ethernet, tcp_segment
from netns.pcap import Packet

DATAGRAM = Datagram(b"\x02" * 6, b"\x04" * 6, b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02", 4511, 4512, b"payload" * 20)


def tcp_frame(payload: bytes, port: int = 1000) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", port, 4511, 1, 1, 5 << 4, 0, 0, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02")
    return ethernet(b"\x02" * 6, b"\x04" * 6, 0x0800, ip + tcp)


def test_a_datagram_survives_emit_and_parse() -> None:
    assert Datagram.parse(DATAGRAM.emit()) == DATAGRAM


def test_the_ip_header_has_a_right_checksum() -> None:
    assert checksum(DATAGRAM.emit()[14:34]) == 0


def test_padding_behind_the_ip_packet_is_not_payload() -> None:
    assert Datagram.parse(DATAGRAM.emit() + bytes(30)) == DATAGRAM


@pytest.mark.parametrize("cut", [0, 13, 14, 33, 34, 41])
def test_a_truncated_frame_is_no_datagram(cut: int) -> None:
    assert Datagram.parse(DATAGRAM.emit()[:cut]) is None


def test_a_fragment_is_no_datagram() -> None:
    frame = bytearray(DATAGRAM.emit())
    frame[20] = 0x20  # more fragments
    assert Datagram.parse(bytes(frame)) is None


def test_a_tcp_segment_yields_its_flow_and_payload() -> None:
    segment = tcp_segment(tcp_frame(b"hello"))
    assert segment is not None
    assert segment[1] == b"hello"
    assert tcp_segment(DATAGRAM.emit()) is None


def test_clear_text_is_found_in_a_packet_and_across_the_segments_of_a_stream() -> None:
    packets = [
        Packet(0, DATAGRAM.emit()),
        Packet(1, tcp_frame(b"..sec")),
        Packet(2, tcp_frame(b"ret..")),
        Packet(3, b""),
    ]
    needles = {"in a packet": b"payload", "in a stream": b"secret", "nowhere": b"absent"}
    assert find_clear_text(packets, needles) == ["in a packet", "in a stream"]


def test_two_streams_are_not_joined() -> None:
    packets = [Packet(0, tcp_frame(b"sec", port=1)), Packet(1, tcp_frame(b"ret", port=2))]
    assert find_clear_text(packets, {"secret": b"secret"}) == []
