"""Which key that nobody introduced to ask for, and when (SPEC 5.1)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

KEY_GAP_S: Final = 2.0  # PROTOCOL 2: at most one Hello in 2 s for an unknown kid, doubling
KEY_GAP_MOST_S: Final = 300.0  # PROTOCOL 2
ALL_GAP_S: Final = 0.5  # ours: and for all of them together, so that junk kids silence nobody's question
MAX_UNKNOWN: Final = 256  # ours: the oldest goes


class UnknownKeys:
    """The kids that frames came under, of which we know no sender."""

    def __init__(self) -> None:
        self._kids: OrderedDict[bytes, tuple[float, float, int]] = OrderedDict()  # due from, gap after it, seen
        self._asked_at = float("-inf")

    def seen(self, kid: bytes, now: float) -> bytes | None:
        """A frame came under this one. Of those that are due, which to ask for now: the one seen most."""
        from_at, gap_s, seen = self._kids.pop(kid, (now, KEY_GAP_S, 0))
        self._kids[kid] = (from_at, gap_s, seen + 1)
        while len(self._kids) > MAX_UNKNOWN:
            self._kids.popitem(last=False)
        due = [one for one, (at, _, _) in self._kids.items() if at <= now]
        if not due or now < self._asked_at + ALL_GAP_S:
            return None
        asked = max(due, key=lambda one: self._kids[one][2])
        _, gap_s, _ = self._kids[asked]
        self._asked_at = now
        self._kids[asked] = (now + gap_s, min(2 * gap_s, KEY_GAP_MOST_S), 0)
        return asked

    def clear(self) -> None:
        """Somebody became known: any of them may be its."""
        self._kids.clear()
