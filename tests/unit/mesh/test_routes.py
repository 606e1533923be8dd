"""What a neighbour may do to a route table: every bound, and every request that must not get lost."""

import itertools
from dataclasses import replace

import pytest

from peertap.mesh import routes
from peertap.mesh.routes import RouteTable
from peertap.mesh.waiting import GONE_S
from peertap.types import Token, TrunkId
from peertap.wire.control import INFINITE_METRIC, Advert, SequenceRequest
from peertap.wire.routes import KIND_TREE, Origin
from tests.support.routing import KEY, NOW_UNIX, ONE, ORIGIN, THREE, TOKEN, TWO, VTAG, signed, table


def hear(
    made: RouteTable, trunk: TrunkId, sequence: int, metric: int, now: float = 0.0, token: bytes = TOKEN
) -> list[tuple[TrunkId, SequenceRequest]]:
    advert = Advert(signed(token, ORIGIN, sequence), metric, 1400)
    return made.received_untrusted(trunk, [advert], now, NOW_UNIX)[0]


def request(sequence: int, hops: int = 32) -> SequenceRequest:
    return SequenceRequest(VTAG, Token(TOKEN), ORIGIN, sequence, hops)


def test_an_advert_that_nobody_signed_is_neither_taken_nor_reported_as_taken() -> None:
    made = table()
    forged = replace(signed(TOKEN, ORIGIN, 1), origin=Origin(0, 2**48 - 1, bytes(9)), signature=bytes(64))
    requests, taken = made.received_untrusted(ONE, [Advert(forged, 5, 1400)], 0.0, NOW_UNIX)
    assert (requests, taken, made.refused) == ([], [], 1)
    assert made.selected(KEY) is None


def test_a_signed_advert_from_years_ahead_is_refused_and_one_an_hour_ahead_is_not() -> None:
    made = table()
    for start_ms, refused in ((2**48 - 1, 1), (int((NOW_UNIX + 3700) * 1000), 2), (int((NOW_UNIX + 3500) * 1000), 2)):
        route = signed(TOKEN, Origin(0, start_ms, bytes(9)), 1)
        made.received_untrusted(ONE, [Advert(route, 5, 1400)], 0.0, NOW_UNIX)
        assert made.refused == refused
    assert made.selected(KEY) is not None


@pytest.mark.parametrize("kind", [0, 2, 4, 255])
def test_a_signed_route_of_a_kind_that_is_none_is_refused(kind: int) -> None:
    made = table()
    made.received_untrusted(ONE, [Advert(signed(TOKEN, ORIGIN, 1, kind), 5, 1400)], 0.0, NOW_UNIX)
    assert made.selected(KEY) is None
    assert made.refused == 1


def test_500_requests_at_once_make_the_owner_step_once_in_half_a_second() -> None:
    made, sequence = table(), 1
    made.own(signed(TOKEN, ORIGIN, sequence), 0.0)
    for now in (0.0, 0.4, 0.49, 0.5, 0.6, 0.99):
        for _ in range(500):
            if made.requested(ONE, request(sequence + 1), now)[0] == "own":
                sequence += 1
                made.own(signed(TOKEN, ORIGIN, sequence), now)
        assert sequence == (2 if now < 0.5 else 3)


