"""Whether everybody reaches everybody: by following what each node would do with a frame."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from peertap.node.vlan import Names
from peertap.types import TrunkId, VTag
from tools.simulate.node import SimNode
from tools.simulate.world import World

PAIRS: Final = 5_000  # ours: unicast ways that one look follows
PAIRS_PER_VLAN: Final = 200  # ours: of those in a VLAN
SENDERS: Final = 100  # ours: broadcasts that one look follows
SENDERS_PER_VLAN: Final = 3  # ours: of those in a VLAN
VIEWS: Final = 20  # ours: transits that are asked whom they see


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the mesh saw. `doubled`: came by two ways, of which a receiver takes one (SPEC 2.5)."""

    pairs: int
    pairs_reached: int
    deliveries: int
    delivered: int
    doubled: int
    circled: int

    @property
    def is_whole(self) -> bool:
        return self.pairs == self.pairs_reached and self.deliveries == self.delivered

    @property
    def is_clean(self) -> bool:
        """No frame came twice, whatever a receiver does about it."""
        return self.doubled == 0 and self.circled == 0


def look(world: World, *, closely: bool = False, thorough: bool = False) -> Look:
    """Follows frames between members that run; `closely`: of each VLAN as many, `thorough`: between all of them."""
    pairs = reached = deliveries = delivered = doubled = circled = 0
    vlans = _members(world)
    shares = 1 if closely else max(1, len(vlans))
    most_pairs, most_senders = min(PAIRS_PER_VLAN, PAIRS // shares), min(SENDERS_PER_VLAN, SENDERS // shares)
    for label, members in vlans.items():
        for source, to in _pairs(world, members, len(members) ** 2 if thorough else most_pairs):
            pairs += 1
            names = _names(to, label)
            reached += world.way(source.number, (names.vtag, names.token)) is not None
        senders = members if thorough else members[: max(1, most_senders)]
        for source in senders:
            heard, circles = broadcast(world, source, label)
            deliveries += len(members) - 1
            delivered += len(heard)
            doubled += sum(count - 1 for count in heard.values())
            circled += circles
    return Look(pairs, reached, deliveries, delivered, doubled, circled)


def count_unseen(world: World) -> int:
    """How many relays are not seen where they should be, or seen where they are not, as a few transits have it."""
    names = {node.identity.peer_id: node.number for node in world.nodes}
    up = [node for node in world.nodes if node.is_up and not node.is_leaf]
    wrong = 0
    for node in world.random.sample(up, min(len(up), VIEWS)):
        seen = {names[peer] for peer, one in node.presence.seen(node.now_unix).items() if one.presence.relays}
        wrong += len(seen ^ _reachable(world, node))
    return wrong


def _reachable(world: World, start: SimNode) -> set[int]:
    """The transits that ways of transits lead to."""
    found, ahead = {start.number}, [start.number]
    while ahead:
        at = ahead.pop()
        for other in world.neighbours[at]:
            if other not in found and not world.nodes[other].is_leaf and world.carries(at, other):
                found.add(other)
                ahead.append(other)
    return found - {start.number}


def _members(world: World) -> dict[str, list[SimNode]]:
    found: dict[str, list[SimNode]] = {}
    for node in world.nodes:
        if node.is_up:
            for label in node.labels:
                found.setdefault(label, []).append(node)
    return {label: members for label, members in found.items() if len(members) > 1}


def _pairs(world: World, members: list[SimNode], most: int) -> list[tuple[SimNode, SimNode]]:
    if len(members) ** 2 <= most:
        return [(a, b) for a in members for b in members if a is not b]
    drawn = (world.random.sample(members, 2) for _ in range(max(1, most)))
    return [(a, b) for a, b in drawn]


def _names(node: SimNode, label: str) -> Names:
    return next(vlan.newest for vlan in node.locals.all.values() if vlan.source.label == label)


def broadcast(world: World, source: SimNode, label: str) -> tuple[dict[int, int], int]:
    """How often each member hears one broadcast of a VLAN, and how often a node took a copy that it had had."""
    names = _names(source, label)
    sending = source.fabric.trees.sending_group(names.vtag, names.group_token)
    heard: dict[int, int] = {}
    if sending is None:
        return heard, 0
    root, group = sending
    start: tuple[int, ...] = (source.number,)
    todo = deque((start, trunk) for trunk in group.edges())
    circles = 0
    while todo:
        path, trunk = todo.popleft()
        node, back = world.nodes[trunk - 1], TrunkId(path[-1] + 1)
        there = (
            node.fabric.trees.group(names.vtag, root, names.group_token)
            if world.carries(path[-1], node.number)
            else None
        )
        ways_on = there.ways_on(back) if there is not None else None
        if ways_on is None:
            continue  # it is not taken
        if node.number in path:
            circles += 1
            continue
        if _is_member(node, names.vtag):
            heard[node.number] = heard.get(node.number, 0) + 1
        todo.extend(((*path, node.number), way) for way in ways_on)
    return heard, circles


def _is_member(node: SimNode, vtag: VTag) -> bool:
    return node.locals.is_ours(vtag)
