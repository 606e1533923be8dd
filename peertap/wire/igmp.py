"""IGMP messages in Ethernet frames (RFC 2236, 3376), and what else shows an IPv4 router (RFC 4286, 7761).

Ethernet 14 | IPv4 header 24: TTL 1, router alert | message

query:  0x11 | response code 1 | checksum 2 | group 4 | S, QRV 1 | QQIC 1 | n 2 | source 4 n       (version 3)
report: 0x22 | 0 | checksum 2 | 0 2 | n 2 | n records: type 1 | 0 1 | m 2 | group 4 | source 4 m   (version 3)
        0x12, 0x16 report, 0x17 leave: type 1 | response code 1 | checksum 2 | group 4             (versions 1, 2)
"""

from ipaddress import IPv4Address
from typing import Final

from peertap.errors import DecodeError
from peertap.types import Mac
from peertap.wire.codec import Reader
from peertap.wire.multicast import (
    MRD_LIVES_S,
    PIM,
    PIM_HOLD_S,
    RESPONSE_S,
    Change,
    Query,
    Record,
    Report,
    RouterSeen,
    Said,
    checksum,
    decoded_float,
    encoded_float,
    group_mac,
    query_end,
    read_query,
    read_records,
    records_of,
)

ETHERTYPE: Final = 0x0800
PROTOCOL: Final = 2
HEADER_BYTES: Final = 20
ROUTER_ALERT: Final = bytes.fromhex("94040000")  # RFC 2113
ALL_HOSTS: Final = IPv4Address("224.0.0.1")
ALL_ROUTERS: Final = IPv4Address("224.0.0.2")
ALL_REPORTS: Final = IPv4Address("224.0.0.22")  # RFC 3376 4.2.14
NOBODY: Final = IPv4Address(0)

_QUERY, _REPORT_1, _REPORT_2, _LEAVE, _REPORT_3 = 0x11, 0x12, 0x16, 0x17, 0x22
_ADVERTISED, _TERMINATED = 0x30, 0x32  # RFC 4286


def parse_untrusted(packet: bytes) -> Said:
    """What an IPv4 packet says about groups.

    Raises: DecodeError: nothing, or not by the rules.
    """
    reader = Reader(packet, "IGMP")
    header = reader.take(HEADER_BYTES, "IPv4 header")
    length, size = (header[0] & 0x0F) * 4, int.from_bytes(header[2:4], "big")
    if header[0] >> 4 != 4 or not HEADER_BYTES <= length <= size <= len(packet) or header[6] & 0x3F or header[7]:
        raise DecodeError("IGMP: not a whole IPv4 packet")
    source, message = IPv4Address(header[12:16]), packet[length:size]
    if header[9] == PIM and message[:1] and message[0] & 0x0F == 0:
        return RouterSeen(PIM_HOLD_S)
    if header[9] != PROTOCOL or checksum(message) or len(message) < 4:
        raise DecodeError("IGMP: another protocol, or a wrong checksum")
    return _parse(message, source)


def _parse(message: bytes, source: IPv4Address) -> Said:
    reader = Reader(message, "IGMP")
    kind, code, _ = reader.uint(1, "type"), reader.uint(1, "code"), reader.uint(2, "checksum")
    if kind in (_ADVERTISED, _TERMINATED):
        return RouterSeen(MRD_LIVES_S if kind == _ADVERTISED else 0.0)
    if kind == _REPORT_3:
        return Report(3, read_records(reader, IPv4Address))
    group = IPv4Address(reader.take(4, "group"))
    if kind == _QUERY:
        return _query(reader, code, source, group, is_short=len(message) < 12)
    if not group.is_multicast:
        raise DecodeError(f"IGMP: {group} is no group")
    if kind == _LEAVE:
        return Report(2, (Record(Change.TO_INCLUDE, group),))
    if kind in (_REPORT_1, _REPORT_2):
        return Report(1 if kind == _REPORT_1 else 2, (Record(Change.IS_EXCLUDE, group),))
    raise DecodeError(f"IGMP: type {kind}")


def _query(reader: Reader, code: int, source: IPv4Address, group: IPv4Address, *, is_short: bool) -> Query:
    wanted = group if group != NOBODY else None
    if wanted is not None and not group.is_multicast:
        raise DecodeError(f"IGMP: {group} is no group")
    if is_short:
        return Query(2 if code else 1, source, wanted, code / 10 or RESPONSE_S)
    return read_query(reader, IPv4Address, Query(3, source, wanted, decoded_float(code, 4) / 10))


def emit_query(query: Query, src: Mac) -> bytes:
    """The frame of a query of version 3."""
    group = IPv4Address(query.group.packed) if query.group is not None else NOBODY
    body = bytes((_QUERY, encoded_float(round(query.response_s * 10), 4), 0, 0)) + group.packed + query_end(query)
    return _frame(src, IPv4Address(query.source.packed), ALL_HOSTS if group == NOBODY else group, body)


def emit_report(report: Report, src: Mac) -> list[bytes]:
    """The frames of a report, from nobody's address (RFC 4541 2.1.1): one, or one for each group before version 3."""
    if report.version < 3:
        return [_old_report(report.version, record, src) for record in report.records]
    body = bytes((_REPORT_3, 0, 0, 0)) + records_of(report)
    return [_frame(src, NOBODY, ALL_REPORTS, body)]


def _old_report(version: int, record: Record, src: Mac) -> bytes:
    if record.change is Change.TO_INCLUDE:
        return _frame(src, NOBODY, ALL_ROUTERS, bytes((_LEAVE, 0, 0, 0)) + record.group.packed)
    kind = _REPORT_1 if version == 1 else _REPORT_2
    return _frame(src, NOBODY, IPv4Address(record.group.packed), bytes((kind, 0, 0, 0)) + record.group.packed)


def _frame(src: Mac, source: IPv4Address, group: IPv4Address, body: bytes) -> bytes:
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    size = HEADER_BYTES + len(ROUTER_ALERT) + len(body)
    header = bytes((0x46, 0xC0)) + size.to_bytes(2, "big") + bytes((0, 0, 0, 0, 1, PROTOCOL, 0, 0))
    header += source.packed + group.packed + ROUTER_ALERT
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return group_mac(group) + src + ETHERTYPE.to_bytes(2, "big") + header + body