@pytest.mark.parametrize("jump", [2, 3, 1000, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_request_that_jumps_more_than_one_ahead_moves_nothing(jump: int) -> None:
    made = table()
    made.own(signed(TOKEN, ORIGIN, 7), 0.0)
    assert made.requested(ONE, request((7 + jump) % 2**32), 10.0)[0] in ("drop", "answered")
    assert made.requested(ONE, request(8), 10.0)[0] == "own"


def test_500_requests_at_once_are_passed_on_once_in_half_a_second() -> None:
    made = table()
    hear(made, TWO, 1, 5)
    for now, expected in ((0.0, 1), (0.49, 0), (0.5, 1)):
        answers = [made.requested(ONE, request(2), now) for _ in range(500)]
        assert answers.count(("forward", TWO)) == expected


def test_a_request_that_is_answered_marks_the_route_for_the_asker_alone() -> None:
    made = table()
    made.own(signed(TOKEN, ORIGIN, 5), 0.0)
    for trunk, batch in list(made.batches(0.0)):
        made.acknowledged(trunk, batch.batch, 0.0)
    assert made.requested(TWO, request(5), 1.0) == ("answered", None)
    assert [trunk for trunk, _ in made.batches(1.0)] == [TWO]


def test_a_leaf_that_asked_for_a_later_sequence_number_and_was_never_answered_hears_of_it() -> None:
    made = table()
    made.neighbour_is_leaf(TWO, is_leaf=True)
    made.want(TWO, [KEY], ())
    hear(made, ONE, 5, 100)
    for trunk, batch in list(made.batches(0.0)):
        made.acknowledged(trunk, batch.batch, 0.0)
    assert made.requested(TWO, request(6), 10.0) == ("forward", ONE)
    hear(made, ONE, 6, 100, 10.1)
    said = {trunk: [advert.route.sequence for advert in batch.adverts] for trunk, batch in made.batches(10.1)}
    assert said == {TWO: [6]}


def starved() -> RouteTable:
    """The near way is gone, and the far way that is left is not feasible."""
    made = table()
    hear(made, ONE, 5, 16)
    hear(made, TWO, 5, 60)
    assert [(trunk, one.sequence) for trunk, one in made.remove_neighbour(ONE, 10.0)] == [(TWO, 6)]
    assert made.selected(KEY) is None
    return made


def test_a_request_that_was_lost_is_said_again_until_the_route_returns() -> None:
    made, asked = starved(), []
    while (at := made.next_deadline()) is not None and at < 40:
        requests = made.tick(at)
        asked += [(at, trunk, one.sequence) for trunk, one in requests]
    assert [at for at, _, _ in asked] == [10.5, 11.5, 13.5, 17.5, 25.5]
    assert {(trunk, sequence) for _, trunk, sequence in asked} == {(TWO, 6)}
    hear(made, TWO, 6, 60, 41.0)
    assert made.selected(KEY) is not None
    assert made.next_deadline() is None


def test_a_neighbour_that_withdraws_and_returns_within_the_gap_is_asked_again() -> None:
    made = starved()
    hear(made, TWO, 5, INFINITE_METRIC, 10.1)
    hear(made, TWO, 5, 90, 10.3)
    asked = [made.tick(now) for now in (11.0, 12.5, 15.0)]
    assert any(trunk == TWO and one.sequence == 6 for requests in asked for trunk, one in requests)


def test_a_neighbour_that_announces_what_is_missing_is_asked_at_once() -> None:
    """In a ring the other way round is told of when the short one is withdrawn: it was asked half a second later."""
    made = table()
    hear(made, ONE, 5, 16)
    assert made.silence(ONE, 10.0, is_silent=True)[0][0] == ONE
    asked = [*hear(made, TWO, 5, 60, 10.05), *hear(made, TWO, 5, 61, 10.06), *hear(made, TWO, 5, 62, 10.07)]
    assert [(trunk, one.sequence) for trunk, one in asked] == [(TWO, 6)]
    assert sorted(trunk for trunk, _ in made.tick(10.5)) == [ONE, TWO]
    assert not hear(made, TWO, 5, INFINITE_METRIC, 10.6)
    assert [trunk for trunk, _ in hear(made, TWO, 5, 63, 10.7)] == [TWO]


def test_a_request_in_vain_is_repeated_at_most_once_a_minute_and_never_in_the_past() -> None:
    made, times, now = starved(), [], 10.0
    while now < 1000:
        at = made.next_deadline()
        assert at is not None
        assert at > now
        now = at
        times.append(at)
        assert made.tick(now)
    gaps = [late - early for early, late in itertools.pairwise(times)]
    assert max(gaps) == gaps[-1] == 60.0


def test_a_cost_that_leaves_no_usable_route_asks_for_a_sequence_number() -> None:
    made = table()
    hear(made, ONE, 5, 16)
    assert [(trunk, one.sequence) for trunk, one in made.set_cost(ONE, 65_535, 1.0)] == [(ONE, 6)]
    assert made.selected(KEY) is None


def test_a_full_table_makes_room_by_dropping_tokens_that_nobody_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_TOKENS", 4)
    made = table()
    tokens = [bytes([number]) * 16 for number in range(6)]
    for token in tokens[:4]:
        hear(made, ONE, 1, 5, token=token)
    hear(made, TWO, 1, 5, token=tokens[4])
    assert made.selected((VTAG, Token(tokens[4]))) is None
    assert made.refused == 1
    hear(made, ONE, 1, INFINITE_METRIC, token=tokens[0])
    hear(made, TWO, 1, 5, token=tokens[4])
    assert made.selected((VTAG, Token(tokens[4]))) is not None
    assert made.selected((VTAG, Token(tokens[1]))) is not None
    hear(made, TWO, 1, 5, token=tokens[5])
    assert made.selected((VTAG, Token(tokens[5]))) is None


def test_a_neighbour_that_announces_and_withdraws_without_end_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_TOKENS", 8)
    made = table()
    for number in range(40):
        token = bytes([number + 1]) * 16
        hear(made, ONE, 1, 5, token=token)
        hear(made, ONE, 1, INFINITE_METRIC, token=token)
    hear(made, TWO, 1, 5)
    assert made.selected(KEY) is not None
    assert len(made._entries) <= 8


def test_one_neighbour_fills_no_more_than_its_share_and_others_still_announce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_TOKENS_PER_TRUNK", 3)
    made = table()
    for number in range(10):
        hear(made, ONE, 1, 5, token=bytes([number + 1]) * 16)
    assert len(list(made.in_use())) == 3
    hear(made, TWO, 1, 5)
    assert made.selected(KEY) is not None


def test_a_neighbour_that_used_up_its_share_costs_no_search_of_a_full_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_TOKENS", 3)
    monkeypatch.setattr(routes, "MAX_TOKENS_PER_TRUNK", 3)
    made, searches = table(), []
    for number in range(3):
        hear(made, ONE, 1, 5, token=bytes([number + 1]) * 16)
    monkeypatch.setattr(made, "_make_room", lambda: searches.append(1))
    for number in range(50):
        hear(made, ONE, 1, 5, token=bytes([number + 100]) * 16)
    assert not searches


def test_a_hop_whose_advert_is_no_longer_feasible_is_not_to_be_used() -> None:
    made = table()
    hear(made, ONE, 1, 16)
    assert made.is_feasible(KEY, ONE)
    hear(made, TWO, 2, 1, 20.0)  # a newer sequence number by another neighbour
    selected = made.selected(KEY)
    assert selected is not None
    assert selected.trunk == TWO
    assert made.is_feasible(KEY, TWO)
    assert not made.is_feasible(KEY, ONE)
    assert not made.is_feasible(KEY, THREE)


def test_a_hop_of_another_origin_than_the_selected_one_is_not_to_be_used() -> None:
    made = table()
    hear(made, ONE, 1, 16)
    later = ORIGIN._replace(start_ms=2000)
    made.received_untrusted(TWO, [Advert(signed(TOKEN, later, 1), 500, 1400)], 20.0, NOW_UNIX)
    assert made.is_feasible(KEY, TWO)
    assert not made.is_feasible(KEY, ONE)


def test_a_longer_way_that_is_still_feasible_carries_on_until_the_better_one_is_bound() -> None:
    made = table()
    hear(made, ONE, 1, 16)
    hear(made, TWO, 1, 1, 20.0)
    selected = made.selected(KEY)
    assert selected is not None
    assert selected.trunk == TWO
    hear(made, ONE, 1, 10, 20.0)
    assert made.is_feasible(KEY, ONE)


def test_routes_that_expire_ask_for_what_is_missing_then() -> None:
    made = table()
    made.received_untrusted(ONE, [Advert(signed(TOKEN, ORIGIN, 5, KIND_TREE), 16, 1400)], 0.0, NOW_UNIX)
    made.expire(60.0, NOW_UNIX + 2000)
    say(made, 60.0)
    assert made.selected(KEY) is None
    assert made.tick(60.0 + GONE_S) == []
    assert made.next_deadline() is None


def say(made: RouteTable, now: float, deaf: TrunkId | None = None) -> None:
    """All neighbours take what there is to say, but for one that does not answer."""
    while batches := list(made.batches(now)):
        for trunk, batch in batches:
            if trunk != deaf:
                made.acknowledged(trunk, batch.batch, now)


def lost(deaf: TrunkId | None) -> RouteTable:
    """A node that went by ONE, until at 10 s that withdrew its route."""
    made = table()
    hear(made, ONE, 1, 16)
    say(made, 0.0)
    hear(made, ONE, 1, INFINITE_METRIC, 10.0)
    say(made, 10.0, deaf)
    return made


def test_after_a_partition_a_token_is_taken_at_any_distance_without_asking_for_a_later_sequence() -> None:
    made = lost(deaf=None)
    made.tick(10.0 + GONE_S)
    assert hear(made, TWO, 1, 500, 10.0 + GONE_S) == []
    assert made.selected(KEY) is not None


def test_a_token_that_is_back_at_once_farther_away_may_be_a_ghost_and_is_asked_for() -> None:
    made = lost(deaf=None)
    made.tick(9.9 + GONE_S)
    assert [trunk for trunk, _ in hear(made, TWO, 1, 500, 9.9 + GONE_S)] == [TWO]
    assert made.selected(KEY) is None


def test_distances_are_kept_while_a_neighbour_may_go_by_this_node_still() -> None:
    made = lost(deaf=THREE)
    made.tick(10.0 + GONE_S)
    assert hear(made, TWO, 1, 500, 10.0 + GONE_S) != []
    assert made.selected(KEY) is None
    hear(made, TWO, 1, INFINITE_METRIC, 20.0)
    made.acknowledged(THREE, 2, 20.1)
    say(made, 20.1)
    made.tick(20.0 + GONE_S)
    assert hear(made, TWO, 1, 500, 20.0 + GONE_S) == []
    assert made.selected(KEY) is not None


def test_a_way_that_came_near_enough_to_be_the_backup_is_news_for_the_tables() -> None:
    """A relay that came back was the backup only once something else changed, half a minute later."""
    made = table()
    hear(made, ONE, 1, 16)
    hear(made, TWO, 1, 500)
    assert made.alternatives(KEY) == []
    assert made.take_ways_changed()
    hear(made, TWO, 1, 18)
    assert [one.trunk for one in made.alternatives(KEY)] == [TWO]
    assert made.take_ways_changed()


def test_distances_that_were_kept_for_a_slow_neighbour_are_forgotten_once_it_has_taken_the_end() -> None:
    made = lost(deaf=THREE)
    made.tick(10.0 + GONE_S)
    assert made.next_deadline() == 10.0 + 2 * GONE_S
    made.acknowledged(THREE, 2, 16.0)
    made.tick(10.0 + 2 * GONE_S)
    assert hear(made, TWO, 1, 500, 10.0 + 2 * GONE_S) == []
    assert made.selected(KEY) is not None


def test_a_way_that_became_long_is_left_at_once_for_one_that_is_much_shorter() -> None:
    made = table()
    hear(made, ONE, 1, 16)
    hear(made, TWO, 1, 20)
    made.set_cost(ONE, 200, 20.0)
    selected = made.selected(KEY)
    assert selected is not None
    assert selected.trunk == TWO


def test_a_better_way_that_came_too_soon_after_a_change_is_taken_later() -> None:
    made = table()
    hear(made, ONE, 1, 100)
    hear(made, TWO, 1, 16, 1.0)
    assert made.selected(KEY).trunk == TWO  # type: ignore[union-attr]
    hear(made, ONE, 1, 17, 2.0)
    made.set_cost(TWO, 200, 4.0)
    assert made.selected(KEY).trunk == TWO  # type: ignore[union-attr]
    assert made.next_deadline() == 11.0
    made.tick(11.0)
    assert made.selected(KEY).trunk == ONE  # type: ignore[union-attr]
    assert made.next_deadline() is None


def test_nothing_goes_by_a_silent_neighbour_until_it_speaks_again() -> None:
    made = table()
    hear(made, ONE, 1, 16)
    assert [trunk for trunk, _ in made.silence(ONE, 20.0, is_silent=True)] == [ONE]
    assert made.selected(KEY) is None
    hear(made, TWO, 1, 15, 21.0)
    assert made.selected(KEY).trunk == TWO  # type: ignore[union-attr]
    hear(made, ONE, 1, 5, 40.0)
    assert made.selected(KEY).trunk == TWO  # type: ignore[union-attr]
    made.silence(ONE, 41.0, is_silent=False)
    assert made.selected(KEY).trunk == ONE  # type: ignore[union-attr]


def chosen(made: RouteTable) -> TrunkId | None:
    selected = made.selected(KEY)
    assert selected is not None
    return selected.trunk


def test_a_demoted_neighbour_is_used_last_and_is_no_alternative() -> None:
    made = table()
    for trunk, metric in ((ONE, 5), (TWO, 12), (THREE, 13)):
        hear(made, trunk, 1, metric)
    assert chosen(made) == ONE
    made.demote(KEY, frozenset({ONE}), 1.0)
    assert chosen(made) == TWO
    assert [one.trunk for one in made.alternatives(KEY)] == [THREE]
    made.demote(KEY, frozenset({ONE, TWO, THREE}), 2.0)
    assert chosen(made) == ONE  # nobody else is left, and the nearest is taken
    made.demote(KEY, frozenset(), 20.0)
    assert chosen(made) == ONE
    assert not made.demoted


def test_a_longer_way_that_is_announced_later_replaces_a_demoted_one() -> None:
    made = table()
    hear(made, ONE, 1, 5)
    made.demote(KEY, frozenset({ONE}), 1.0)
    assert chosen(made) == ONE
    hear(made, TWO, 1, 20, 2.0)
    assert chosen(made) == TWO


def test_a_demoted_neighbour_gives_way_to_no_way_that_may_lead_back() -> None:
    made = table()
    hear(made, ONE, 1, 5)
    hear(made, TWO, 1, 5 + 16)  # as far as we are: it may go by us
    made.demote(KEY, frozenset({ONE}), 1.0)
    assert chosen(made) == ONE
