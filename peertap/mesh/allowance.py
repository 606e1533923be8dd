"""How often a neighbour may ask for something that costs us work."""


class Allowance:
    """So many at once, and so many a second over time."""

    def __init__(self, most: int, per_s: float, now: float) -> None:
        self._most, self._per_s = most, per_s
        self._left, self._at = float(most), now

    def take(self, now: float) -> bool:
        """Whether one more may be done now."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
