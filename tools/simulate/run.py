"""One run: the nodes start, something happens to them, and what that took is noted.

start ─▶ all reach each other ─▶ [storm ─▶ all reach each other] ─▶ a quiet time ─▶ a thorough look
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tools.simulate import check, storm
from tools.simulate.node import SimNode, macs_of
from tools.simulate.storm import Storm
from tools.simulate.topology import Plan
from tools.simulate.world import World

START_S: Final = 5.0
LOOK_S: Final = 0.5  # simulated time between two looks
MOST_S: Final = 60.0  # simulated; what is not whole by then does not get whole
SETTLED_S: Final = 12.0  # it stays whole for so long; voluntary changes come after 10 s (SPEC 6.1)
QUIET_S: Final = 60.0
ALL_CHANGES: Final = 1_500  # nodes; of larger meshes a share of the changes is followed
WATCHED_SHARE: Final = 0.02

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one node of a role has, and what that costs, by median."""

    nodes: int
    tokens: float
    start_bytes: float
    storm_bytes_per_s: float
    quiet_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    nodes: int
    transits: int
    vlans: int
    start_converged_s: float | None
    storm_converged_s: float | None
    start_seen_s: float | None
    storm_seen_s: float | None
    loops: int
    routes_followed: int
    pairs: int
    pairs_reached: int
    broadcasts_due: int
    broadcasts_heard: int
    broadcasts_doubled: int
    broadcasts_circled: int
    adverts: int
    messages: int
    messages_sampled: int
    refused: int
    presences_refused: int
    control_bytes_per_node_s: float
    simulated_s: float
    leaf: Cost
    transit: Cost


@dataclass(frozen=True, slots=True)
class Outcome:
    figures: Figures
    world: World
    holds: bool


def simulate(plan: Plan, weather: Storm, *, seed: int, loss: float, progress: Progress) -> Outcome:
    """Runs a mesh from its start to its end."""
    watch = 1.0 if len(plan.names) <= ALL_CHANGES else WATCHED_SHARE
    world = World(plan, seed, loss=loss, watch=watch)
    macs = macs_of(plan)
    for number in range(len(plan.names)):
        world.clock.at(world.random.uniform(0, START_S), _boot, world, number, macs)
    circled = 0

    def run_until_whole(name: str, since: float) -> tuple[float | None, float | None]:
        """When all reached each other, and when every relay that is there was seen, and no other."""
        nonlocal circled
        whole_at: float | None = None
        seen_at: float | None = None
        while world.clock.now < since + MOST_S:
            world.clock.run_until(world.clock.now + LOOK_S)
            progress(name, (world.clock.now - since) / MOST_S)
            found = check.look(world)
            circled += found.circled
            if check.count_unseen(world):
                seen_at = None
            elif seen_at is None:
                seen_at = world.clock.now
            if not found.is_whole:
                whole_at = None
            elif whole_at is None:
                whole_at = world.clock.now
            if None not in (whole_at, seen_at) and world.clock.now >= whole_at + SETTLED_S:  # type: ignore[operator]
                break
        return tuple(None if at is None else round(at - since, 3) for at in (whole_at, seen_at))  # type: ignore[return-value]

    world.clock.run_until(START_S)
    started, start_seen = run_until_whole("start", START_S)
    marks = [_bytes(world)]
    times = [world.clock.now]
    calmed = storm_seen = None
    if weather.is_any:
        storm.begin(world, weather, macs)
        end = world.clock.now + weather.length_s
        while world.clock.now < end:
            world.clock.run_until(min(world.clock.now + LOOK_S, end))
            progress("storm", 1 - (end - world.clock.now) / weather.length_s)
            circled += check.look(world).circled
        calmed, storm_seen = run_until_whole("calm", end)
    marks.append(_bytes(world))
    times.append(world.clock.now)
    for step in range(1, 11):
        world.clock.run_until(times[-1] + QUIET_S * step / 10)
        progress("quiet", step / 10)
    marks.append(_bytes(world))
    times.append(world.clock.now)
    last = check.look(world, closely=True, thorough=len(plan.names) <= ALL_CHANGES)
    circled += last.circled
    leaves = [node for node in world.nodes if node.is_leaf and node.is_up]
    transits = [node for node in world.nodes if not node.is_leaf and node.is_up]
    figures = Figures(
        nodes=len(plan.names),
        transits=len(plan.transits),
        vlans=len({label for labels in plan.vlans for label in labels}),
        start_converged_s=started,
        storm_converged_s=calmed,
        start_seen_s=start_seen,
        storm_seen_s=storm_seen,
        loops=world.loops,
        routes_followed=world.followed,
        pairs=last.pairs,
        pairs_reached=last.pairs_reached,
        broadcasts_due=last.deliveries,
        broadcasts_heard=last.delivered,
        broadcasts_doubled=last.doubled,
        broadcasts_circled=circled,
        adverts=world.adverts,
        messages=world.messages,
        messages_sampled=world.sampled,
        refused=sum(node.fabric.routes.refused for node in world.nodes if node.is_up),
        presences_refused=sum(node.refused for node in world.nodes),
        control_bytes_per_node_s=round(sum(marks[-1].values()) / len(world.nodes) / world.clock.now, 1),
        simulated_s=round(world.clock.now, 1),
        leaf=_cost(leaves, marks, times),
        transit=_cost(transits, marks, times),
    )
    waited = (started, start_seen) if not weather.is_any else (started, start_seen, calmed, storm_seen)
    whole = last.is_whole and None not in waited
    clean = last.is_clean and not circled
    return Outcome(figures, world, not world.loops and (bool(world.liars) or (whole and clean)))


def _boot(world: World, number: int, macs: storm.Macs) -> None:
    world.boot(number)
    world.nodes[number].talk_to(macs)


def _bytes(world: World) -> dict[int, int]:
    return {node.number: node.sent_bytes for node in world.nodes}


def _cost(nodes: list[SimNode], marks: list[dict[int, int]], times: list[float]) -> Cost:
    def median(early: int, late: int) -> float:
        taken_s = max(times[late] - times[early], 1e-9)
        return round(
            statistics.median((marks[late][one.number] - marks[early][one.number]) / taken_s for one in nodes), 1
        )

    if not nodes:
        return Cost(0, 0, 0, 0, 0)
    return Cost(
        nodes=len(nodes),
        tokens=statistics.median(sum(1 for _ in one.fabric.routes.in_use()) for one in nodes),
        start_bytes=statistics.median(marks[0][one.number] for one in nodes),
        storm_bytes_per_s=median(0, 1),
        quiet_bytes_per_s=median(1, 2),
    )
