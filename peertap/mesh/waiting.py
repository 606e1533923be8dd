"""What a node looks at again later: routes that it asked for, and better ways that came too soon (SPEC 6.1)."""

from typing import Final

from peertap.mesh.audience import Key

REQUEST_GAP_S: Final = 0.5  # ours: one request for a token in this time, the next one after twice as long
REQUEST_GAP_MOST_S: Final = 60.0  # ours
NEVER: Final = float("inf")


class Waiting:
    """Tokens of one table, which has room for so many; each is here at most twice."""

    def __init__(self) -> None:
        self._starved: dict[Key, tuple[float, float]] = {}  # asked for: again at, gap
        self._postponed: dict[Key, float] = {}  # a better way came too soon after the last change
        self._due_at = NEVER  # no later than the first of these two

    def is_starved(self, key: Key) -> bool:
        """Whether a token was asked for, and did not come yet."""
        return key in self._starved

    def is_postponed(self, key: Key) -> bool:
        """Whether there is a better way, which is not to be taken yet."""
        return key in self._postponed

    def is_waiting(self, key: Key) -> bool:
        return key in self._starved or key in self._postponed

    def starve(self, key: Key, now: float) -> None:
        """A token was asked for: it is looked at again soon, the next time later."""
        if key not in self._starved:
            self._starved[key] = (now + REQUEST_GAP_S, REQUEST_GAP_S)
            self._due_at = min(self._due_at, now + REQUEST_GAP_S)

    def starve_longer(self, key: Key, now: float, gap_s: float) -> None:
        """A token that was asked for in vain after this gap was asked for again."""
        if key in self._starved:
            longer_s = min(2 * gap_s, REQUEST_GAP_MOST_S)
            self._starved[key] = (now + longer_s, longer_s)

    def feed(self, key: Key) -> None:
        """A token is missing no more."""
        self._starved.pop(key, None)

    def postpone(self, key: Key, until: float) -> None:
        """There is a better way, which is not to be taken before this time."""
        self._postponed[key] = until
        self._due_at = min(self._due_at, until)

    def next_deadline(self) -> float | None:
        """When there is something to look at, or to look whether there is."""
        return self._due_at if self._starved or self._postponed else None

    def is_due(self, now: float) -> bool:
        return now >= self._due_at

    def take_postponed(self, now: float) -> list[Key]:
        due = [key for key, at in self._postponed.items() if at <= now]
        for key in due:
            del self._postponed[key]
        return due

    def take_starved(self, now: float) -> list[tuple[Key, float]]:
        """Tokens to ask for again, and the gap after which that is."""
        due = [(key, gap_s) for key, (at, gap_s) in self._starved.items() if at <= now]
        for key, _ in due:
            del self._starved[key]
        return due

    def looked(self) -> None:
        """What was due was looked at."""
        self._due_at = min((*(at for at, _ in self._starved.values()), *self._postponed.values()), default=NEVER)
