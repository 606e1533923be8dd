"""MLD messages in Ethernet frames (RFC 2710, 3810), and what else shows an IPv6 router (RFC 4286, 7761).

Ethernet 14 | IPv6 header 40: hop limit 1 | hop-by-hop options 8: router alert | message

query:  130 | 0 | checksum 2 | response code 2 | 0 2 | group 16 | S, QRV 1 | QQIC 1 | n 2 | source 16 n      (version 2)
report: 143 | 0 | checksum 2 | 0 2 | n 2 | n records: type 1 | 0 1 | m 2 | group 16 | source 16 m            (version 2)
        131 report, 132 done: type 1 | 0 | checksum 2 | 0 4 | group 16                                       (version 1)
"""

from ipaddress import IPv6Address
from typing import Final

from peertap.errors import DecodeError
from peertap.types import Mac
from peertap.wire.codec import Reader
from peertap.wire.multicast import (
    MRD_LIVES_S,
    PIM,
    PIM_HOLD_S,
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

ETHERTYPE: Final = 0x86DD
HEADER_BYTES: Final = 40
ICMPV6: Final = 58
HOP_BY_HOP: Final = 0
EXTENSIONS: Final = (HOP_BY_HOP, 43, 60)
MAX_EXTENSIONS: Final = 8  # ours: as in the data plane
ROUTER_ALERT: Final = bytes((ICMPV6, 0, 5, 2, 0, 0, 1, 0))  # RFC 2711, padded
ALL_NODES: Final = IPv6Address("ff02::1")
ALL_ROUTERS: Final = IPv6Address("ff02::2")
ALL_REPORTS: Final = IPv6Address("ff02::16")  # RFC 3810 5.2.14
NOBODY: Final = IPv6Address(0)

_QUERY, _REPORT_1, _DONE, _REPORT_2 = 130, 131, 132, 143
_ADVERTISED, _TERMINATED = 151, 153  # RFC 4286


def link_local(mac: Mac) -> IPv6Address:
    """The address that a host with this MAC gives itself (RFC 4291 2.5.1)."""
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:])


def last_link_local(mac: Mac) -> IPv6Address:
    """An address of a querier that loses every election: the lowest is elected (RFC 3810 7.6.2)."""
    return IPv6Address(b"\xfe\x80" + bytes(6) + b"\xff\xff" + mac)


def parse_untrusted(packet: bytes) -> Said:
    """What an IPv6 packet says about groups.

    Raises: DecodeError: nothing, or not by the rules.
    """
    header = Reader(packet, "MLD").take(HEADER_BYTES, "IPv6 header")
    size = HEADER_BYTES + int.from_bytes(header[4:6], "big")
    if header[0] >> 4 != 6 or size > len(packet):
        raise DecodeError("MLD: not a whole IPv6 packet")
    packet = packet[:size]
    source, group = IPv6Address(header[8:24]), IPv6Address(header[24:40])
    kind, message = _payload(header[6], packet)
    if kind == PIM:
        return RouterSeen(PIM_HOLD_S)
    if header[6] != HOP_BY_HOP or b"\5\2\0\0" not in packet[HEADER_BYTES : HEADER_BYTES + 8]:
        raise DecodeError("MLD: without a router alert (RFC 3810 6.2)")
    if kind != ICMPV6 or checksum(_pseudo(source, group, message) + message) or len(message) < 4:
        raise DecodeError("MLD: another protocol, or a wrong checksum")
    if header[7] != 1 or not (source.is_link_local or source == NOBODY):
        raise DecodeError("MLD: from beyond this link (RFC 3810 6.2)")
    return _parse(message, source)


def _payload(kind: int, packet: bytes) -> tuple[int, bytes]:
    at = HEADER_BYTES
    for _ in range(MAX_EXTENSIONS):
        if kind not in EXTENSIONS:
            break
        if at + 2 > len(packet):
            raise DecodeError("MLD: an extension header is cut short")
        kind, at = packet[at], at + (packet[at + 1] + 1) * 8
    return kind, packet[at:]


def _parse(message: bytes, source: IPv6Address) -> Said:
    reader = Reader(message, "MLD")
    kind, _, _ = reader.uint(1, "type"), reader.uint(1, "code"), reader.uint(2, "checksum")
    if kind in (_ADVERTISED, _TERMINATED):
        return RouterSeen(MRD_LIVES_S if kind == _ADVERTISED else 0.0)
    if kind == _REPORT_2:
        return Report(2, read_records(reader, IPv6Address))
    code, _ = reader.uint(2, "response code"), reader.take(2, "reserved")
    group = IPv6Address(reader.take(16, "group"))
    if kind == _QUERY:
        return _query(reader, code, source, group, is_short=len(message) < 28)
    if not group.is_multicast:
        raise DecodeError(f"MLD: {group} is no group")
    if kind in (_REPORT_1, _DONE):
        return Report(1, (Record(Change.IS_EXCLUDE if kind == _REPORT_1 else Change.TO_INCLUDE, group),))
    raise DecodeError(f"MLD: type {kind}")


def _query(reader: Reader, code: int, source: IPv6Address, group: IPv6Address, *, is_short: bool) -> Query:
    wanted = group if group != NOBODY else None
    if source == NOBODY or (wanted is not None and not group.is_multicast):
        raise DecodeError("MLD: a query from nobody, or for no group")
    if is_short:
        return Query(1, source, wanted, code / 1000)
    return read_query(reader, IPv6Address, Query(2, source, wanted, decoded_float(code, 12) / 1000))


def emit_query(query: Query, src: Mac) -> bytes:
    """The frame of a query of version 2."""
    group = IPv6Address(query.group.packed) if query.group is not None else NOBODY
    body = bytes((_QUERY, 0, 0, 0)) + encoded_float(round(query.response_s * 1000), 12).to_bytes(2, "big") + b"\0\0"
    body += group.packed + query_end(query)
    return _frame(src, IPv6Address(query.source.packed), ALL_NODES if query.group is None else group, body)


def emit_report(report: Report, src: Mac) -> list[bytes]:
    """The frames of a report: one, or one for each group before version 2."""
    if report.version < 2:
        return [_old_report(record, src) for record in report.records]
    body = bytes((_REPORT_2, 0, 0, 0)) + records_of(report)
    return [_frame(src, link_local(src), ALL_REPORTS, body)]


def _old_report(record: Record, src: Mac) -> bytes:
    group, is_done = IPv6Address(record.group.packed), record.change is Change.TO_INCLUDE
    body = bytes((_DONE if is_done else _REPORT_1, 0, 0, 0, 0, 0, 0, 0)) + group.packed
    return _frame(src, link_local(src), ALL_ROUTERS if is_done else group, body)


def _frame(src: Mac, source: IPv6Address, group: IPv6Address, body: bytes) -> bytes:
    body = body[:2] + checksum(_pseudo(source, group, body) + body).to_bytes(2, "big") + body[4:]
    size = len(ROUTER_ALERT) + len(body)
    header = bytes((0x60, 0, 0, 0)) + size.to_bytes(2, "big") + bytes((HOP_BY_HOP, 1)) + source.packed + group.packed
    return group_mac(group) + src + ETHERTYPE.to_bytes(2, "big") + header + ROUTER_ALERT + body


def _pseudo(source: IPv6Address, group: IPv6Address, body: bytes) -> bytes:
    return source.packed + group.packed + len(body).to_bytes(4, "big") + bytes((0, 0, 0, ICMPV6))
