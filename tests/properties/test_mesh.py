"""Over any small mesh and any order of events: no loop at any instant, trees that are trees, everybody reached once.

The nodes are the real routes, trees and roles (tools/simulate); each changed next hop is followed at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peertap.types import TrunkId
from peertap.wire.control import Message, Refresh
from tools.simulate import check
from tools.simulate.node import macs_of
from tools.simulate.topology import Plan
from tools.simulate.world import World

EXAMPLES = 1000 if os.environ.get("PEERTAP_FULL") else 80
SETTLED_S = 110.0  # asked for in vain is asked again after 0.5 s, doubling, and digests come a minute later
QUIET_S = 100.0

Event = tuple[str, int, float]


@dataclass(frozen=True)
class Case:
    plan: Plan
    events: tuple[Event, ...]
    seed: int


@st.composite
def cases(draw: Callable[[st.SearchStrategy[object]], object]) -> Case:
    def number(least: int, most: int) -> int:
        return int(draw(st.integers(least, most)))  # type: ignore[call-overload]

    transits, leaves = number(1, 7), number(0, 6)
    count = transits + leaves
    pairs = {(number(0, node - 1), node) for node in range(1, transits)}
    for _ in range(number(0, 6)):
        a, b = number(0, transits - 1), number(0, transits - 1)
        pairs |= {(min(a, b), max(a, b))} if a != b else set()
    for leaf in range(transits, count):
        pairs |= {(number(0, transits - 1), leaf) for _ in range(number(1, 3))}
    vlans = tuple(("v",) if number(0, 2) else () for _ in range(count))
    kinds = st.sampled_from(("leaves", "dies", "comes", "breaks", "mends"))
    events = tuple((str(draw(kinds)), number(0, 40), float(number(0, 60)) / 10) for _ in range(number(0, 12)))
    plan = Plan(
        names=tuple(f"n{node}" for node in range(count)),
        is_leaf=tuple(node >= transits for node in range(count)),
        vlans=vlans,
        links=tuple((a, b, number(1, 80) / 1000) for a, b in sorted(pairs)),
        places=((0.5, 0.5),) * count,
    )
    return Case(plan, events, number(0, 1 << 16))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_no_loop_at_any_instant_and_at_rest_everybody_reachable_is_reached_once(case: Case) -> None:
    world = World(case.plan, case.seed)
    world.on_sent = no_refresh
    macs = macs_of(case.plan)

    def boot(node: int) -> None:
        if not world.nodes[node].is_up:
            world.boot(node)
            world.nodes[node].talk_to(macs)

    for node in range(len(case.plan.names)):
        world.clock.at(world.random.uniform(0, 1), boot, node)
    world.clock.run_until(2.0)
    for kind, which, wait_s in case.events:
        node = which % len(case.plan.names)
        match kind:
            case "comes":
                boot(node)
            case "leaves" | "dies" if world.nodes[node].is_up:
                world.kill(node, silently=kind == "dies")
            case "breaks" | "mends" if case.plan.links:
                a, b, _ = case.plan.links[which % len(case.plan.links)]
                (world.break_link if kind == "breaks" else world.mend_link)(a, b)
        world.clock.run_until(world.clock.now + wait_s)
        assert world.loops == 0
        assert check.look(world).circled == 0, "a broadcast went round"
    world.clock.run_until(world.clock.now + SETTLED_S)
    assert world.loops == 0
    everybody_is_reached_once(world)
    who_was_told_knows_it(world)
    said = world.messages
    world.clock.run_until(world.clock.now + QUIET_S)
    assert world.messages == said, "nothing changes, and something is said"
    tokens = sum(len(labels) for labels in case.plan.vlans) + 1
    starts = sum(node.starts for node in world.nodes)
    for node in world.nodes:
        if node.is_up:
            assert len(node.fabric.routes._entries) <= tokens * starts


def no_refresh(_node: int, message: Message) -> Message:
    """All carry everything: only a digest that differs asks for a VTag again."""
    assert not isinstance(message, Refresh), "a digest differs from what was heard"
    return message


def who_was_told_knows_it(world: World) -> None:
    """What each told a transit is what that heard of it."""
    for a, b in ways_between_neighbours(world):
        there = world.nodes[b].fabric.routes
        if not there.is_leaf:
            told = world.nodes[a].fabric.routes.told_digests(TrunkId(b + 1))
            assert told == there.heard_digests(TrunkId(a + 1)), f"{a} told {b}"


def ways_between_neighbours(world: World) -> list[tuple[int, int]]:
    """Links that are up, from each of their ends."""
    up = [(a, b) for a, b, _ in world.plan.links if world.carries(a, b)]
    return [*up, *((b, a) for a, b in up)]


def everybody_is_reached_once(world: World) -> None:
    members = [node for node in world.nodes if node.is_up and node.labels]
    for source in members:
        there = reachable(world, source.number)
        vtag = next(iter(source.locals.all.values())).newest.vtag
        for to in members:
            if to is not source:
                token = next(iter(to.locals.all.values())).newest.token
                way = world.way(source.number, (vtag, token))
                assert (way is not None) == (to.number in there), f"{source.number} to {to.number}: {way}"
        heard, circles = check.broadcast(world, source, "v")
        expected = {one.number for one in members if one is not source and one.number in there}
        if is_whole(world, {source.number, *expected}):
            assert (heard, circles) == (dict.fromkeys(expected, 1), 0)


def reachable(world: World, start: int) -> set[int]:
    """Who can be reached from a node, with nothing passing through leaves."""
    found, todo = {start}, [start]
    while todo:
        node = todo.pop()
        if node != start and world.nodes[node].is_leaf:
            continue
        for other in world.neighbours[node]:
            if other not in found and world.carries(node, other):
                found.add(other)
                todo.append(other)
    return found - {start}


def is_whole(world: World, members: set[int]) -> bool:
    """Whether they are one mesh: a leaf between two halves hears one of them, and joins neither to the other."""
    everybody = {node.number for node in world.nodes if node.is_up and node.labels}
    seen = set().union(*(reachable(world, one) & everybody for one in members)) | members
    return all(reachable(world, one) | {one} >= seen for one in seen)
