"""What hosts and routers say about multicast groups, whatever the IP version (RFC 2236, 3376; RFC 2710, 3810).

Older versions are read as RFC 3376 7.3.2 reads them: a report as a record "is exclude {}", a leave as "to include {}".
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from peertap.types import Mac
from peertap.wire.codec import Reader

Address = IPv4Address | IPv6Address
Family = type[IPv4Address] | type[IPv6Address]

ROBUSTNESS: Final = 2  # RFC 3376 8.1, RFC 3810 9.1
QUERY_INTERVAL_S: Final = 125.0  # RFC 3376 8.2, RFC 3810 9.2
RESPONSE_S: Final = 10.0  # RFC 3376 8.3, RFC 3810 9.3
LAST_LISTENER_S: Final = 1.0  # RFC 3376 8.8, RFC 3810 9.8
MAX_RECORDS: Final = 4096  # ours: above what fits in the longest message that the data plane passes on
PIM: Final = 103
PIM_HOLD_S: Final = 105.0  # RFC 7761 4.11: the default of a hello's hold time
MRD_LIVES_S: Final = 60.0  # RFC 4286 8: three default intervals


class Change(IntEnum):
    """The type of a group record (RFC 3376 4.2.12, RFC 3810 5.2.12)."""

    IS_INCLUDE = 1
    IS_EXCLUDE = 2
    TO_INCLUDE = 3
    TO_EXCLUDE = 4
    ALLOW = 5
    BLOCK = 6


CHANGES: Final = frozenset(int(one) for one in Change)


@dataclass(frozen=True, slots=True)
class Record:
    """What a host says about one group."""

    change: Change
    group: Address
    sources: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A host says what it listens to. `version` is that of IGMP (1 to 3) or MLD (1, 2)."""

    version: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A querier asks who listens: to anything, or to one group.

    Args:
        source: its IP address; zero where it has none, and then it is no router (RFC 4541 2.1.1).
        suppress: other routers keep their timers (RFC 3376 4.1.5).
    """

    version: int
    source: Address
    group: Address | None = None
    response_s: float = RESPONSE_S
    robustness: int = ROBUSTNESS
    interval_s: float = QUERY_INTERVAL_S
    suppress: bool = False
    sources: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class RouterSeen:
    """A router said that it is there for so long (PIM hello, RFC 7761 4.9.2; RFC 4286), or that it goes: 0 s."""

    lives_s: float


Said = Query | Report | RouterSeen


def read_address(reader: Reader, family: Family, field: str) -> Address:
    """An address, as long as its family has it."""
    return family(reader.take(4 if family is IPv4Address else 16, field))


def read_query(reader: Reader, family: Family, query: Query) -> Query:
    """What the newest version's queries have beyond the older ones': S, QRV 1 | QQIC 1 | n 2 | n sources."""
    flags, interval, count = reader.uint(1, "QRV"), reader.uint(1, "QQIC"), reader.uint(2, "sources")
    return replace(
        query,
        robustness=flags & 7,
        interval_s=float(decoded_float(interval, 4)),
        suppress=bool(flags & 8),
        sources=tuple(read_address(reader, family, "source") for _ in range(count)),
    )


def query_end(query: Query) -> bytes:
    """What `read_query` reads."""
    flags = min(query.robustness, 7) | query.suppress << 3
    head = bytes((flags, encoded_float(round(query.interval_s), 4))) + len(query.sources).to_bytes(2, "big")
    return head + b"".join(source.packed for source in query.sources)


def read_records(reader: Reader, family: Family) -> tuple[Record, ...]:
    """Reserved 2 | n 2 | n records; those of an unknown type are skipped (RFC 3376 4.2.12, RFC 3810 5.2.12)."""
    reader.take(2, "reserved")
    records = []
    for _ in range(min(reader.uint(2, "records"), MAX_RECORDS)):
        change, extra = reader.uint(1, "record type"), reader.uint(1, "auxiliary length")
        count, group = reader.uint(2, "sources"), read_address(reader, family, "group")
        sources = tuple(read_address(reader, family, "source") for _ in range(count))
        reader.take(4 * extra, "auxiliary data")
        if change in CHANGES and group.is_multicast:
            records.append(Record(Change(change), group, sources))
    return tuple(records)


def records_of(report: Report) -> bytes:
    """What `read_records` reads."""
    out = b"\0\0" + len(report.records).to_bytes(2, "big")
    for record in report.records:
        out += bytes((record.change, 0)) + len(record.sources).to_bytes(2, "big") + record.group.packed
        out += b"".join(source.packed for source in record.sources)
    return out


def group_mac(group: Address) -> Mac:
    """The MAC that a group is sent to (RFC 1112 6.4, RFC 2464 7); 32 IPv4 groups share each."""
    low = group.packed
    return Mac(bytes((1, 0, 0x5E, low[1] & 0x7F, low[2], low[3])) if group.version == 4 else b"\x33\x33" + low[12:])


def is_for_all(group: Address) -> bool:
    """Whether a group is never pruned: 224.0.0.0/24, ff02::/16, and what is no group or stays on its host."""
    packed = group.packed
    if group.version == 4:
        return not group.is_multicast or packed[:3] == b"\xe0\0\0"
    return not group.is_multicast or packed[1] == 0x02 or packed[1] & 0x0F < 2


def decoded_float(code: int, mantissa_bits: int, exponent_bits: int = 3) -> int:
    """A time code: as it is, or with its top bit set as mantissa and exponent (RFC 3376 4.1.1, RFC 3810 5.1.3)."""
    top = 1 << mantissa_bits + exponent_bits
    if code < top:
        return code
    mantissa, exponent = code & (1 << mantissa_bits) - 1, code >> mantissa_bits & (1 << exponent_bits) - 1
    return (mantissa | 1 << mantissa_bits) << exponent + 3


def encoded_float(value: int, mantissa_bits: int, exponent_bits: int = 3) -> int:
    """The code of the largest time that is not above `value`."""
    top = 1 << mantissa_bits + exponent_bits
    if value < top:
        return value
    for exponent in range(1 << exponent_bits):
        mantissa = value >> exponent + 3
        if mantissa < 2 << mantissa_bits:
            return top | exponent << mantissa_bits | mantissa & (1 << mantissa_bits) - 1
    return 2 * top - 1


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of what stands there; zero where it is right."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def payload_untrusted(frame: bytes) -> tuple[int, bytes]:
    """EtherType and what follows it, behind at most one priority tag; (0, b"") for a runt."""
    at = 16 if frame[12:14] == b"\x81\0" else 12
    return int.from_bytes(frame[at : at + 2], "big"), frame[at + 2 :]
