"""Who is there, who has a trunk to whom, and who is in which VLAN: made by a rule, or read from a file.

transits   on a plane; each has trunks to its 4 nearest and to 4 others (PROTOCOL 5)
leaves     each has trunks to its 2 nearest transits and to another one
VLANs      of 100 members each, however many nodes there are; members are leaves, far apart
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

MEMBERS_PER_VLAN: Final = 100
MOST_TRANSITS: Final = 300
NEAREST: Final = 4  # PROTOCOL 5
OTHERS: Final = 4  # PROTOCOL 5
LEAF_NEAREST: Final = 2  # PROTOCOL 5: three relays, one of them random
LEAF_OTHERS: Final = 1
PLANE_S: Final = 0.08  # from one side to the other
HOP_S: Final = 0.002  # any two nodes at least
MAX_NODES: Final = 100_000  # a file may not ask for more


class TopologyError(Exception):
    """A file that describes no topology."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A mesh before anything runs. Nodes are numbers; a link is (node, node, delay in s)."""

    names: tuple[str, ...]
    is_leaf: tuple[bool, ...]
    vlans: tuple[tuple[str, ...], ...]  # of each node
    links: tuple[tuple[int, int, float], ...]
    places: tuple[tuple[float, float], ...]

    @property
    def transits(self) -> list[int]:
        return [node for node, leaf in enumerate(self.is_leaf) if not leaf]


def default_transits(nodes: int) -> int:
    """A fifth of the nodes, and at most MOST_TRANSITS."""
    return max(1, min(nodes // 5, MOST_TRANSITS))


def default_vlans(nodes: int) -> int:
    return max(1, nodes // MEMBERS_PER_VLAN)


def generate(nodes: int, transits: int, vlans: int, seed: int) -> Plan:
    """A mesh by the rule above."""
    chance = random.Random(seed)  # noqa: S311  a simulation repeats itself
    places = tuple((chance.random(), chance.random()) for _ in range(nodes))
    links: dict[tuple[int, int], float] = {}

    def link(a: int, b: int) -> None:
        if a != b:
            distance = math.dist(places[a], places[b])
            links.setdefault((min(a, b), max(a, b)), HOP_S + PLANE_S * distance)

    pairs = sorted(combinations(range(transits), 2), key=lambda pair: math.dist(places[pair[0]], places[pair[1]]))
    _keep(pairs, NEAREST, links, link)
    chance.shuffle(pairs)
    _keep(pairs, OTHERS, links, link)
    for node in range(transits, nodes):
        by_distance = sorted(range(transits), key=lambda one: math.dist(places[node], places[one]))
        rest = by_distance[LEAF_NEAREST:]
        for one in (*by_distance[:LEAF_NEAREST], *chance.sample(rest, min(LEAF_OTHERS, len(rest)))):
            link(node, one)
    leaves = list(range(transits, nodes)) or list(range(nodes))
    chance.shuffle(leaves)
    member_of = {node: (f"v{number % vlans}",) for number, node in enumerate(leaves)}
    return Plan(
        names=tuple(f"t{node}" if node < transits else f"n{node}" for node in range(nodes)),
        is_leaf=tuple(node >= transits for node in range(nodes)),
        vlans=tuple(member_of.get(node, ()) for node in range(nodes)),
        links=tuple((a, b, delay) for (a, b), delay in links.items()),
        places=places,
    )


def _keep(
    pairs: Iterable[tuple[int, int]],
    most: int,
    links: Mapping[tuple[int, int], float],
    link: Callable[[int, int], None],
) -> None:
    """Links pairs in this order, as long as both have fewer than `most` new ones."""
    kept: Counter[int] = Counter()
    for a, b in pairs:
        if kept[a] < most and kept[b] < most and (a, b) not in links:
            kept.update((a, b))
            link(a, b)


def load(file: Path) -> Plan:
    """A mesh from a file.

    {"nodes": [{"name": "a", "role": "leaf" or "transit", "vlans": ["lab"]}], "links": [["a", "b", milliseconds]]}

    Raises: TopologyError.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise TopologyError(f"{file}: {error}") from None
    nodes, links = _list(file, content, "nodes"), _list(file, content, "links")
    if not 1 <= len(nodes) <= MAX_NODES:
        raise TopologyError(f"{file}: {len(nodes)} nodes, 1 to {MAX_NODES} are possible")
    names = tuple(str(_field(file, one, "name")) for one in nodes)
    numbers = {name: number for number, name in enumerate(names)}
    if len(numbers) != len(names):
        raise TopologyError(f"{file}: two nodes have one name")
    made = []
    for one in links:
        if not (isinstance(one, list) and len(one) == 3 and one[0] in numbers and one[1] in numbers):
            raise TopologyError(f"{file}: {one!r} is no link; write [name, name, milliseconds]")
        if not isinstance(one[2], int | float) or not 0 <= one[2] <= 10_000 or one[0] == one[1]:
            raise TopologyError(f"{file}: {one!r} is no link between two nodes of 0 to 10,000 ms")
        made.append((numbers[one[0]], numbers[one[1]], one[2] / 1000))
    for one in nodes:
        if one.get("role", "transit") not in ("leaf", "transit"):
            raise TopologyError(f"{file}: {one['name']}: role {one['role']!r}; write leaf or transit")
    around = [
        (0.5 + math.cos(2 * math.pi * at / len(nodes)) / 2, 0.5 + math.sin(2 * math.pi * at / len(nodes)) / 2)
        for at in range(len(nodes))
    ]
    return Plan(
        names=names,
        is_leaf=tuple(one.get("role", "transit") == "leaf" for one in nodes),
        vlans=tuple(tuple(map(str, one.get("vlans", ()))) for one in nodes),
        links=tuple(made),
        places=tuple(around),
    )


def _list(file: Path, content: Any, key: str) -> list[Any]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise TopologyError(f"{file}: no list {key!r}")
    return found


def _field(file: Path, one: Any, key: str) -> Any:
    if not isinstance(one, dict) or key not in one:
        raise TopologyError(f"{file}: {one!r} has no {key!r}")
    return one[key]
