"""What a node looks at again later (SPEC 6.1): what it asked for, ways that came too soon, tokens that are gone."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from peertap.mesh.audience import Key
from peertap.types import TrunkId
from peertap.wire.routes import Origin

REQUEST_GAP_S: Final = 0.5  # ours: a neighbour is asked for a token once in this time, then after twice as long
REQUEST_GAP_MOST_S: Final = 60.0  # ours
LOOK_GAP_S: Final = 0.05  # ours: each look goes through all of them
GONE_S: Final = 5.0  # ours: so long after nobody announces a token any more no ghost of it goes round any ring
NEVER: Final = float("inf")


@dataclass(slots=True)
class _Starved:
    """A token that was asked for."""

    again_at: float
    gap_s: float
    asked: dict[Origin, frozenset[TrunkId]] = field(default_factory=dict)  # of origins that we used, which are few


class Waiting:
    """Tokens of one table, which has room for so many; each is here at most three times."""

    def __init__(self) -> None:
        self._starved: dict[Key, _Starved] = {}
        self._postponed: dict[Key, float] = {}  # a better way came too soon after the last change
        self._gone: OrderedDict[Key, tuple[float, float]] = OrderedDict()  # nobody announces it: look again at, since
        self._due_at = NEVER  # no later than the first of these

    def is_starved(self, key: Key) -> bool:
        """Whether a token was asked for, and did not come yet."""
        return key in self._starved

    def is_postponed(self, key: Key) -> bool:
        """Whether there is a better way, which is not to be taken yet."""
        return key in self._postponed

    def is_waiting(self, key: Key) -> bool:
        return key in self._starved or key in self._postponed

    def ask(self, key: Key, origin: Origin, announcers: Sequence[TrunkId], now: float) -> list[TrunkId]:
        """A token is missing, and these announce it. Returns whom to ask: each once before it is looked at again.

        Who begins to announce it, or does so again, may be the only one who leads there, and does not have to wait.
        """
        starved = self._starved.get(key)
        if starved is None:
            starved = self._starved[key] = _Starved(now + REQUEST_GAP_S, REQUEST_GAP_S)
            self._due_at = min(self._due_at, starved.again_at)
        asked = starved.asked.get(origin, frozenset())
        if announcers:
            starved.asked[origin] = frozenset(announcers)
        return [trunk for trunk in announcers if trunk not in asked]

    def starve_longer(self, key: Key, now: float, gap_s: float) -> None:
        """A token that was asked for in vain after this gap was asked for again."""
        starved = self._starved.get(key)
        if starved is not None:
            starved.gap_s = min(2 * gap_s, REQUEST_GAP_MOST_S)
            starved.again_at = now + starved.gap_s

    def feed(self, key: Key) -> None:
        """A token is missing no more."""
        self._starved.pop(key, None)

    def postpone(self, key: Key, until: float) -> None:
        """There is a better way, which is not to be taken before this time."""
        self._postponed[key] = until
        self._due_at = min(self._due_at, until)

    def go(self, key: Key, since: float, now: float) -> None:
        """Nobody announces a token any more."""
        self._gone[key] = (now + GONE_S, since)
        self._gone.move_to_end(key)
        self._due_at = min(self._due_at, now + GONE_S)

    def next_deadline(self) -> float | None:
        """When there is something to look at, or to look whether there is."""
        return self._due_at if self._starved or self._postponed or self._gone else None

    def is_due(self, now: float) -> bool:
        return now >= self._due_at

    def take_postponed(self, now: float) -> list[Key]:
        due = [key for key, at in self._postponed.items() if at <= now]
        for key in due:
            del self._postponed[key]
        return due

    def take_starved(self, now: float) -> list[tuple[Key, float]]:
        """Tokens to ask for again, and the gap after which that is."""
        due = [(key, starved.gap_s) for key, starved in self._starved.items() if starved.again_at <= now]
        for key, _ in due:
            del self._starved[key]
        return due

    def take_gone(self, now: float) -> list[tuple[Key, float]]:
        """Tokens that were gone a while ago, and since when."""
        due: list[tuple[Key, float]] = []
        while self._gone and next(iter(self._gone.values()))[0] <= now:
            key, (_, since) = self._gone.popitem(last=False)
            due.append((key, since))
        return due

    def looked(self, now: float) -> None:
        """What was due was looked at."""
        asked, gone = (one.again_at for one in self._starved.values()), [at for at, _ in islice(self._gone.values(), 1)]
        due_at = min((*asked, *gone, *self._postponed.values()), default=NEVER)
        self._due_at = max(due_at, now + LOOK_GAP_S)
