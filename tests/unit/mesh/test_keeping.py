"""Which relays are chosen, and that the choice does not flap (SPEC 11.3)."""

import random
from dataclasses import replace

from peertap.mesh import keeping
from peertap.mesh.keeping import Keeping, Tie
from peertap.mesh.presence import Seen
from peertap.mesh.score import link_cost, relay_score
from peertap.types import PeerId, TrunkId
from peertap.wire.presence import Presence
from tests.support.identities import identity


def peer(number: int) -> PeerId:
    return identity(f"r{number}").peer_id


def relay(number: int, rtt_s: float, **said: object) -> Seen:
    fields: dict[str, object] = {"relays": True, "addresses": ("/ip4/10.0.0.1/tcp/1",)} | said
    return Seen(peer(number), Presence(1, 1500, **fields), 2, rtt_s)  # type: ignore[arg-type]


class World:
    """Relays that are seen, and trunks to those that were chosen and can be reached."""

    def __init__(self, relays: list[Seen], limit: int = 256) -> None:
        self.seen = {one.peer: one for one in relays}
        self.keeping = Keeping(random.Random(5).random, limit, 0.0, chooses=True)
        self.unreachable: set[PeerId] = set()
        self.guests: list[Tie] = []
        self.ties: dict[PeerId, Tie] = {}
        self.now = 0.0
        self.chosen: list[frozenset[PeerId]] = []

    def run(self, seconds: float, *, is_leaf: bool = False) -> frozenset[PeerId]:
        end = self.now + seconds
        while self.now < end:
            ties = [*self.ties.values(), *self.guests]
            self.keeping.look(self.now, self.seen, ties, is_leaf=is_leaf)
            self.chosen.append(self.keeping.chosen)
            for number in self.keeping.superfluous(ties):
                self.ties = {one: tie for one, tie in self.ties.items() if tie.trunk != number}
                self.guests = [tie for tie in self.guests if tie.trunk != number]
            for one in self.keeping.chosen:
                if one in self.seen and one not in self.unreachable and one not in self.ties:
                    self.ties[one] = tie(one, self.seen[one].rtt_s)
            self.now += keeping.LOOK_S
        return self.keeping.chosen

    def changes(self) -> int:
        return sum(one != other for one, other in zip(self.chosen, self.chosen[1:], strict=False))


def tie(who: PeerId, rtt_s: float | None, **changes: object) -> Tie:
    number = TrunkId(int.from_bytes(who[-4:], "big"))
    made = Tie(number, who, rtt_s, 0.0, dialled=True, is_wanted=False, is_silent=False, serves=True)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_transit_keeps_the_four_nearest_and_four_by_chance() -> None:
    world = World([relay(number, 0.001 * 2**number) for number in range(20)])
    chosen = world.run(60)
    assert len(chosen) == 8
    assert {peer(number) for number in range(4)} <= chosen


def test_a_leaf_keeps_two_near_and_one_by_chance() -> None:
    world = World([relay(number, 0.001 * 2**number) for number in range(12)])
    chosen = world.run(60, is_leaf=True)
    assert len(chosen) == 3
    assert {peer(0), peer(1)} <= chosen


def test_nothing_flaps_while_round_trips_waver() -> None:
    world = World([relay(number, 0.020 + 0.001 * number) for number in range(20)])
    world.run(60)
    before, dice = world.changes(), random.Random(3)
    for _ in range(60):
        world.seen = {one: replace(seen, rtt_s=seen.rtt_s * dice.uniform(0.7, 1.4)) for one, seen in world.seen.items()}
        world.seen = {one: replace(seen, rtt_s=min(max(seen.rtt_s, 0.015), 0.05)) for one, seen in world.seen.items()}
        world.ties = {one: replace(held, rtt_s=world.seen[one].rtt_s) for one, held in world.ties.items()}
        world.run(60)
    assert world.changes() - before <= 60  # once a minute at most, an hour long


def test_a_much_better_relay_takes_the_place_of_the_worst_and_its_trunk_ends() -> None:
    world = World([relay(number, 0.1) for number in range(3)])
    world.run(60, is_leaf=True)
    world.seen[peer(9)] = relay(9, 0.002)
    chosen = world.run(120, is_leaf=True)
    assert peer(9) in chosen
    assert len(chosen) == 3
    assert set(world.ties) == chosen


