"""Which relays a node stays connected to: the nearest, and some by chance (PROTOCOL 5, SPEC 11.3).

    who is seen ─▶ could be dialled ▸ has room ▸ answered when it was tried ─▶ the nearest ─┐
                                                                └─▶ some by chance ─────────┴─▶ chosen: dialled, kept up

The nearest keep a mesh fast, those by chance keep it whole. A better one takes the place of a worse one at most once a
minute, and only by a margin, so that nothing flaps; of a relay that is busy its leaves go one after the other.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from peertap.mesh.presence import Seen
from peertap.mesh.score import relay_score
from peertap.types import PeerId, TrunkId

TRANSIT_NEAREST: Final = 4  # PROTOCOL 5
TRANSIT_BY_CHANCE: Final = 4  # PROTOCOL 5
LEAF_NEAREST: Final = 2  # PROTOCOL 5: three relays, one of them by chance
LEAF_BY_CHANCE: Final = 1
LOOK_S: Final = 5.0  # ours
CHANGE_S: Final = 60.0  # ours: between two changes that nobody forced
GAIN: Final = 8.0  # ours: and only for half the round trip, or as much
RELIEF: Final = 0.25  # ours: so likely a leaf of a busy relay goes at one look
TRY_S: Final = 30.0  # ours: a relay that is no neighbour by then cannot be reached from here
BENCH_S: Final = 600.0  # ours: and is not tried for so long
GONE_S: Final = 600.0  # ours: one that vanished is dialled for so long, as after a cut of the network
MAX_GONE: Final = 16  # ours: the latest
MAX_BENCHED: Final = 256  # ours
USELESS_COST: Final = 64.0  # ours: of a relay that announces nothing of our VLANs: any other is better
HALF_LIFE_S: Final = 600.0  # ours: a loss counts half as much after it
MAX_LOSSES: Final = 1024  # ours: peers whose losses are remembered


@dataclass(frozen=True, slots=True)
class Tie:
    """A trunk as keeping sees it.

    Args:
        is_wanted: the operator or a VLAN's record names the peer.
        loss: share of lost packets, 0 to 1.
        serves: it relays our VLANs, as far as we can tell.
    """

    trunk: TrunkId
    peer: PeerId
    rtt_s: float | None
    loss: float
    dialled: bool
    is_wanted: bool
    is_silent: bool
    serves: bool


class Keeping:
    """The choice of one node."""

    def __init__(self, random: Callable[[], float], limit: int, now: float, *, chooses: bool) -> None:
        """Args: random: a number from 0 up to 1; limit: trunks; chooses: whether relays are chosen at all."""
        self.limit = limit
        self.chooses = chooses
        self._random = random
        self._nearest: dict[PeerId, float] = {}  # chosen at
        self._by_chance: dict[PeerId, float] = {}
        self._gone: dict[PeerId, float] = {}  # until
        self._benched: dict[PeerId, float] = {}  # until
        self._dropped: set[PeerId] = set()  # was chosen; its trunk may go
        self._losses: dict[PeerId, tuple[float, float]] = {}  # how many, at
        self._look_at = now + LOOK_S
        self._changed_at = float("-inf")

    @property
    def chosen(self) -> frozenset[PeerId]:
        """Whom to stay connected to."""
        return frozenset((*self._nearest, *self._by_chance, *self._gone))

    def lost(self, peer: PeerId, now: float) -> None:
        """A trunk ended that nobody wanted to end."""
        self._losses[peer] = self._lost_of_late(peer, now) + 1, now
        while len(self._losses) > MAX_LOSSES:
            del self._losses[min(self._losses, key=lambda one: self._losses[one][1])]

    def next_deadline(self) -> float:
        """When to look again."""
        return self._look_at

    def look(self, now: float, seen: Mapping[PeerId, Seen], ties: Iterable[Tie], *, is_leaf: bool) -> None:
        """Chooses anew, where that is worth it."""
        self._look_at = now + LOOK_S
        neighbours = {tie.peer: tie for tie in ties if not tie.is_silent}
        self._forget(now)
        if not self.chooses:
            self._nearest.clear()
            self._by_chance.clear()
            return
        self._bench(now, seen, neighbours)
        scores = {
            peer: self._score(one, neighbours.get(peer), now)
            for peer, one in seen.items()
            if self._is_candidate(one, peer in neighbours)
        }
        for kept in (self._nearest, self._by_chance):
            for peer in [peer for peer in kept if peer not in scores]:
                del kept[peer]
                if peer not in self._benched:
                    self._gone[peer] = now + GONE_S
        most_near, most_far = (LEAF_NEAREST, LEAF_BY_CHANCE) if is_leaf else (TRANSIT_NEAREST, TRANSIT_BY_CHANCE)
        self._fill(scores, most_near, most_far, now)
        busy = {peer for peer in scores if seen[peer].presence.is_busy}
        useless = {peer for peer, tie in neighbours.items() if not tie.serves}
        self._improve(scores, busy, useless, now)
        for peer in self.chosen:
            self._dropped.discard(peer)

    def superfluous(self, ties: Iterable[Tie]) -> list[TrunkId]:
        """Trunks to end: to relays in whose place we chose others, and the worst of those beyond the limit."""
        all_ties, chosen = list(ties), self.chosen
        found = [tie for tie in all_ties if tie.peer in self._dropped and tie.dialled and not tie.is_wanted]
        rest = [tie for tie in all_ties if tie not in found]
        guests = [tie for tie in rest if not tie.dialled and not tie.is_wanted and tie.peer not in chosen]
        guests.sort(key=lambda tie: relay_score(tie.rtt_s or 0.0, tie.loss, 0.0, 0.0, is_busy=False))
        beyond = max(0, len(rest) - self.limit)
        return [tie.trunk for tie in (*found, *guests[max(0, len(guests) - beyond) :])]

    # Inside

    def _is_candidate(self, one: Seen, is_neighbour: bool) -> bool:
        said = one.presence
        if said.is_leaf or not said.relays or one.peer in self._benched:
            return False
        return is_neighbour or (bool(said.addresses) and not said.is_full)

    def _score(self, one: Seen, tie: Tie | None, now: float) -> float:
        rtt_s = one.rtt_s if tie is None or tie.rtt_s is None else tie.rtt_s
        losses = self._lost_of_late(one.peer, now)
        loss = 0.0 if tie is None else tie.loss
        score = relay_score(rtt_s, loss, one.presence.load / 255, losses, is_busy=one.presence.is_busy)
        return score if tie is None or tie.serves else score + USELESS_COST

    def _fill(self, scores: Mapping[PeerId, float], most_near: int, most_far: int, now: float) -> None:
        for kept, most in ((self._nearest, most_near), (self._by_chance, most_far)):
            while len(kept) > most:
                worst = max(kept, key=lambda peer: scores[peer])
                del kept[worst]
                self._dropped.add(worst)
        free = sorted((peer for peer in scores if peer not in self._all()), key=lambda peer: (scores[peer], peer))
        for peer in free[: most_near - len(self._nearest)]:
            self._nearest[peer] = now
        free = [peer for peer in free if peer not in self._nearest]
        while free and len(self._by_chance) < most_far:
            self._by_chance[free.pop(int(self._random() * len(free)))] = now

    def _improve(self, scores: Mapping[PeerId, float], busy: Set[PeerId], useless: Set[PeerId], now: float) -> None:
        """The best that is not chosen takes the place of the worst that is; of those by chance, of a poor one alone."""
        poor = busy | useless
        kept = {*self._nearest, *(peer for peer in self._by_chance if peer in poor)}
        free = [peer for peer in scores if peer not in self._all()]
        if not free or not kept or now < self._changed_at + CHANGE_S:
            return
        best, worst = min(free, key=lambda peer: scores[peer]), max(kept, key=lambda peer: scores[peer])
        if scores[best] + GAIN > scores[worst]:
            return
        if worst in poor and self._random() > RELIEF:
            return
        place = self._nearest if worst in self._nearest else self._by_chance
        del place[worst]
        place[best] = self._changed_at = now
        self._dropped.add(worst)
        if worst in useless:  # without its trunk we could not tell
            self._benched[worst] = now + BENCH_S

    def _bench(self, now: float, seen: Mapping[PeerId, Seen], neighbours: Mapping[PeerId, Tie]) -> None:
        """Who could not be reached is not tried for a while; who is gone was not the dial's fault."""
        for kept in (self._nearest, self._by_chance):
            for peer, since in list(kept.items()):
                if peer in neighbours:
                    kept[peer] = now
                elif peer in seen and now >= since + TRY_S:
                    self._benched[peer] = now + BENCH_S

    def _forget(self, now: float) -> None:
        for kept, most in ((self._gone, MAX_GONE), (self._benched, MAX_BENCHED)):
            for peer in [peer for peer, until in kept.items() if until <= now]:
                del kept[peer]
            while len(kept) > most:
                del kept[next(iter(kept))]
        for peer in [peer for peer in self._gone if peer in self._nearest or peer in self._by_chance]:
            del self._gone[peer]

    def _all(self) -> set[PeerId]:
        return {*self._nearest, *self._by_chance}

    def _lost_of_late(self, peer: PeerId, now: float) -> float:
        count, at = self._losses.get(peer, (0.0, now))
        return count * math.pow(0.5, (now - at) / HALF_LIFE_S)
