"""Which of the members that bridge one LAN forwards, as their loop probes tell them (SPEC 14.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

SILENCE_S: Final = 3.0  # PROTOCOL 7: a port listens before it speaks
PROBE_GAP_S: Final = 1.0  # PROTOCOL 7
LOST_S: Final = 2.5  # ours: one probe may be lost; who is blocked takes over 2.5 s after the last one
HANDOVER_S: Final = 0.25  # ours: what the one that stopped has passed is nowhere on its way any more
OFF_GAP_S: Final = 5.0  # ours: on a LAN that leads back, each probe may come again and again
OFF_S: Final = 30.0  # ours: the LAN is whole again when nothing came back for so long
MAX_HEARD: Final = 64  # ours: the lowest count, others go

Handle = tuple[bytes, bytes]  # of a member, and of its run


class Standing(Enum):
    """What a port does."""

    LISTENING = "listening"  # passes and says nothing
    WAITING = "waiting"  # is the one to forward, once the one that still does has stopped
    FORWARDING = "forwarding"
    BLOCKED = "blocked"  # a lower one is on the LAN
    OFF = "off"  # its own probe came back


@dataclass(slots=True)
class _Heard:
    at: float
    number: int
    forwards: bool


class LoopGuard:
    """One port's part in it: probes heard and the time in, what the port does out."""

    def __init__(self, handle: bytes, run: bytes, now: float) -> None:
        """A port that was opened just now.

        Args:
            handle: 8 bytes, the same for a member in each of its runs.
            run: 8 random bytes.
        """
        self.own: Final[Handle] = handle, run
        self.standing = Standing.LISTENING
        self._until = now + SILENCE_S
        self._heard: dict[Handle, _Heard] = {}

    @property
    def forwards(self) -> bool:
        """Whether frames pass."""
        return self.standing is Standing.FORWARDING

    @property
    def gap_s(self) -> float:
        """Seconds between probes; 0: none are sent."""
        if self.standing is Standing.LISTENING:
            return 0.0
        return OFF_GAP_S if self.standing is Standing.OFF else PROBE_GAP_S

    @property
    def rival(self) -> bytes | None:
        """The handle of the one that keeps this port from forwarding."""
        if self.standing is Standing.BLOCKED:
            return min(self._heard)[0]
        if self.standing is Standing.WAITING:
            forwarding = [one for one, heard in self._heard.items() if heard.forwards]
            return min(forwarding)[0] if forwarding else None
        return None

    def heard(self, sender: Handle, number: int, now: float, *, forwards: bool) -> None:
        """A probe of another port came in; an older one than the last of its run is a recording."""
        if sender == self.own:
            return
        before = self._heard.get(sender)
        if before is None or number > before.number:
            self._heard[sender] = _Heard(now, number, forwards)
            if before is not None and before.forwards and not forwards and self.standing is Standing.WAITING:
                self._until = now + HANDOVER_S
            if len(self._heard) > MAX_HEARD:
                del self._heard[max(self._heard)]
        self.tick(now)

    def heard_own(self, now: float) -> None:
        """A probe of this port came back: the LAN leads to it in two ways."""
        self.standing, self._until = Standing.OFF, now + OFF_S

    def next_deadline(self) -> float | None:
        """When time alone changes something."""
        if self.standing in (Standing.LISTENING, Standing.OFF):
            return self._until
        dues = [heard.at + LOST_S for heard in self._heard.values()]
        if self.standing is Standing.WAITING and not any(heard.forwards for heard in self._heard.values()):
            dues.append(self._until)
        return min(dues, default=None)

    def tick(self, now: float) -> None:
        """Decides anew."""
        self._heard = {one: heard for one, heard in self._heard.items() if heard.at + LOST_S > now}
        if self.standing is Standing.OFF and self._until <= now:
            self.standing, self._until = Standing.LISTENING, now + SILENCE_S
        if self.standing in (Standing.LISTENING, Standing.OFF) and self._until > now:
            return
        if any(one < self.own for one in self._heard):
            self.standing = Standing.BLOCKED
        elif not self.forwards and any(heard.forwards for heard in self._heard.values()):
            self.standing = Standing.WAITING
        elif self.standing is not Standing.WAITING or self._until <= now:
            self.standing = Standing.FORWARDING
