"""Whether frames arrive by each way to one member: probes, their answers, and what follows (SPEC 7.1).

While frames go to the member, each way that they take is asked now and then. One that is silent is asked again, and so
are the others: if one of those answers, the silent way swallows frames, and is demoted. If none does it is the member.

Pure: peers name ways; whoever owns this sends what `tick` returns, and says what came back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from peertap.types import PeerId

PROBES: Final = 4  # ours: so many in a row; a way that loses a fifth is wrongly demoted once in 600 rounds, not in 125
PROBE_GAP_S: Final = 0.3  # ours: between them
WAIT_S: Final = 0.8  # ours: after the last one; an answer to any of them counts until then
ANSWER_S: Final = 5.0  # ours: an answer later than that is to nothing
CHECK_S: Final = 3.0  # ours: each way in use is asked so often: it swallows frames for 3 + 0.9 + 0.8 s at most
QUIET_CHECK_S: Final = 1.0  # ours: and so often while frames are sent and none comes back
ACTIVE_S: Final = 1.5  # ours: frames that were sent count for so long: three reports of the data plane
SILENT_CHECK_MOST_S: Final = 30.0  # ours: a member that answers by no way is asked ever less often
DEMOTED_FIRST_S: Final = 10.0  # ours: then a demoted way is tried, and again after twice as long each time
DEMOTED_MOST_S: Final = 480.0  # ours: so a relay that swallows on purpose gets 5 s of frames in 8 min
SOUND_AGAIN_S: Final = 600.0  # ours: a way that was restored and sound for so long begins anew
ANSWERS: Final = 3  # ours: probes in a row that a demoted way has to bring back
MAX_WAYS: Final = 8  # ours: ways of one member that are known; more are not probed
MAX_UNDER_WAY: Final = 128  # ours: probes without answer; the oldest goes
NEVER: Final = float("inf")


class WayState(Enum):
    """What is known of a way."""

    TRUSTED = "trusted"  # nothing speaks against it
    ASKED = "asked"  # probes went by it, and none came back yet
    DEMOTED = "demoted"  # it swallowed frames that another way brought
    TRIED = "tried"  # demoted, and probed to see whether it is mended


UNDER_WAY: Final = frozenset({WayState.ASKED, WayState.TRIED})  # states in which a probe is


class WayInput(Enum):
    """What happens to it."""

    DUE = "it is time"
    ANSWERED = "a probe came back; where it was demoted, three in a row"
    SILENT = "no probe came back"
    SWALLOWED = "no probe came back, by another way one did"


TRANSITIONS: Final = {
    (WayState.TRUSTED, WayInput.DUE): WayState.ASKED,
    (WayState.ASKED, WayInput.ANSWERED): WayState.TRUSTED,
    (WayState.ASKED, WayInput.SILENT): WayState.TRUSTED,
    (WayState.ASKED, WayInput.SWALLOWED): WayState.DEMOTED,
    (WayState.DEMOTED, WayInput.DUE): WayState.TRIED,
    (WayState.TRIED, WayInput.ANSWERED): WayState.TRUSTED,
    (WayState.TRIED, WayInput.SILENT): WayState.DEMOTED,
}


@dataclass(slots=True)
class _Way:
    state: WayState = WayState.TRUSTED
    asked_at: float = 0.0  # when this round of probes began
    sent: int = 0  # of this round
    next_at: float = NEVER  # the next probe, the verdict, or the next try
    answers: int = 0  # in a row, while it is tried
    gap_s: float = 0.0  # for how long it was demoted last
    restored_at: float = 0.0
    proved_at: float = -NEVER  # when the last probe that came back was sent

    def take(self, what: WayInput) -> None:
        self.state = TRANSITIONS[self.state, what]


@dataclass(frozen=True, slots=True)
class Changed:
    """A way swallows frames (`demoted`), or does so no longer."""

    peer: PeerId
    demoted: bool


class WayProbes:
    """The ways to one member."""

    def __init__(self, now: float) -> None:
        self.active_at = now  # frames were last sent then
        self.changes: list[Changed] = []  # for whoever owns this, who empties it
        self._ways: dict[PeerId, _Way] = {}
        self._used: tuple[PeerId, ...] = ()
        self._there: frozenset[PeerId] = frozenset()
        self._under_way: dict[int, tuple[PeerId, float]] = {}
        self._checked_at = -NEVER
        self._check_at = now
        self._silent_gap_s = QUIET_CHECK_S

    @property
    def demoted(self) -> frozenset[PeerId]:
        """Ways that frames are not to take while there are others."""
        return frozenset(peer for peer, way in self._ways.items() if way.state in (WayState.DEMOTED, WayState.TRIED))

    def tried_in(self, peer: PeerId, now: float) -> float:
        """After how many seconds a demoted way is tried next."""
        way = self._ways.get(peer)
        return max(0.0, way.next_at - now) if way is not None and way.state is WayState.DEMOTED else 0.0

    def ways_are(self, used: Sequence[PeerId], others: Sequence[PeerId]) -> None:
        """Which ways there are now: those that frames take, and others by which a probe can go."""
        self._used = tuple(dict.fromkeys(used))[:MAX_WAYS]
        self._there = frozenset(tuple(dict.fromkeys((*used, *others)))[:MAX_WAYS])
        for peer in [peer for peer in self._ways if peer not in self._there and peer not in self.demoted]:
            del self._ways[peer]
        for peer in self._there:
            if peer not in self._ways:
                self._ways[peer] = _Way()
        for gone in [peer for peer in self._ways if peer not in self._there][: max(0, len(self._ways) - MAX_WAYS)]:
            del self._ways[gone]

    def traffic(self, now: float, *, heard: bool) -> None:
        """Frames were sent to the member. That some came back proves little: they take their own way."""
        if now > self.active_at + ACTIVE_S:
            self._check_at = max(now, self._checked_at + QUIET_CHECK_S)
        self.active_at = now
        if not heard and not self._is_silent:
            self._check_at = min(self._check_at, max(now, self._checked_at + QUIET_CHECK_S))

    def answered(self, number: int, now: float) -> bool:
        """A probe came back; returns whether it was one of ours."""
        found = self._under_way.pop(number, None)
        way = self._ways.get(found[0]) if found is not None else None
        if found is None or way is None or now > found[1] + ANSWER_S:
            return False
        peer, sent_at = found
        way.proved_at = max(way.proved_at, sent_at)
        self._silent_gap_s = QUIET_CHECK_S
        if way.state is WayState.ASKED:
            way.take(WayInput.ANSWERED)
            way.next_at = NEVER
        elif way.state is WayState.TRIED and sent_at >= way.asked_at:
            way.answers += 1
            way.next_at = now + PROBE_GAP_S
            if way.answers >= ANSWERS:
                way.take(WayInput.ANSWERED)
                way.next_at, way.restored_at = NEVER, now
                self.changes.append(Changed(peer, False))
        return True

    def tick(self, now: float, number: Callable[[], int]) -> list[tuple[PeerId, int]]:
        """Probes that are due: by which way, and their numbers."""
        self._begin_round(now)
        out: list[tuple[PeerId, int]] = []
        for peer, way in list(self._ways.items()):
            if way.next_at > now:
                continue
            if way.state is WayState.DEMOTED and peer in self._there and self._is_active(now):
                way.take(WayInput.DUE)
                way.asked_at, way.sent, way.answers = now, 0, 0
            if way.state is WayState.TRIED and (way.sent > way.answers or peer not in self._there):
                way.take(WayInput.SILENT)
                way.gap_s = min(2 * way.gap_s, DEMOTED_MOST_S)
                way.next_at = now + way.gap_s
            elif way.state is WayState.ASKED and way.sent >= PROBES:
                self._judge(peer, way, now)
            elif way.state in UNDER_WAY:
                way.sent += 1
                out.append((peer, self._start(peer, number(), now)))
                more = way.state is WayState.ASKED and way.sent < PROBES
                way.next_at = now + (PROBE_GAP_S if more else WAIT_S)
                if way.state is WayState.ASKED and way.sent == 2:
                    self._ask_others(now)
        return out

    def next_deadline(self, now: float) -> float:
        """When `tick` has something to do."""
        is_active, due_at = self._is_active(now), NEVER
        if is_active and len(self._there) > 1:
            due_at = self._check_at
        for peer, way in self._ways.items():
            if way.next_at < due_at and (way.state in UNDER_WAY or (is_active and peer in self._there)):
                due_at = way.next_at
        return due_at

    # Inside

    @property
    def _is_silent(self) -> bool:
        """Whether the last round brought nothing back by any way."""
        return self._silent_gap_s > QUIET_CHECK_S

    def _is_active(self, now: float) -> bool:
        return now <= self.active_at + ACTIVE_S

    def _begin_round(self, now: float) -> None:
        if self._check_at > now or len(self._there) < 2 or not self._is_active(now):
            return
        self._checked_at, self._check_at = now, now + max(CHECK_S, self._silent_gap_s)
        for peer in self._used:
            self._ask(peer, now)

    def _ask(self, peer: PeerId, now: float) -> None:
        way = self._ways.get(peer)
        if way is not None and way.state is WayState.TRUSTED:
            way.take(WayInput.DUE)
            way.asked_at, way.sent, way.next_at = now, 0, now

    def _ask_others(self, now: float) -> None:
        """A way did not answer at once: do others?"""
        for peer in self._there:
            self._ask(peer, now)

    def _judge(self, peer: PeerId, way: _Way, now: float) -> None:
        """A way brought nothing back."""
        others = (one for one in self._ways.values() if one is not way)
        if any(one.proved_at >= way.asked_at for one in others):
            way.take(WayInput.SWALLOWED)
            lasted = way.gap_s > 0 and now < way.restored_at + SOUND_AGAIN_S
            way.gap_s = min(2 * way.gap_s, DEMOTED_MOST_S) if lasted else DEMOTED_FIRST_S
            way.next_at = now + way.gap_s
            self.changes.append(Changed(peer, True))
            return
        way.take(WayInput.SILENT)
        way.next_at = NEVER
        if peer in self._used:
            self._silent_gap_s = min(2 * self._silent_gap_s, SILENT_CHECK_MOST_S)
            self._check_at = max(self._check_at, self._checked_at + self._silent_gap_s)
            for one in self._ways.values():
                if one.state is WayState.DEMOTED:
                    one.next_at = now  # better than nothing, if it is mended

    def _start(self, peer: PeerId, number: int, now: float) -> int:
        for old in [old for old, (_, at) in self._under_way.items() if at + ANSWER_S < now]:
            del self._under_way[old]
        while len(self._under_way) >= MAX_UNDER_WAY:
            del self._under_way[next(iter(self._under_way))]
        self._under_way[number] = (peer, now)
        return number
