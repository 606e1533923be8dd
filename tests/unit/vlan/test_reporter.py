"""Reports to routers behind other members: as one host, in the version of the oldest querier."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from peertap.vlan.reporter import Reporter
from peertap.wire.multicast import Change, Query, Record, Report

G, OTHER = IPv4Address("239.1.2.3"), IPv4Address("239.9.9.9")
ROUTER = IPv4Address("10.0.0.99")


def reporter(newest: int = 3) -> Reporter:
    return Reporter(newest, lambda size: b"\x80" + bytes(size - 1))


def test_a_change_is_said_twice_and_then_never_again() -> None:
    found = reporter()
    found.follow(set(), 0, is_heard=True)
    found.tick(1)
    found.follow({G}, 10, is_heard=True)
    joined = Report(3, (Record(Change.TO_EXCLUDE, G),))
    assert found.tick(10) == [joined]
    assert found.tick(10.1) == []
    assert found.tick(11) == [joined]
    found.follow(set(), 20, is_heard=True)
    left = Report(3, (Record(Change.TO_INCLUDE, G),))
    assert found.tick(20) + found.tick(21) + found.tick(22) == [left, left]
    assert found.next_deadline() == float("inf")


def test_nothing_is_said_while_no_member_has_a_router_and_all_once_one_has() -> None:
    found = reporter()
    found.follow({G}, 0, is_heard=False)
    assert found.tick(0) + found.tick(5) == []
    found.follow({G}, 10, is_heard=True)
    assert found.tick(found.next_deadline()) == [Report(3, (Record(Change.IS_EXCLUDE, G),))]


def test_a_general_question_is_answered_within_its_time() -> None:
    found = reporter()
    found.follow({G, OTHER}, 0, is_heard=True)
    found.tick(1)
    found.tick(3)
    found.heard(Query(3, ROUTER, None, 10.0), 100)
    assert 100 < found.next_deadline() <= 110
    (report,) = found.tick(110)
    assert {record.group for record in report.records} == {G, OTHER}


def test_a_question_for_a_group_is_answered_by_who_listens_to_it() -> None:
    found = reporter()
    found.follow({G}, 0, is_heard=True)
    found.tick(1)
    found.tick(3)
    found.heard(Query(3, ROUTER, OTHER, 1.0), 100)
    assert found.tick(102) == []
    found.heard(Query(3, ROUTER, G, 1.0), 103)
    assert found.tick(104) == [Report(3, (Record(Change.IS_EXCLUDE, G),))]


def test_an_old_querier_is_answered_in_its_version_for_260_seconds() -> None:
    found = reporter()
    found.heard(Query(2, ROUTER, None, 10.0), 0)
    found.follow({G}, 0, is_heard=True)
    assert {report.version for at in (1, 11) for report in found.tick(at)} == {2}
    found.heard(Query(1, ROUTER, None, 10.0), 100)
    found.follow(set(), 100, is_heard=True)
    assert found.tick(101) == [], "the first version has no leave"
    found.follow({G}, 500, is_heard=True)
    assert {report.version for at in (500, 501) for report in found.tick(at)} == {3}


@pytest.mark.parametrize("newest", [2, 3])
def test_many_groups_go_in_several_reports(newest: int) -> None:
    found = reporter(newest)
    found.follow({IPv6Address(0xFF05 << 112 | number) for number in range(130)}, 0, is_heard=True)
    assert [len(report.records) for report in found.tick(0)] == [64, 64, 2]
