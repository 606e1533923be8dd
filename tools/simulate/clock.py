"""Simulated time: one heap of events."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class Clock:
    """Runs what is due, in order. At one instant, what was asked for first."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._heap, (when, next(self._order), what, arguments))

    def run_until(self, end: float) -> None:
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end:
            self.now, _, what, arguments = pop(heap)
            self.events += 1
            what(*arguments)
        self.now = end
