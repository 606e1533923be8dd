"""Where the hosts of a VLAN are: behind which member, or at our own port (SPEC 14.3; RFC 7432, 7.7 and 15)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from peertap.types import Mac, PeerId
from peertap.wire.macs import MAX_HOSTS, MAX_MOVES, Host, Placed

MAX_ALL: Final = 4096  # ours: half of the data plane's slots, so that hardly one is displaced
MOVES: Final = 5  # PROTOCOL 7, RFC 7432 15.1
WINDOW_S: Final = 180.0  # PROTOCOL 7, RFC 7432 15.1
FROZEN_S: Final = 180.0  # ours: then its moves count anew
MAX_STEP: Final = 1024  # ours: an honest mover adds one to what it knows, and it may have missed some
MAX_FIRST: Final = 1 << 20  # ours: of a host that we know nothing of; far from the counter's end


@dataclass(frozen=True, slots=True)
class Frozen:
    """A host that moved too often: it stays where it was before it began."""

    host: Host
    at: PeerId
    claimants: tuple[PeerId, ...]


@dataclass(slots=True)
class _Past:
    """What a host did lately."""

    last: PeerId
    seen_at: float
    moves: deque[tuple[float, PeerId]] = field(default_factory=lambda: deque(maxlen=MOVES))  # when, away from whom
    claimants: set[PeerId] = field(default_factory=set)
    frozen_at: PeerId | None = None
    frozen_until: float = 0.0

    def frozen(self, host: Host) -> Frozen:
        at = self.frozen_at or self.last
        return Frozen(host, at, tuple(sorted(self.claimants - {at})))


@dataclass(slots=True)
class Outcome:
    """What follows from something that happened."""

    placed: dict[Host, PeerId | None] = field(default_factory=dict)  # where hosts are now; None: nowhere known
    add: list[Placed] = field(default_factory=list)  # to be told to all
    withdraw: list[Placed] = field(default_factory=list)
    refuse: list[Host] = field(default_factory=list)  # our port may not have them
    release: list[Host] = field(default_factory=list)  # our port does not have them, and may learn them anew
    frozen: list[Frozen] = field(default_factory=list)
    overdone: list[Host] = field(default_factory=list)  # claimed with a counter that nobody comes to honestly


class HostTable:
    """All hosts of one VLAN, by claims: the highest counter has a host, then the lowest member."""

    def __init__(self, me: PeerId, is_virtual: Callable[[Mac], bool]) -> None:
        self._me = me
        self._is_virtual = is_virtual
        self._claims: dict[Host, dict[PeerId, int]] = {}
        self._places: dict[Host, PeerId] = {}
        self._counts: dict[PeerId, int] = {}
        self._past: dict[Host, _Past] = {}  # at most as many as hosts, and those that left in the window
        self.ignored = 0

    # What a caller asks

    def where(self, host: Host) -> PeerId | None:
        return self._places.get(host)

    def own(self) -> tuple[Placed, ...]:
        """What is at our port."""
        mine = ((host, claims[self._me]) for host, claims in self._claims.items() if self._me in claims)
        return tuple(Placed(host, moves) for host, moves in sorted(mine))

    def all(self) -> list[tuple[Host, PeerId, int]]:
        """Each host that is somewhere, where, and how often it moved."""
        found = sorted(self._places.items())
        return [(host, place, self._claims.get(host, {}).get(place, 0)) for host, place in found]

    def frozen(self) -> dict[Host, Frozen]:
        """Those that stay where they are."""
        return {host: past.frozen(host) for host, past in self._past.items() if past.frozen_at is not None}

    def next_deadline(self) -> float | None:
        """When a frozen host thaws."""
        return min((past.frozen_until for past in self._past.values() if past.frozen_at is not None), default=None)

    # What happens

    def seen(self, host: Host, now: float) -> Outcome:
        """A host spoke at our port, which did not know it."""
        out = Outcome()
        claims = self._claims.get(host, {})
        if self._me in claims and self._places.get(host) == self._me:
            return out
        past = self._past.get(host)
        if past is not None and past.frozen_at not in (None, self._me):
            out.refuse.append(host)
            return out
        others = [moves for member, moves in claims.items() if member != self._me]
        moves = min(max(others) + 1, MAX_MOVES) if others else claims.get(self._me, 0)
        if self._claim(host, self._me, moves, now, out) and (out.frozen or self._places.get(host) == self._me):
            out.add.append(Placed(host, moves))  # where it froze the host elsewhere, so that all see why
        return out

    def gone(self, host: Host, now: float) -> Outcome:
        """A host at our port was silent for long."""
        out = Outcome()
        self._drop_own(host, now, out)
        return out

    def only(self, present: Iterable[Host], now: float) -> Outcome:
        """Our port has exactly these."""
        out, found = Outcome(), set(present)
        for one in self.own():
            if one.host not in found:
                self._drop_own(one.host, now, out)
        for host in sorted(found):
            _merge(out, self.seen(host, now))
        return out

    def told(self, member: PeerId, hosts: Iterable[Placed], now: float) -> Outcome:
        """A member says that hosts are behind it."""
        out = Outcome()
        for one in hosts:
            known = self._claims.get(one.host, {})
            most = max(known.values()) + MAX_STEP if known else MAX_FIRST
            if one.moves > most:
                out.overdone.append(one.host)
            elif not self._is_virtual(one.host.mac):
                self._claim(one.host, member, one.moves, now, out)
        return out

    def withdrawn(self, member: PeerId, hosts: Iterable[Host], now: float) -> Outcome:
        """A member says that hosts are behind it no longer."""
        out = Outcome()
        for host in hosts:
            self._drop(host, member, now, out)
        return out

    def listed(self, member: PeerId, hosts: Iterable[Placed], now: float) -> Outcome:
        """A member says what all is behind it."""
        given = tuple(hosts)
        names = {one.host for one in given}
        out = self.withdrawn(member, [host for host in self._of(member) if host not in names], now)
        _merge(out, self.told(member, given, now))
        return out

    def left(self, member: PeerId, now: float) -> Outcome:
        """A member is gone, or may not bridge any more: nothing is behind it."""
        out = self.withdrawn(member, self._of(member), now)
        for host, past in self._past.items():
            if past.frozen_at == member:
                past.frozen_at = None
                past.moves.clear()
                out.release.append(host)
        return out

    def virtual(self, mac: Mac, now: float) -> Outcome:
        """A MAC is a member's own: it is behind nobody."""
        out = Outcome()
        for host in [host for host in self._claims if host.mac == mac]:
            for member in list(self._claims[host]):
                if member == self._me:
                    self._drop_own(host, now, out)
                else:
                    self._drop(host, member, now, out)
        return out

    def thaw(self, now: float) -> Outcome:
        """Hosts that were frozen long enough may move again; what is long past is forgotten."""
        out = Outcome()
        for host, past in list(self._past.items()):
            if past.frozen_at is not None and past.frozen_until <= now:
                if past.frozen_at != self._me:
                    out.release.append(host)
                past.frozen_at = None
                past.moves.clear()
                past.claimants.clear()
                self._choose(host, now, out, is_claim=False)
            if past.frozen_at is None and host not in self._places and past.seen_at + WINDOW_S <= now:
                del self._past[host]
        return out

    # Inside

    def _of(self, member: PeerId) -> list[Host]:
        return [host for host, claims in self._claims.items() if member in claims]

    def _claim(self, host: Host, member: PeerId, moves: int, now: float, out: Outcome) -> bool:
        """Notes a claim; returns whether there was room for it."""
        past = self._past.get(host)
        if past is not None and past.frozen_at not in (None, member):
            past.claimants.add(member)
            return True
        claims = self._claims.get(host)
        if claims is None or member not in claims:
            is_full = len(self._claims) >= MAX_ALL or len(self._past) >= 2 * MAX_ALL
            if (claims is None and is_full) or self._counts.get(member, 0) >= MAX_HOSTS:
                self.ignored += 1
                return False
            self._counts[member] = self._counts.get(member, 0) + 1
        self._claims.setdefault(host, {})[member] = moves
        self._choose(host, now, out, is_claim=True)
        return True

    def _drop(self, host: Host, member: PeerId, now: float, out: Outcome) -> None:
        claims = self._claims.get(host, {})
        if claims.pop(member, None) is None:
            return
        self._counts[member] -= 1
        if not self._counts[member]:
            del self._counts[member]
        if not claims:
            del self._claims[host]
        self._choose(host, now, out, is_claim=False)

    def _drop_own(self, host: Host, now: float, out: Outcome) -> None:
        moves = self._claims.get(host, {}).get(self._me)
        if moves is not None:
            out.withdraw.append(Placed(host, moves))
            self._drop(host, self._me, now, out)

    def _choose(self, host: Host, now: float, out: Outcome, *, is_claim: bool) -> None:
        """Where a host is, after its claims changed."""
        claims, past, old = self._claims.get(host, {}), self._past.get(host), self._places.get(host)
        new = min(claims, key=lambda member: (-claims[member], member), default=None)
        if past is not None and past.frozen_at is not None:
            new = past.frozen_at if past.frozen_at in claims else None
        elif past is not None and is_claim and new not in (None, past.last):
            past.moves.append((now, past.last))
            past.claimants |= claims.keys()
            if len(past.moves) == MOVES and past.moves[0][0] + WINDOW_S > now:
                self._freeze(host, past, now, out)
                return
        if new is not None:
            if past is None:
                past = self._past[host] = _Past(new, now)
            past.last, past.seen_at = new, now
        elif past is not None:
            past.seen_at = now
        self._place(host, new, out)
        if old == self._me and new not in (None, self._me):
            out.release.append(host)
        if new != self._me and self._me in claims:
            self._drop_own(host, now, out)

    def _freeze(self, host: Host, past: _Past, now: float, out: Outcome) -> None:
        """It stays where it was before it began to move; others' claims count no longer."""
        place = past.moves[0][1]
        past.frozen_at, past.frozen_until, past.last, past.seen_at = place, now + FROZEN_S, place, now
        out.frozen.append(past.frozen(host))
        if place != self._me:
            out.refuse.append(host)
        for member in list(self._claims.get(host, {})):
            if member == self._me != place:
                self._drop_own(host, now, out)
            elif member != place:
                self._drop(host, member, now, out)
        self._place(host, place if place in self._claims.get(host, {}) else None, out)

    def _place(self, host: Host, place: PeerId | None, out: Outcome) -> None:
        if place == self._places.get(host):
            return
        if place is None:
            del self._places[host]
        else:
            self._places[host] = place
        out.placed[host] = place


def _merge(out: Outcome, more: Outcome) -> None:
    out.placed.update(more.placed)
    for name in ("add", "withdraw", "refuse", "release", "frozen", "overdone"):
        getattr(out, name).extend(getattr(more, name))
