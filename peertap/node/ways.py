"""By which ways unicast frames of our own go to a member (SPEC 6.6): what is chosen, for whom, and of which ways."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Final

from peertap.mesh.entry import Selected
from peertap.types import PeerId, TrunkId

MAX_WAYS: Final = 4  # ours: flows are spread over so many; each is a label at both ends, and a look per frame
NEAR: Final = 1.25  # ours: ways with at most so many times the metric of the one in use take flows
NEAR_BY: Final = 16  # SPEC 6.1: or with so much more, the least that one more link costs: near round trips waver
STILL_NEAR: Final = 2.0  # ours: and keep them up to here: a way that is full has a longer round trip, and stays one


class Use(Enum):
    """What a source does with several ways to a member."""

    BEST = "best"  # all frames go by the best one
    SPREAD = "spread"  # flows are spread over those of about the same length
    DUPLICATE = "duplicate"  # each packet goes by the two best


@dataclass(frozen=True, slots=True)
class WaySettings:
    """Labels of the VLANs of which more than the best way is used."""

    spread: frozenset[str] = frozenset()
    duplicate: frozenset[str] = frozenset()

    def of(self, label: str) -> Use:
        if label in self.duplicate:
            return Use.DUPLICATE
        return Use.SPREAD if label in self.spread else Use.BEST


def choose_spread(
    selected: Selected,
    others: Sequence[Selected],
    kept: Set[PeerId],
    peer_of: Callable[[TrunkId], PeerId],
) -> tuple[Selected, ...]:
    """The ways that take flows beside the selected one, each by another neighbour; those that do now come first.

    Args:
        others: feasible ones by other trunks, nearest first.
        kept: neighbours that take flows now, by whatever trunk.
    """
    chosen: list[Selected] = []
    peers = {peer_of(selected.trunk)} if selected.trunk is not None else set()
    near = max(NEAR * selected.metric, selected.metric + NEAR_BY - 1)
    found = [(one, peer_of(one.trunk)) for one in others if one.trunk is not None]
    for one, peer in sorted(found, key=lambda found: found[1] not in kept):
        bound = STILL_NEAR * selected.metric if peer in kept else near
        if one.metric <= bound and peer not in peers and len(chosen) < MAX_WAYS - 1:
            peers.add(peer)
            chosen.append(one)
    return tuple(chosen)
