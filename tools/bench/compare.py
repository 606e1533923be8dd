"""What moved between two results. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tools.bench import verdict
from tools.bench.axes import AXES, PEER_NAMES

MOVED_SHARE: Final = 0.05  # ours: less is what two runs of the same code differ by

Rows = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Move:
    """A figure that changed.

    Args:
        share: the change over the old figure; None where one of the two is missing or the old one is 0.
        better: None where that cannot be said.
    """

    peer: str
    axis: str
    old: float | None
    new: float | None
    share: float | None
    better: bool | None


def moves(old: Rows, new: Rows, at_least: float = MOVED_SHARE) -> list[Move]:
    """Figures that changed by more than `at_least`, appeared or vanished; peers and axes in the order of the tables."""
    found = []
    for peer in PEER_NAMES:
        for axis in AXES:
            before, after = old.get(peer, {}).get(axis.name), new.get(peer, {}).get(axis.name)
            if before is None or after is None:
                if before is not after:
                    found.append(Move(peer, axis.name, before, after, None, None))
                continue
            if before == after:
                continue
            share = (after - before) / before if before > 0 else None
            if share is None or abs(share) > at_least:
                found.append(Move(peer, axis.name, before, after, share, (after > before) == axis.more_is_better))
    return found


def verdicts(old: Rows, new: Rows) -> list[str]:
    """Axes that hold now and did not, or the other way round; only what both compared."""
    first, second = verdict.compare(old), verdict.compare(new)
    before, after = verdict.held(first, old), verdict.held(second, new)
    in_both = {comparison.axis for comparison in first} & {comparison.axis for comparison in second}
    return [
        f"{axis}: {'holds now' if after[axis] else 'holds no more'}"
        for axis in after
        if axis in in_both and after[axis] != before[axis]
    ]


def emit(old: Rows, new: Rows) -> str:
    """What a person reads."""
    found = moves(old, new)
    lines = [_line(move) for move in found] or [f"nothing moved by more than {MOVED_SHARE:.0%}"]
    return "\n".join([*lines, *verdicts(old, new)])


def _line(move: Move) -> str:
    word = {True: "better", False: "worse", None: ""}[move.better]
    share = "" if move.share is None else f"{move.share:+.1%}"
    return (
        f"{move.peer:15} {move.axis:20} {_number(move.old):>12} -> {_number(move.new):>12}  {share:>8}  {word}".rstrip()
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
