"""How late a deadline was noticed: what a busy machine measures may be its own lateness (SPEC 6.1)."""

from __future__ import annotations


class Alarm:
    """The next deadline of the node, as it changes."""

    def __init__(self) -> None:
        self._due_at = float("inf")
        self._known_at = float("-inf")

    def set(self, due_at: float, now: float) -> None:
        """The deadline is this one now. An earlier one than before is news: nobody was late for it until now."""
        if due_at < self._due_at:
            self._known_at = now
        self._due_at = due_at

    def rang(self, now: float) -> float:
        """How late this is, in seconds: since it was due, or since it was known if that is less."""
        late_s = max(0.0, now - max(self._due_at, self._known_at))
        self._due_at = float("inf")
        return late_s
