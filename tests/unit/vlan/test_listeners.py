"""Who listens behind a port: reports, leaves, questions, and the timers of RFC 2236, 3376, 2710 and 3810."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.vlan.listeners import MAX_ADDRESSES, Listeners
from peertap.wire.multicast import Change, Query, Record, Report, RouterSeen

NOBODY = IPv4Address(0)
ROUTER = IPv4Address("10.0.0.99")
G, OTHER = IPv4Address("239.1.2.3"), IPv4Address("239.9.9.9")
SOURCES = (IPv4Address("10.0.0.7"),)
GENERAL, SPECIFIC = Query(3, NOBODY, None, 10.0), Query(3, NOBODY, G, 1.0)


def said(change: Change, group: IPv4Address = G, *, version: int = 3, sources: tuple[IPv4Address, ...] = ()) -> Report:
    return Report(version, (Record(change, group, sources),))


def listeners(*, one_host: bool = False) -> Listeners:
    found = Listeners(NOBODY, one_host=one_host, now=0.0)
    for at in (1, 2, 5, 20):  # the questions of the beginning
        found.tick(at)
    return found


def test_at_the_beginning_it_asks_at_once_and_wants_quick_answers_then_every_125_seconds() -> None:
    found = Listeners(NOBODY, one_host=True, now=0.0)
    asked = []
    now = 0.0
    while now < 400:
        now = found.next_deadline(now)
        asked += [(round(now, 1), query.response_s) for query in found.tick(now)]
    assert asked[:4] == [(0.3, 1.0), (1.0, 1.0), (3.0, 1.0), (10.0, 10.0)]
    assert asked[4:] == [(135.0, 10.0), (260.0, 10.0), (385.0, 10.0), (510.0, 10.0)]


@pytest.mark.parametrize("change", [Change.IS_EXCLUDE, Change.TO_EXCLUDE])
def test_a_report_holds_for_260_seconds(change: Change) -> None:
    found = listeners()
    found.heard(said(change), 100, is_local=True)
    found.tick(359.9)
    assert found.groups == {G}
    found.tick(360.0)
    assert not found.groups


@pytest.mark.parametrize("change", [Change.IS_INCLUDE, Change.TO_INCLUDE, Change.ALLOW])
def test_who_wants_a_group_from_some_sources_listens_to_it(change: Change) -> None:
    found = listeners()
    found.heard(said(change, sources=SOURCES), 100, is_local=True)
    assert found.groups == {G}


def test_where_one_host_is_alone_its_leave_counts_at_once() -> None:
    found = listeners(one_host=True)
    found.heard(said(Change.IS_EXCLUDE, version=2), 100, is_local=True)
    found.heard(said(Change.TO_INCLUDE, version=2), 101, is_local=True)
    assert not found.groups


def test_where_there_may_be_others_a_leave_is_a_question_asked_twice() -> None:
    found = listeners()
    found.heard(said(Change.IS_EXCLUDE), 100, is_local=True)
    found.heard(said(Change.TO_INCLUDE), 101, is_local=True)
    assert found.tick(101) == [SPECIFIC]
    assert found.tick(102) == [SPECIFIC]
    assert found.groups == {G}
    assert found.tick(103) == []
    assert not found.groups


def test_who_answers_the_question_keeps_the_group() -> None:
    found = listeners()
    found.heard(said(Change.IS_EXCLUDE), 100, is_local=True)
    found.heard(said(Change.TO_INCLUDE), 101, is_local=True)
    found.tick(101)
    found.heard(said(Change.IS_EXCLUDE), 101.5, is_local=True)
    assert found.tick(105) == []
    assert found.groups == {G}


@pytest.mark.parametrize("one_host", [True, False])
def test_who_blocks_sources_is_asked_for_it_may_still_want_others(one_host: bool) -> None:
    found = listeners(one_host=one_host)
    found.heard(said(Change.ALLOW, sources=SOURCES), 100, is_local=True)
    found.heard(said(Change.BLOCK, sources=SOURCES), 101, is_local=True)
    assert found.tick(101) == [SPECIFIC]
    found.tick(103)
    assert not found.groups


def test_a_host_of_the_first_version_cannot_say_that_it_leaves_so_nobody_is_believed() -> None:
    found = listeners(one_host=True)
    found.heard(said(Change.IS_EXCLUDE, version=1), 100, is_local=True)
    found.heard(said(Change.TO_INCLUDE, version=2), 101, is_local=True)
    assert found.groups == {G}
    found.tick(361)
    assert not found.groups


def test_reports_of_other_members_say_nothing_about_our_port() -> None:
    found = listeners()
    found.heard(said(Change.IS_EXCLUDE), 100, is_local=False)
    assert not found.groups


def test_link_local_groups_are_not_watched() -> None:
    found = listeners()
    found.heard(said(Change.IS_EXCLUDE, IPv4Address("224.0.0.251")), 100, is_local=True)
    assert not found.groups


def test_while_another_asks_we_do_not_and_when_it_stops_we_do() -> None:
    found = listeners()
    found.heard(Query(3, ROUTER), 100, is_local=False)
    assert found.querier(101) == "member"
    assert not found.has_router(101)
    assert found.tick(300) == []
    assert found.tick(355) == [GENERAL]
    assert found.querier(355) == "self"


def test_a_querier_behind_our_port_is_a_router_and_one_without_address_is_not() -> None:
    found = listeners()
    found.heard(Query(3, NOBODY), 100, is_local=True)
    assert (found.querier(101), found.has_router(101)) == ("port", False)
    found.heard(Query(3, ROUTER), 102, is_local=True)
    assert (found.querier(103), found.has_router(103)) == ("port", True)
    assert found.has_router(356.9)
    assert not found.has_router(357)


def test_a_router_that_says_so_otherwise_is_one_until_it_says_that_it_goes() -> None:
    found = listeners()
    found.heard(RouterSeen(105.0), 100, is_local=False)
    assert not found.has_router(101)
    found.heard(RouterSeen(105.0), 100, is_local=True)
    assert found.has_router(204)
    assert found.next_deadline(101) <= 205
    found.heard(RouterSeen(0.0), 110, is_local=True)
    assert not found.has_router(110)


def test_a_querier_that_asks_seldom_makes_reports_hold_longer_and_one_that_asks_often_no_shorter() -> None:
    for interval_s, lives_s in ((300.0, 610.0), (1.0, 260.0)):
        found = listeners()
        found.heard(Query(3, ROUTER, None, 10.0, 2, interval_s), 100, is_local=False)
        found.heard(said(Change.IS_EXCLUDE), 100, is_local=True)
        found.tick(100 + lives_s - 0.1)
        assert found.groups == {G}
        found.tick(100 + lives_s)
        assert not found.groups


def test_another_queriers_question_for_a_group_that_nobody_answers_ends_it() -> None:
    found = listeners()
    found.heard(said(Change.IS_EXCLUDE), 100, is_local=True)
    found.heard(Query(3, ROUTER, G, 1.0), 101, is_local=False)
    assert found.tick(101) == [SPECIFIC], "our hosts may not have heard it"
    found.tick(102.9)
    assert found.groups == {G}
    found.tick(103)
    assert not found.groups
    found.heard(said(Change.IS_EXCLUDE), 110, is_local=True)
    found.heard(Query(3, ROUTER, G, 1.0, suppress=True), 111, is_local=False)
    found.tick(120)
    assert found.groups == {G}


def test_more_groups_than_are_watched_mean_all() -> None:
    found = listeners()
    many = [IPv4Address(0xEF000000 + number) for number in range(MAX_ADDRESSES + 1)]
    for group in many[:-1]:
        found.heard(said(Change.IS_EXCLUDE, group), 100, is_local=True)
    assert not found.wants_all(100)
    found.heard(said(Change.IS_EXCLUDE, many[-1]), 100, is_local=True)
    assert found.wants_all(101)
    assert len(found.groups) == MAX_ADDRESSES
    assert not found.wants_all(360)


hosts = st.integers(0, 2)
steps = st.lists(
    st.tuples(st.sampled_from(("join", "leave", "wait", "asked", "asked for")), hosts, st.sampled_from((G, OTHER)),
              st.floats(0.1, 140)),
    max_size=40,
)  # fmt: skip


@pytest.mark.parametrize("one_host", [True, False])
@given(steps)
def test_a_group_is_there_while_a_host_listens_and_gone_soon_after(
    one_host: bool, script: list[tuple[str, int, IPv4Address, float]]
) -> None:
    """Hosts that say what a host says and answer what they are asked: no listener is ever missed."""
    found = Listeners(NOBODY, one_host=one_host, now=0.0)
    joined: dict[int, set[IPv4Address]] = {number: set() for number in range(3)}
    now = 0.0

    def answer(query: Query) -> None:
        for groups in joined.values():
            for group in groups if query.group is None else groups & {query.group}:
                found.heard(said(Change.IS_EXCLUDE, group), now, is_local=True)

    def wait(seconds: float) -> None:
        nonlocal now
        end = now + seconds
        while found.next_deadline(now) <= end:
            now = max(now, found.next_deadline(now))
            for query in found.tick(now):
                answer(query)
        now = end

    for what, number, group, seconds in script:
        host = 0 if one_host else number
        if what == "join" and group not in joined[host]:
            joined[host].add(group)
            found.heard(said(Change.TO_EXCLUDE, group), now, is_local=True)
        elif what == "leave" and group in joined[host]:
            joined[host].remove(group)
            found.heard(said(Change.TO_INCLUDE, group), now, is_local=True)
        elif what == "wait":
            wait(seconds)
        elif what in ("asked", "asked for"):
            query = Query(3, ROUTER, None if what == "asked" else group, 1.0)
            found.heard(query, now, is_local=False)
            wait(0.5)
            answer(query)
        assert set().union(*joined.values()) <= found.groups
    wait(4)
    if not any(what.startswith("asked") for what, *_ in script):
        assert found.groups == set().union(*joined.values())
    wait(600)
    assert found.groups == set().union(*joined.values())
