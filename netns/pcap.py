"""Capture files in the classic format, as tcpdump and Wireshark know it. Pure.

├ magic 4 ┼ version 2+2 ┼ zone 4 ┼ accuracy 4 ┼ snap length 4 ┼ link type 4 ┤
then per packet: ├ seconds 4 ┼ fraction 4 ┼ captured 4 ┼ original 4 ┼ bytes … ┤
"""

import struct
from dataclasses import dataclass
from typing import Final

LINKTYPE_ETHERNET: Final = 1
_MAGIC: Final = {0xA1B2C3D4: 1e-6, 0xA1B23C4D: 1e-9}  # what the fraction counts
MAX_PACKET_BYTES: Final = 262_144  # tcpdump's own snap length


@dataclass(frozen=True, slots=True)
class Packet:
    """One captured packet; `at` in seconds since the epoch."""

    at: float
    data: bytes


def write(packets: list[Packet]) -> bytes:
    """A capture of Ethernet frames, microseconds, little-endian."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_PACKET_BYTES, LINKTYPE_ETHERNET)]
    for packet in packets:
        seconds, fraction = divmod(round(packet.at * 1_000_000), 1_000_000)
        out.append(struct.pack("<4I", seconds, fraction, len(packet.data), len(packet.data)) + packet.data)
    return b"".join(out)


def read(capture: bytes) -> list[Packet]:
    """The packets of a capture of Ethernet frames. A last record that is cut short is left out: the writer was stopped.

    Raises:
        ValueError: not such a file.
    """
    for order in "<>":
        if len(capture) >= 24 and (unit := _MAGIC.get(struct.unpack_from(order + "I", capture)[0])):
            break
    else:
        raise ValueError("not a pcap file")
    link_type = struct.unpack_from(order + "I", capture, 20)[0]
    if link_type != LINKTYPE_ETHERNET:
        raise ValueError(f"link type {link_type}, not Ethernet")
    packets, offset = [], 24
    while offset + 16 <= len(capture):
        seconds, fraction, length, _ = struct.unpack_from(order + "4I", capture, offset)
        if length > MAX_PACKET_BYTES:
            raise ValueError(f"a record of {length} bytes at offset {offset}")
        offset += 16
        if offset + length > len(capture):
            break
        packets.append(Packet(seconds + fraction * unit, capture[offset : offset + length]))
        offset += length
    return packets
