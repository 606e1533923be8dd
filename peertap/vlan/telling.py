"""How members tell of hosts behind them: changes to all at once, the list to who missed something (SPEC 14.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from peertap.wire.macs import MAX_TOLD, Add, Hosts, Placed, Withdraw

BEACONS_S: Final = (0.3, 0.7, 2.0, 4.0)  # ours: what was lost is noticed well within a second
BEACON_S: Final = 10.0  # ours: from then on
ASK_FIRST_S: Final = 0.5  # ours: longer than any answer takes that comes
ASK_LAST_S: Final = 8.0
ANSWER_GAP_S: Final = 0.25  # ours: to one member; a list is 12 KiB at most
MAX_ANSWERED: Final = 4096  # ours: members of whom it is remembered when they were answered
MAX_PER_S: Final = 50  # ours: what more a member says in a second is found in its list afterwards
_WRAP: Final = 1 << 32


class Teller:
    """Numbers what this node says to all, and says again which number holds."""

    def __init__(self) -> None:
        self.serial = 0  # 0: nothing was ever said
        self._said = 0  # beacons since
        self._due_at: float | None = None
        self._answered: dict[int, float] = {}  # by member

    def tell(self, add: Sequence[Placed], withdraw: Sequence[Placed], now: float) -> list[Add | Withdraw]:
        """Messages for all: changes, numbered."""
        out: list[Add | Withdraw] = []
        kinds: tuple[tuple[Callable[[int, tuple[Placed, ...]], Add | Withdraw], Sequence[Placed]], ...] = (
            (Add, add),
            (Withdraw, withdraw),
        )
        for kind, hosts in kinds:
            for at in range(0, len(hosts), MAX_TOLD):
                self.serial = self.serial % (_WRAP - 1) + 1
                out.append(kind(self.serial, tuple(hosts[at : at + MAX_TOLD])))
        if out:
            self._said, self._due_at = 0, now + BEACONS_S[0]
        return out

    def next_deadline(self) -> float | None:
        return self._due_at

    def tick(self, now: float) -> list[Add]:
        """Which number holds, where it is time to say so."""
        if self._due_at is None or self._due_at > now:
            return []
        self._said += 1
        self._due_at = now + (BEACONS_S[self._said] if self._said < len(BEACONS_S) else BEACON_S)
        return [Add(self.serial)]

    def answer(self, member: int, own: tuple[Placed, ...], now: float) -> Hosts | None:
        """The whole list for a member that asks; None: it just had it."""
        if now < self._answered.get(member, float("-inf")) + ANSWER_GAP_S:
            return None
        if len(self._answered) >= MAX_ANSWERED:
            self._answered.clear()
        self._answered[member] = now
        return Hosts(self.serial, own)

    def forget(self, member: int) -> None:
        """A member is gone."""
        self._answered.pop(member, None)


@dataclass(slots=True)
class Listener:
    """What is known of one run of a member; it asks for what it missed."""

    serial: int | None = None  # None: the list never came
    missing: bool = False
    _ask_at: float = 0.0
    _gap_s: float = ASK_FIRST_S
    _second: float = 0.0
    _count: int = 0

    def accept(self, message: Add | Withdraw, now: float) -> bool:
        """Whether a message to all is to be believed; what was missed before it is asked for."""
        if now >= self._second + 1.0:
            self._second, self._count = now, 0
        self._count += 1
        if self._count > MAX_PER_S:
            self._miss(now)
            return False
        if self.serial is None:
            self._miss(now)
            return True
        ahead = (message.serial - self.serial) % _WRAP
        if ahead >= _WRAP // 2:
            return False  # it was overtaken
        if ahead > (1 if message.hosts else 0):
            self._miss(now)
            return True
        self.serial = message.serial
        return ahead == 1

    def accept_list(self, message: Hosts) -> bool:
        """Whether a list is newer than what is known."""
        if self.serial is not None and not self.missing and (message.serial - self.serial) % _WRAP >= _WRAP // 2:
            return False
        self.serial, self.missing, self._gap_s = message.serial, False, ASK_FIRST_S
        return True

    def want(self, now: float) -> None:
        """A member that may have hosts was met: its list is asked for."""
        if self.serial is None:
            self._miss(now)

    def next_deadline(self) -> float | None:
        return self._ask_at if self.missing else None

    def asks(self, now: float) -> bool:
        """Whether to ask now."""
        if not self.missing or self._ask_at > now:
            return False
        self._ask_at, self._gap_s = now + self._gap_s, min(2 * self._gap_s, ASK_LAST_S)
        return True

    def _miss(self, now: float) -> None:
        if not self.missing:
            self.missing, self._ask_at, self._gap_s = True, now, ASK_FIRST_S
