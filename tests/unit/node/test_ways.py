"""Which ways take flows, and what a VLAN does with them."""

from peertap.mesh.entry import Selected
from peertap.node.ways import MAX_WAYS, NEAR, NEAR_BY, STILL_NEAR, Use, WaySettings, choose_spread
from peertap.types import PeerId, TrunkId
from peertap.wire.control import Advert
from peertap.wire.routes import Origin
from tests.support.routing import signed

ADVERT = Advert(signed(b"t" * 16, Origin(128, 1, bytes(9)), 1), 1, 1400)


def way(trunk: int, metric: float) -> Selected:
    return Selected(TrunkId(trunk), ADVERT, int(metric), 1400)


def peer_of(trunk: TrunkId) -> PeerId:
    return PeerId(bytes((trunk % 100,)))


def trunks(chosen: tuple[Selected, ...]) -> list[int | None]:
    return [one.trunk for one in chosen]


def test_ways_of_about_the_same_length_take_flows_and_longer_ones_do_not() -> None:
    others = [way(2, 90), way(3, 100 * NEAR), way(4, 100 * NEAR + 1)]
    assert trunks(choose_spread(way(1, 100), others, set(), peer_of)) == [2, 3]


def test_where_round_trips_are_short_less_than_one_more_link_is_about_the_same_length() -> None:
    others = [way(2, 40 + NEAR_BY - 1), way(3, 40 + NEAR_BY)]
    assert trunks(choose_spread(way(1, 40), others, set(), peer_of)) == [2]


def test_a_way_that_takes_flows_keeps_them_while_it_is_not_much_longer() -> None:
    others = [way(2, 100 * STILL_NEAR), way(3, 100 * STILL_NEAR + 1)]
    assert trunks(choose_spread(way(1, 100), others, {peer_of(TrunkId(2)), peer_of(TrunkId(3))}, peer_of)) == [2]


def test_each_neighbour_is_one_way() -> None:
    others = [way(101, 100), way(2, 100), way(102, 100)]
    assert trunks(choose_spread(way(1, 100), others, set(), peer_of)) == [2]


def test_there_are_four_ways_at_most_and_those_in_use_come_first() -> None:
    others = [way(number, 100) for number in range(2, 12)]
    chosen = choose_spread(way(1, 100), others, {peer_of(TrunkId(11))}, peer_of)
    assert trunks(chosen) == [11, 2, 3]
    assert len(chosen) == MAX_WAYS - 1


def test_a_vlan_that_is_not_named_goes_by_the_best_way() -> None:
    settings = WaySettings(frozenset({"wide"}), frozenset({"twin"}))
    assert [settings.of(label) for label in ("lab", "wide", "twin")] == [Use.BEST, Use.SPREAD, Use.DUPLICATE]
