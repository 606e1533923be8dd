"""Under which numbers the data plane counts and limits what is carried, by VTag (SPEC 15.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peertap.node.tables import NO_LIMITS, ClassTable, RelayLimits
from peertap.types import VTag

MAX_CLASSES: Final = 1024  # ours: VTags counted at a time; more are carried under one number together
OTHERS: Final = 0  # the number of those


class Carried:
    """Numbers that rise and are never used again. A VTag keeps its own until room is needed."""

    def __init__(self, is_own: Callable[[VTag], bool]) -> None:
        self.limits: RelayLimits = NO_LIMITS
        self._is_own = is_own
        self._numbers: dict[VTag, int] = {}
        self._last = OTHERS
        self._used: set[VTag] = set()

    @property
    def numbers(self) -> dict[VTag, int]:
        """What is counted under which number."""
        return self._numbers

    def begin(self) -> None:
        """The tables are built anew."""
        self._used.clear()

    def number(self, vtag: VTag) -> int:
        """The number of a VTag that a label carries."""
        self._used.add(vtag)
        if vtag not in self._numbers:
            if len(self._numbers) >= MAX_CLASSES and not self._make_room():
                return OTHERS
            self._last += 1
            self._numbers[vtag] = self._last
        return self._numbers[vtag]

    def tables(self) -> tuple[ClassTable, ...]:
        """One for each, and one for all that have none."""
        own = self._is_own
        if not self._numbers:
            return ()
        return ClassTable(OTHERS, True), *(ClassTable(one, not own(vtag)) for vtag, one in self._numbers.items())

    def _make_room(self) -> bool:
        gone = next((vtag for vtag in self._numbers if vtag not in self._used), None)
        if gone is not None:
            del self._numbers[gone]
        return gone is not None
