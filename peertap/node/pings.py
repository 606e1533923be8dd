"""Pings of the operator that are under way."""

from collections.abc import Callable
from typing import Final

MAX_PINGS: Final = 256  # ours: the oldest goes


class Pings:
    """Numbers of pings on the wire, random so that nobody can answer for another."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._sent: dict[int, tuple[int, float]] = {}

    def start(self, ping: int, now: float) -> int:
        """A ping of the operator begins; returns its number on the wire."""
        while len(self._sent) >= MAX_PINGS:
            del self._sent[next(iter(self._sent))]
        number = int.from_bytes(self._random(8), "big")
        self._sent[number] = (ping, now)
        return number

    def answered(self, number: int, now: float) -> tuple[int, float] | None:
        """An answer came; returns the operator's ping and its round trip in seconds."""
        found = self._sent.pop(number, None)
        return None if found is None else (found[0], now - found[1])
