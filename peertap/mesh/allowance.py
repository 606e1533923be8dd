"""How often something that costs us or others work may be done: a token bucket."""

from typing import Final

MARGIN_S: Final = 0.001  # ours: `ready_at` is so much late, that no rounding has it too early


class Allowance:
    """So many at once, and so many a second over time."""

    def __init__(self, most: int, per_s: float, now: float) -> None:
        self._most, self._per_s = most, per_s
        self._left, self._at = float(most), now

    def take(self, now: float, count: int = 1) -> bool:
        """Whether so many more may be done now: all of them or none."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True

    def again_at(self, now: float) -> float:
        """Does one now, whether or not it may; returns when the next one may be done."""
        if self.take(now) and self._left >= 1:
            return now
        return self.ready_at()

    def ready_at(self, count: int = 1) -> float:
        """When so many may be done, if nothing is until then. Args: count: at most as many as at once."""
        return self._at + max(0.0, count - self._left) / self._per_s + MARGIN_S
