"""How many routes a neighbour may tell: what is more is taken, and acknowledged later (SPEC 6.1).

a batch ─▶ within the allowance: acknowledged at once
        └▶ beyond it: acknowledged once the allowance is back; a batch that comes before that ends the trunk
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from peertap.errors import PeerError
from peertap.mesh.allowance import Allowance
from peertap.mesh.routes import MAX_TOKENS_PER_TRUNK
from peertap.types import TrunkId

ADVERTS_AT_ONCE: Final = MAX_TOKENS_PER_TRUNK  # all that a new neighbour can have to tell
ADVERTS_PER_S: Final = 4096  # ours: whoever has more to say than that says the latest state of it


@dataclass(slots=True)
class _Held:
    batch: int
    adverts: int


class Inflow:
    """What neighbours told of late, and the acknowledgements that wait."""

    def __init__(self) -> None:
        self.held_back: Final = Counter[TrunkId]()  # batches that had to wait
        self._allowances: dict[TrunkId, Allowance] = {}
        self._held: dict[TrunkId, _Held] = {}

    def received(self, trunk: TrunkId, batch: int, adverts: int, now: float) -> bool:
        """Whether a batch may be acknowledged at once.

        Raises: PeerError: the one before it was not acknowledged yet.
        """
        if trunk in self._held:
            raise PeerError("routes before the acknowledgement of those before")
        if trunk not in self._allowances:
            self._allowances[trunk] = Allowance(ADVERTS_AT_ONCE, ADVERTS_PER_S, now)
        if self._allowances[trunk].take(now, adverts):
            return True
        self._held[trunk] = _Held(batch, adverts)
        self.held_back[trunk] += 1
        return False

    def next_deadline(self) -> float | None:
        """When a batch can be acknowledged."""
        return min((self._allowances[trunk].ready_at(held.adverts) for trunk, held in self._held.items()), default=None)

    def due(self, now: float) -> list[tuple[TrunkId, int]]:
        """The batches that can be acknowledged now."""
        due = [
            (trunk, held.batch) for trunk, held in self._held.items() if self._allowances[trunk].take(now, held.adverts)
        ]
        for trunk, _ in due:
            del self._held[trunk]
        return due

    def gone(self, trunk: TrunkId) -> None:
        for known in (self.held_back, self._allowances, self._held):
            known.pop(trunk, None)
