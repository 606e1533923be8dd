"""The result of a run as a value: what was measured, what follows from it, and its one line of JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tools.bench import verdict
from tools.bench.axes import AXIS_NAMES, PEER_NAMES


class NoResultError(Exception):
    """A text that should hold a result does not."""


@dataclass(slots=True)
class Result:
    """One run.

    Args:
        samples: the figures of all rounds, by peer and axis.
        absent: why a peer has no figures at all.
        problems: what went wrong, one sentence each.
        versions: what each peer says about itself.
        about: the machine and the settings.
    """

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, peer: str, figures: Mapping[str, float]) -> None:
        """Notes what a visit brought."""
        for axis, value in figures.items():
            self.samples.setdefault(peer, {}).setdefault(axis, []).append(round(value, 4))

    @property
    def rows(self) -> dict[str, dict[str, float | None]]:
        return verdict.medians(self.samples, PEER_NAMES, AXIS_NAMES)

    @property
    def comparisons(self) -> list[verdict.Comparison]:
        return verdict.compare(self.rows)

    def content(self) -> dict[str, Any]:
        """What --json prints."""
        rows, comparisons = self.rows, self.comparisons
        return {
            "rows": rows,
            "ratios": verdict.ratios(comparisons),
            "held": verdict.held(comparisons, rows),
            "details": [asdict(comparison) | {"held": comparison.held} for comparison in comparisons],
            "absent": self.absent,
            "problems": self.problems,
            "samples": self.samples,
            "versions": self.versions,
            "about": self.about,
        }

    def emit(self) -> str:
        """One line of JSON."""
        return json.dumps(self.content(), ensure_ascii=False)


def parse_rows(text: str) -> dict[str, dict[str, float | None]]:
    """The rows of a saved result: the whole text is JSON, or its last line is (what --json printed).

    Raises:
        NoResultError: neither is.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    for candidate in (text, lines[-1] if lines else ""):
        try:
            content = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(rows := content.get("rows"), dict):
            return {str(peer): _row(row) for peer, row in rows.items()}
    raise NoResultError("no result: expected what `python -m tools.bench --json` printed")


def _row(row: object) -> dict[str, float | None]:
    if not isinstance(row, dict):
        raise NoResultError(f"a row is {row!r}, not an object")
    return {str(axis): _figure(value) for axis, value in row.items()}


def _figure(value: object) -> float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise NoResultError(f"a figure is {value!r}, not a number")


def values_of(rows: Mapping[str, Mapping[str, float | None]], axis: str, peers: Sequence[str]) -> dict[str, float]:
    """The peers that have this figure."""
    return {peer: value for peer in peers if (value := rows.get(peer, {}).get(axis)) is not None}
