"""Leaf or transit: whether a node passes on what others announce (SPEC 6.5).

TRANSIT ─ enough relays, for a while ─▶ LEAF ─ too few of them, for a moment ─▶ TRANSIT
"""

from enum import Enum
from typing import Final

RELAYS_ENOUGH: Final = 3  # PROTOCOL 5: a leaf hangs on up to three relays
RELAYS_TOO_FEW: Final = 1  # ours: with two it still has one to lose
LEAF_AFTER_S: Final = 60.0  # ours: relays that come and go do not make it change
TRANSIT_AFTER_S: Final = 2.0  # ours: a relay that is only starting anew may be back by then


class Wish(Enum):
    """What the operator wants."""

    AUTO = "auto"
    LEAF = "leaf"
    TRANSIT = "transit"


class Role:
    """The role of one node; a relay for others is always transit."""

    def __init__(self, wish: Wish, *, relays: bool) -> None:
        self._wish: Final = wish
        self._relays = relays
        self.is_leaf = wish is Wish.LEAF and not relays
        self._due_at: float | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether it does not depend on the neighbours."""
        return self._relays or self._wish is not Wish.AUTO

    def follow(self, *, relays: bool) -> bool:
        """The node relays for others from now on, or does not any more; returns whether the role is another one now."""
        self._relays, self._due_at = relays, None
        wanted = not relays and (self._wish is Wish.LEAF or (self._wish is Wish.AUTO and self.is_leaf))
        changed, self.is_leaf = wanted != self.is_leaf, wanted
        return changed

    def look(self, relays: int, now: float, *, is_public: bool) -> bool:
        """Takes note of how many neighbours relay our VLANs; returns whether the role is another one now.

        Args:
            is_public: strangers reach us from the Internet, which makes us worth more as transit.
        """
        if self.is_fixed:
            return False
        if self.is_leaf:
            wants_change, after_s = relays <= RELAYS_TOO_FEW or is_public, TRANSIT_AFTER_S
        else:
            wants_change, after_s = relays >= RELAYS_ENOUGH and not is_public, LEAF_AFTER_S
        if not wants_change:
            self._due_at = None
            return False
        if self._due_at is None:
            self._due_at = now + after_s
        if now < self._due_at:
            return False
        self.is_leaf, self._due_at = not self.is_leaf, None
        return True

    def next_deadline(self) -> float | None:
        """When `look` may find that it is time."""
        return self._due_at
