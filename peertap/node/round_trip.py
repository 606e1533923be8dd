"""What a trunk's round trip is taken for: an answer that comes late was not always long under way (SPEC 6.1)."""

from __future__ import annotations

from collections import deque
from typing import Final

from peertap.mesh.score import COST_STEP, link_cost

MEASURE_S: Final = 5.0  # ours: it is measured so often at least, also under load
AGAIN_S: Final = 1.0  # ours: and again where one measurement says little
SAMPLES: Final = 3  # ours: the middle one of so many counts: one late answer changes no route
LATE_TIMES: Final = 3.0  # ours: a probe waits at our socket, at the data plane, and on its way to the node
SMOOTHING: Final = 0.25  # ours: weight of a longer one; RFC 6298 has 1/8, for one in each round trip


class RoundTrip:
    """The round trip of one trunk, smoothed, and when it is measured next."""

    def __init__(self) -> None:
        self.rtt_s: float | None = None
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._again = 0  # times on end that it was to be measured again soon
        self.due_at = float("-inf")

    def asked(self, now: float) -> None:
        """A measurement is under way."""
        self.due_at = now + MEASURE_S

    def measured(self, rtt_s: float, now: float, late_s: float) -> None:
        """Follows the middle one of each three: down at once, for nothing makes a round trip too short; up smoothly.

        The first ones, and those unlike the others, are soon followed by more. A first one that may be lateness alone
        says nothing; of three of them the least counts.

        Args: late_s: how late this node was of late: so much of it, several times over, may be its own doing.
        """
        least_s = max(0.0, rtt_s - LATE_TIMES * late_s)
        if self.rtt_s is None:
            self._samples.append(rtt_s)
            self._next(now, again=True)
            if len(self._samples) == SAMPLES or not _differ(rtt_s, least_s):
                self.rtt_s = min(self._samples)
            return
        sample = max(least_s, min(rtt_s, self.rtt_s))
        self._samples.append(sample)
        middle = sorted(self._samples)[(len(self._samples) - 1) // 2]
        self._next(now, again=len(self._samples) < SAMPLES or _differ(sample, middle))
        self.rtt_s = min(middle, self.rtt_s + SMOOTHING * (middle - self.rtt_s))

    def _next(self, now: float, *, again: bool) -> None:
        self._again = self._again + 1 if again and self._again < SAMPLES - 1 else 0
        self.due_at = now + (AGAIN_S if self._again else MEASURE_S)


def _differ(one_s: float, other_s: float) -> bool:
    """Whether routes would notice."""
    return abs(link_cost(one_s) - link_cost(other_s)) >= COST_STEP
