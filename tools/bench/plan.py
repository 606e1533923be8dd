"""Which tunnel is started on which link in which round, and how long it will take. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from tools.bench.axes import AXES, BARE_ROWS, BY_NAME, MAX_ROUNDS_OF_LINK, READ_WITH, Link, applies

START_AND_STOP_S: Final = 4.5  # ours: namespaces, keys, both daemons, clean-up; measured
IDLE_START_S: Final = 35.0  # ours: eleven nodes on two cores


@dataclass(frozen=True, slots=True)
class Visit:
    """One tunnel on one link: started once, all its axes measured, stopped."""

    round: int
    link: Link
    peer: str
    axes: tuple[str, ...]

    def seconds(self, stream_s: float) -> float:
        """How long it should take."""
        start = 1.0 if self.peer in BARE_ROWS else IDLE_START_S if self.link is Link.IDLE else START_AND_STOP_S
        return start + sum(BY_NAME[axis].seconds + BY_NAME[axis].streams * stream_s for axis in self.axes)


def with_sources(axes: Collection[str]) -> set[str]:
    """The axes and those whose measurement they come from."""
    return set(axes) | {READ_WITH[axis] for axis in axes if axis in READ_WITH}


def visits(peers: Sequence[str], axes: Collection[str], rounds: int) -> list[Visit]:
    """All visits of a run: round 1 of every link and peer, then round 2, so that a drift meets all alike."""
    wanted = with_sources(axes)
    made = []
    for number in range(1, rounds + 1):
        for link in Link:
            if number > MAX_ROUNDS_OF_LINK.get(link, rounds):
                continue
            for peer in peers:
                found = tuple(
                    axis.name for axis in AXES if axis.link is link and axis.name in wanted and applies(peer, axis.name)
                )
                if found:
                    made.append(Visit(number, link, peer, found))
    return made


def seconds(planned: Sequence[Visit], stream_s: float) -> float:
    return sum(visit.seconds(stream_s) for visit in planned)
