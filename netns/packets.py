"""Ethernet, IPv4 and UDP by hand, as far as scenarios need them. Pure."""

import struct
from dataclasses import dataclass
from typing import Final

BROADCAST: Final = b"\xff" * 6
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_TEST: Final = 0x88B5  # IEEE 802 local experimental ethertype 1: no stack answers it
PROTOCOL_TCP: Final = 6
PROTOCOL_UDP: Final = 17


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram in an Ethernet frame; enough to send it again as it came."""

    destination_mac: bytes
    source_mac: bytes
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    payload: bytes

    @classmethod
    def parse(cls, frame: bytes) -> "Datagram | None":
        """None for everything that is not an unfragmented UDP datagram over IPv4."""
        ip = _ipv4(frame)
        if ip is None:
            return None
        protocol, source, destination, body = ip
        if protocol != PROTOCOL_UDP or len(body) < 8:
            return None
        source_port, destination_port, length, _ = struct.unpack_from("!4H", body)
        if not 8 <= length <= len(body):
            return None
        return cls(frame[:6], frame[6:12], source, destination, source_port, destination_port, body[8:length])

    def emit(self) -> bytes:
        """The frame with fresh lengths and checksums (UDP: none, as IPv4 allows; an offload's is only half a sum)."""
        udp = struct.pack("!4H", self.source_port, self.destination_port, 8 + len(self.payload), 0) + self.payload
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, PROTOCOL_UDP, 0, self.source, self.destination
        )
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return ethernet(self.destination_mac, self.source_mac, ETHERTYPE_IPV4, head + udp)


def tcp_segment(frame: bytes) -> tuple[tuple[bytes, bytes, bytes], bytes] | None:
    """The flow (source, destination, ports) and payload of a TCP segment over IPv4; None for everything else."""
    ip = _ipv4(frame)
    if ip is None:
        return None
    protocol, source, destination, body = ip
    if protocol != PROTOCOL_TCP or len(body) < 20:
        return None
    return (source, destination, body[:4]), body[(body[12] >> 4) * 4 :]


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    return destination + source + struct.pack("!H", ethertype) + payload


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ipv4(frame: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """Protocol, source, destination and body of an IPv4 packet that is no fragment."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00" or frame[14] >> 4 != 4:
        return None
    header_bytes = (frame[14] & 15) * 4
    total, fragment = struct.unpack_from("!H2xH", frame, 16)
    if header_bytes < 20 or fragment & 0x3FFF or not header_bytes <= total <= len(frame) - 14:
        return None
    return frame[23], frame[26:30], frame[30:34], frame[14 + header_bytes : 14 + total]
