"""What PeerTap must reach, and whether it does. Pure.

A ratio is PeerTap's figure over the reference's; a margin is how often it fits into what is asked for: 1.0 is just
enough, 2.0 is twice as good, whichever direction is the good one. The margin of an axis is the smallest of its
comparisons.

A comparison with a peer that was not measured is left out. Where PeerTap's own figure is missing, or no reference of an
axis was measured, the axis does not hold: nothing was shown.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tools.bench.axes import BARE, BARE_ROWS, PEERTAP

MAX_MARGIN: Final = 1000.0  # ours: bounds what a figure of 0 would make infinite

Rows = Mapping[str, Mapping[str, float | None]]
Samples = Mapping[str, Mapping[str, Sequence[float]]]


class Against(Enum):
    """What a figure is compared with, beside a peer by its name."""

    NUMBER = "number"
    BEST_PEER = "best peer"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition.

    Args:
        axis: whose verdict it is part of.
        factor: what is asked for, times the reference (times 1 for a number).
        reference: a number, a peer's name, or the best peer.
        figure: the axis whose values are compared, when it is another than `axis`.
        best_by: the axis that says which peer is the best, when it is another than the figure's.
    """

    axis: str
    at_least: bool
    factor: float
    reference: Against | str = Against.NUMBER
    figure: str = ""
    best_by: str = ""

    @property
    def compared(self) -> str:
        return self.figure or self.axis


def _at_least(axis: str, *peers: tuple[float, str]) -> tuple[Requirement, ...]:
    return tuple(Requirement(axis, True, factor, peer) for factor, peer in peers)


_TCP: Final = (
    (8.0, "fastd"), (4.5, "tincr-tap-aes"), (2.2, "tincr-tun-aes"), (3.5, "wireguard-go"), (1.2, "veth-nooffload"),
)  # fmt: skip

REQUIREMENTS: Final = (
    *_at_least("tcp1", *_TCP),
    *_at_least("tcp4", *_TCP),
    Requirement("cpu_s_per_gb", False, 0.12, "fastd"),
    Requirement("cpu_s_per_gb", False, 0.4, "tincr-tun-aes"),
    Requirement("rtt_ms", False, 1.1, Against.BEST_PEER),
    Requirement("rtt_p99_ms", False, 1.0, Against.BEST_PEER, best_by="rtt_ms"),
    Requirement("rtt_load_ms", False, 3.0),
    Requirement("rtt_load_100m_ms", False, 1.1, BARE),  # the bottleneck's own queue, and a tenth for its noise
    *_at_least("udp1200_pps", (1.4, "tincr-tap-aes"), (2.3, "nebula")),
    Requirement("udp64_pps", True, 1.1, Against.BEST_PEER),
    *_at_least("tcp1_nooffload", (3.0, "fastd")),
    *_at_least("relay_tcp1", (4.0, "tincr-tap-aes"), (6.0, "fastd")),
    Requirement("relay_rtt_ms", False, 1.1, Against.BEST_PEER),
    *_at_least("loss1_tcp1", (0.9, BARE)),
    *_at_least("loss1_tcp1_bbr", (0.9, BARE)),
    *_at_least("delay80_tcp1", (0.9, BARE)),
    Requirement("stream_tcp1", True, 500.0),
    Requirement("stream_rtt_load_ms", False, 30.0),
    Requirement("overload", False, 10.0),
    Requirement("overload", False, 1.0, figure="overload_recovery_s"),
    Requirement("overload", True, 1.0, figure="overload_trunk"),
    Requirement("idle_cpu", False, 1.0),
    Requirement("join_ms", False, 1500.0),
    Requirement("status_ms", False, 200.0),
)
HELD_AXES: Final = tuple(dict.fromkeys(requirement.axis for requirement in REQUIREMENTS))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One requirement with its numbers."""

    axis: str
    figure: str
    value: float
    at_least: bool
    factor: float
    reference: str
    reference_value: float
    ratio: float
    margin: float

    @property
    def held(self) -> bool:
        return self.margin >= 1.0

    @property
    def wanted(self) -> str:
        """As a person writes it: "≥ 8 × fastd"."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.factor:g}" + ("" if self.reference == "number" else f" × {self.reference}")


def medians(samples: Samples, peers: Sequence[str], axes: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """One value for each peer and axis; None where nothing was measured."""
    return {
        peer: {
            axis: round(statistics.median(values), 4) if (values := samples.get(peer, {}).get(axis, ())) else None
            for axis in axes
        }
        for peer in peers
    }


def best_peer(rows: Rows, axis: str, *, most: bool) -> str | None:
    """The user-space peer with the best figure; PeerTap and bare links do not count."""
    found = {
        peer: value
        for peer, row in rows.items()
        if peer not in (PEERTAP, *BARE_ROWS) and (value := row.get(axis)) is not None
    }
    if not found:
        return None
    return max(found, key=found.__getitem__) if most else min(found, key=found.__getitem__)


def compare(rows: Rows) -> list[Comparison]:
    """Every requirement of which both figures were measured."""
    made = []
    for wanted in REQUIREMENTS:
        value = rows.get(PEERTAP, {}).get(wanted.compared)
        if value is None:
            continue
        name, reference = _reference(rows, wanted)
        if reference is None or reference < 0:
            continue
        made.append(
            Comparison(
                wanted.axis, wanted.compared, value, wanted.at_least, wanted.factor, name, reference,
                round(_over(value, reference), 4), round(_margin(value, wanted.factor * reference, wanted.at_least), 4),
            )
        )  # fmt: skip
    return made


def ratios(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """The smallest margin of each axis; at least 1.0 means that it holds."""
    smallest: dict[str, float] = {}
    for comparison in comparisons:
        smallest[comparison.axis] = min(comparison.margin, smallest.get(comparison.axis, MAX_MARGIN))
    return smallest


def held(comparisons: Sequence[Comparison], rows: Rows) -> dict[str, bool]:
    """For each axis with a requirement whether all that was compared holds; False where nothing could be."""
    verdict = {}
    for axis in HELD_AXES:
        ours = [wanted.compared for wanted in REQUIREMENTS if wanted.axis == axis]
        complete = all(rows.get(PEERTAP, {}).get(figure) is not None for figure in ours)
        made = [comparison.held for comparison in comparisons if comparison.axis == axis]
        verdict[axis] = complete and bool(made) and all(made)
    return verdict


def _reference(rows: Rows, wanted: Requirement) -> tuple[str, float | None]:
    if wanted.reference is Against.NUMBER:
        return "number", 1.0
    if wanted.reference is Against.BEST_PEER:
        by = wanted.best_by or wanted.compared
        name = best_peer(rows, by, most=wanted.at_least)
        return (name, rows[name].get(wanted.compared)) if name is not None else ("", None)
    return wanted.reference, rows.get(wanted.reference, {}).get(wanted.compared)


def _margin(value: float, limit: float, at_least: bool) -> float:
    margin = _over(value, limit) if at_least else _over(limit, value)
    return max(0.0, min(MAX_MARGIN, margin))


def _over(above: float, below: float) -> float:
    """A quotient; what is divided by nothing or less is as large as we say."""
    return above / below if below > 0 else MAX_MARGIN
