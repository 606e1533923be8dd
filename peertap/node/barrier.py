"""What may be said only when the data plane uses the tables behind it (PROTOCOL 1): confirmations wait here."""

from collections import deque

from peertap.node.actions import Action


class Barrier:
    """Actions that wait for a version of the tables. Versions rise; a later one includes the earlier ones."""

    def __init__(self) -> None:
        self.version = 0
        self._applied = 0
        self._new: list[Action] = []
        self._waiting: deque[tuple[int, list[Action]]] = deque()

    def defer(self, action: Action) -> None:
        """Holds an action back until the tables that this event leads to are applied."""
        self._new.append(action)

    def publish(self) -> int:
        """New tables go to the data plane; returns their version."""
        self.version += 1
        return self.version

    def applied(self, version: int) -> None:
        self._applied = max(self._applied, version)

    def release(self, *, is_behind: bool = False) -> list[Action]:
        """Ends an event: what was deferred waits for the present version; returns what need not wait any more.

        Args: is_behind: the present version does not have what this event led to: it waits for the next one.
        """
        if self._new and not is_behind:
            self._waiting.append((self.version, self._new))
            self._new = []
        out: list[Action] = []
        while self._waiting and self._waiting[0][0] <= self._applied:
            out += self._waiting.popleft()[1]
        return out