def test_users_of_a_busy_relay_leave_it_one_after_the_other() -> None:
    worlds = []
    for seed in range(40):
        world = World([relay(number, 0.010 + 0.001 * number) for number in range(6)])
        world.keeping._random = random.Random(seed).random
        world.run(120, is_leaf=True)
        worlds.append(world)
    for world in worlds:
        world.seen[peer(0)] = relay(0, 0.010, is_busy=True, load=255)
    for world in worlds:
        world.run(keeping.LOOK_S, is_leaf=True)
    left_at_once = sum(peer(0) not in world.keeping.chosen for world in worlds)
    for world in worlds:
        world.run(300, is_leaf=True)
    assert left_at_once <= 20
    assert sum(peer(0) not in world.keeping.chosen for world in worlds) >= 36


def test_a_relay_that_cannot_be_reached_from_here_is_left_out_for_a_while() -> None:
    world = World([relay(number, 0.001 * 2**number) for number in range(6)])
    world.unreachable = {peer(0)}
    chosen = world.run(120, is_leaf=True)
    assert peer(0) not in chosen
    assert {peer(1), peer(2)} <= chosen
    world.unreachable = set()
    assert peer(0) in world.run(keeping.BENCH_S + 120, is_leaf=True)


def test_those_beyond_a_cut_are_dialled_still() -> None:
    world = World([relay(number, 0.01) for number in range(3)])
    world.run(60, is_leaf=True)
    lost = world.seen.pop(peer(1))
    world.ties.pop(peer(1), None)
    assert peer(1) in world.run(60, is_leaf=True)
    assert peer(1) not in world.run(keeping.GONE_S + 60, is_leaf=True)
    world.seen[peer(1)] = lost
    assert peer(1) in world.run(60, is_leaf=True)


def test_full_silent_private_and_unreachable_relays_are_not_chosen() -> None:
    world = World(
        [
            relay(0, 0.001, is_full=True),
            relay(1, 0.001, addresses=()),
            relay(2, 0.001, relays=False),
            relay(3, 0.001, is_leaf=True),
            relay(4, 0.1),
        ]
    )
    assert world.run(60) == {peer(4)}


def test_a_relay_that_announces_nothing_of_our_vlans_gives_way() -> None:
    world = World([relay(number, 0.01) for number in range(3)])
    world.run(60, is_leaf=True)
    world.ties[peer(0)] = replace(world.ties[peer(0)], serves=False)
    world.seen[peer(5)] = relay(5, 0.03)
    chosen = world.run(200, is_leaf=True)
    assert peer(5) in chosen
    assert peer(0) not in chosen or peer(0) in world.keeping._by_chance


def test_beyond_the_limit_the_worst_guests_go_and_nobody_who_was_asked_for() -> None:
    world = World([relay(0, 0.01)], limit=4)
    world.guests = [
        tie(peer(10), 0.5, dialled=False),
        tie(peer(11), 0.1, dialled=False),
        tie(peer(12), 0.9, dialled=False, is_wanted=True),
        tie(peer(13), 0.2, dialled=False),
    ]
    chosen = world.run(20)
    assert peer(0) in chosen
    assert {one.peer for one in world.guests} == {peer(11), peer(12), peer(13)}


def test_who_was_lost_often_is_worse_for_a_while() -> None:
    made = Keeping(random.Random(1).random, 9, 0.0, chooses=True)
    for count in range(4):
        made.lost(peer(1), float(count))
    assert made._lost_of_late(peer(1), 4.0) > 3.9
    assert made._lost_of_late(peer(1), 4.0 + 4 * keeping.HALF_LIFE_S) < 0.3


def test_a_node_told_not_to_choose_dials_nobody() -> None:
    world = World([relay(number, 0.01) for number in range(3)])
    world.keeping.chooses = False
    assert world.run(60) == frozenset()


def test_loss_and_load_cost_as_much_as_a_longer_way() -> None:
    assert link_cost(0.010, 0.0) < link_cost(0.010, 0.05) < link_cost(0.010, 0.5)
    assert link_cost(0.010, 0.0) == link_cost(0.010)
    assert relay_score(0.01, 0.0, 0.0, 0.0, is_busy=True) > relay_score(0.1, 0.0, 0.9, 0.0, is_busy=False) - 16
