"""IGMP and MLD: what is written is read, and nothing that comes makes a parser do more than refuse."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.types import Mac
from peertap.wire import igmp, mld
from peertap.wire.multicast import (
    Change,
    Query,
    Record,
    Report,
    RouterSeen,
    decoded_float,
    encoded_float,
    group_mac,
    is_for_all,
    payload_untrusted,
)

SRC = Mac(b"\x02\0\0\0\0\x01")
WIRES = {4: igmp, 6: mld}
NEWEST = {4: 3, 6: 2}

groups4 = st.integers(0xE0000000, 0xEFFFFFFF).map(IPv4Address)
groups6 = st.binary(min_size=15, max_size=15).map(lambda low: IPv6Address(b"\xff" + low))
hosts4 = st.integers(0, 0xFFFFFFFF).map(IPv4Address)
hosts6 = st.binary(min_size=8, max_size=8).map(lambda low: IPv6Address(b"\xfe\x80" + bytes(6) + low))


@st.composite
def reports(draw: st.DrawFn, version: int) -> Report:
    groups, hosts = (groups4, hosts4) if version == 4 else (groups6, hosts6)
    records = st.builds(Record, st.sampled_from(Change), groups, st.lists(hosts, max_size=4).map(tuple))
    return Report(NEWEST[version], tuple(draw(st.lists(records, max_size=8))))


@st.composite
def queries(draw: st.DrawFn, version: int) -> Query:
    groups, hosts = (groups4, hosts4) if version == 4 else (groups6, hosts6)
    return Query(
        NEWEST[version], draw(hosts), draw(st.none() | groups), draw(st.integers(0, 127)) / 10,
        draw(st.integers(0, 7)), float(draw(st.integers(0, 127))), draw(st.booleans()),
        tuple(draw(st.lists(hosts, max_size=4))),
    )  # fmt: skip


def read(frame: bytes) -> object:
    ethertype, packet = payload_untrusted(frame)
    return {igmp.ETHERTYPE: igmp, mld.ETHERTYPE: mld}[ethertype].parse_untrusted(packet)


@pytest.mark.parametrize("version", [4, 6])
@given(st.data())
def test_reports_and_queries_are_read_as_they_were_written(version: int, data: st.DataObject) -> None:
    report, query = data.draw(reports(version)), data.draw(queries(version))
    (frame,) = WIRES[version].emit_report(report, SRC)
    assert read(frame) == report
    assert read(frame[:12] + b"\x81\0\0\0" + frame[12:]) == report
    assert read(frame + bytes(18)) == report, "short frames are padded on the wire"
    frame = WIRES[version].emit_query(query, SRC)
    assert read(frame) == query
    assert frame[:6] == group_mac(query.group or (igmp.ALL_HOSTS if version == 4 else mld.ALL_NODES))


@pytest.mark.parametrize("version", [4, 6])
@given(st.data())
def test_reports_of_old_versions_are_records_of_the_new_one(version: int, data: st.DataObject) -> None:
    groups = groups4 if version == 4 else groups6
    joins, leaves = data.draw(st.lists(groups, max_size=3)), data.draw(st.lists(groups, max_size=3))
    old = NEWEST[version] - 1
    records = [Record(Change.TO_EXCLUDE, one) for one in joins] + [Record(Change.TO_INCLUDE, one) for one in leaves]
    frames = WIRES[version].emit_report(Report(old, tuple(records)), SRC)
    assert [read(frame) for frame in frames] == [
        *(Report(old, (Record(Change.IS_EXCLUDE, one),)) for one in joins),
        *(Report(old, (Record(Change.TO_INCLUDE, one),)) for one in leaves),
    ]


@pytest.mark.parametrize("wire", [igmp, mld], ids=["igmp", "mld"])
@given(st.binary(max_size=200))
def test_random_packets_raise_nothing_but_decode_error(wire: object, data: bytes) -> None:
    for packet in (data, b"\x46" + data[1:], b"\x60" + data[1:], b"\x45\0\0\x1c\0\0\0\0\1\2" + data):
        try:
            wire.parse_untrusted(packet)  # type: ignore[attr-defined]
        except DecodeError:
            pass


@pytest.mark.parametrize("version", [4, 6])
@given(st.data())
def test_a_changed_or_cut_message_is_refused(version: int, data: st.DataObject) -> None:
    (frame,) = WIRES[version].emit_report(data.draw(reports(version)), SRC)
    body_at = 14 + (24 if version == 4 else 48)
    at = data.draw(st.integers(body_at, len(frame) - 1))
    changed = bytearray(frame)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecodeError):
        read(bytes(changed))
    with pytest.raises(DecodeError):
        read(frame[:at])


@given(st.integers(0, 31743))
def test_time_codes_of_igmp_never_say_more_than_was_meant(value: int) -> None:
    code = encoded_float(value, 4)
    assert 0 <= code < 256
    assert value * 15 // 16 <= decoded_float(code, 4) <= value


@given(st.integers(0, 8387583))
def test_time_codes_of_mld_never_say_more_than_was_meant(value: int) -> None:
    code = encoded_float(value, 12)
    assert 0 <= code < 65536
    assert value * 4095 // 4096 - 1 <= decoded_float(code, 12) <= value


GROUP4, GROUP6 = IPv4Address("239.77.1.9"), IPv6Address("ff05::77:19")
SOURCED, SOURCE = IPv4Address("232.1.1.1"), (IPv4Address("10.0.0.7"),)
ASKER6 = IPv6Address("fe80::ff:fe00:63")


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (
            "46c00028000040000102f9f80a000001e0000016940400002200e9a70000000104000000ef4d0109",
            Report(3, (Record(Change.TO_EXCLUDE, GROUP4),)),
        ),
        (
            "46c00028000040000102f9f80a000001e0000016940400002200eaa70000000103000000ef4d0109",
            Report(3, (Record(Change.TO_INCLUDE, GROUP4),)),
        ),
        (
            "46c00020000040000102e9c00a000001ef4d0109940400001600f9a8ef4d0109",
            Report(2, (Record(Change.IS_EXCLUDE, GROUP4),)),
        ),
        (
            "46c00020000040000102fa140a000001e0000002940400001700f8a8ef4d0109",
            Report(2, (Record(Change.TO_INCLUDE, GROUP4),)),
        ),
        (
            "46c0002c000040000102f9f40a000001e0000016940400002200e5f30000000105000001e80101010a000007",
            Report(3, (Record(Change.ALLOW, SOURCED, SOURCE),)),
        ),
        (
            "46c0002c000040000102f9f40a000001e0000016940400002200e4f30000000106000001e80101010a000007",
            Report(3, (Record(Change.BLOCK, SOURCED, SOURCE),)),
        ),
        (
            "46c00020000040000102f9b30a000063e0000001940400001164ee9b00000000",
            Query(2, IPv4Address("10.0.0.99")),
        ),
        (
            (
                "6000000000240001fe80000000000000000000fffe000001ff020000000000000000000000000016"
                "3a000502000001008f0070770000000104000000ff050000000000000000000000770019"
            ),
            Report(2, (Record(Change.TO_EXCLUDE, GROUP6),)),
        ),
        (
            (
                "6000000000200001fe80000000000000000000fffe000001ff050000000000000000000000770019"
                "3a0005020000010083007fff00000000ff050000000000000000000000770019"
            ),
            Report(1, (Record(Change.IS_EXCLUDE, GROUP6),)),
        ),
        (
            (
                "6000000000200001fe80000000000000000000fffe000001ff020000000000000000000000000002"
                "3a0005020000010084007f9000000000ff050000000000000000000000770019"
            ),
            Report(1, (Record(Change.TO_INCLUDE, GROUP6),)),
        ),
        (
            (
                "6000000000200001fe80000000000000000000fffe000063ff020000000000000000000000000001"
                "3a00050200000000820059b52710000000000000000000000000000000000000"
            ),
            Query(1, ASKER6),
        ),
    ],
)
def test_what_a_linux_kernel_said_is_read(packet: str, said: object) -> None:
    data = bytes.fromhex(packet)
    assert (igmp if data[0] >> 4 == 4 else mld).parse_untrusted(data) == said


def test_other_signs_of_a_router_are_read() -> None:
    hello = bytes.fromhex("45c0001e00000000016700000a630105e000000d2000dfff000100020069")  # RFC 7761 4.9.2
    assert igmp.parse_untrusted(hello) == RouterSeen(105.0)
    for message, lives_s in (("3014cfeb", 60.0), ("3200cdff", 0.0)):  # RFC 4286 3 and 5
        packet = bytes.fromhex("45c0001800000000010200000a630105e000006a" + message)
        assert igmp.parse_untrusted(packet) == RouterSeen(lives_s)


def test_which_groups_are_for_all() -> None:
    for text in ("224.0.0.251", "10.0.0.1"):
        assert is_for_all(IPv4Address(text))
    for text in ("ff02::fb", "ff02::1:ff00:7", "ff01::1", "fe80::1"):
        assert is_for_all(IPv6Address(text))
    for text in ("239.1.2.3", "225.0.0.5", "224.0.1.1"):
        assert not is_for_all(IPv4Address(text))
    assert not is_for_all(IPv6Address("ff05::2"))
    assert not is_for_all(IPv6Address("ff12::1"))


def test_a_query_from_beyond_the_link_or_from_nobody_is_refused() -> None:
    frame = mld.emit_query(Query(2, IPv6Address("fe80::1")), SRC)
    for at, value in ((14 + 7, 2), (14 + 8, 0x20)):
        changed = bytearray(frame)
        changed[at] = value
        with pytest.raises(DecodeError):
            read(bytes(changed))
    with pytest.raises(DecodeError):
        read(mld.emit_query(Query(2, mld.NOBODY), SRC))
