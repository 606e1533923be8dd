"""We are not where the group is, and ask until an admin lets us come back (SPEC 9.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peertap.vlan.commits import Step

ASK_GAP_S: Final = 1.0  # ours: admins are asked again, at most twice as late
NEW_S: Final = 10.0  # ours: who has been lost for longer may be where the group is, and helps others again
GIVE_UP_S: Final = 60.0  # ours: then we go on where we are, until an admin shows another branch again
NONCE_BYTES: Final = 16


class Lost:
    """Whether we are, and which branch won over ours, if that is why.

    `never_resumes`: our state comes from a backup: it may be used for nothing but the return.
    """

    def __init__(self) -> None:
        self.is_lost = False
        self.never_resumes = False
        self.branch: tuple[Step, ...] = ()
        self.nonce = b""
        self._ask_at = float("inf")
        self._give_up_at = float("inf")
        self._since = float("-inf")

    def begin(self, now: float, *, never_resumes: bool = False) -> None:
        """From now on we ask."""
        self.is_lost, self.never_resumes, self._ask_at = True, never_resumes, now
        self._give_up_at = float("inf") if never_resumes else now + GIVE_UP_S
        self._since = now

    def end(self) -> None:
        """We are where we belong, as far as we know."""
        self.is_lost, self.never_resumes = False, False
        self._ask_at, self._give_up_at = float("inf"), float("inf")
        self.branch, self.nonce = (), b""

    def is_new(self, now: float) -> bool:
        """Whether we have just become lost, or have nothing but a backup."""
        return self.never_resumes or (self.is_lost and now < self._since + NEW_S)

    def next_at(self) -> float:
        """When there is something to do."""
        return min(self._ask_at, self._give_up_at)

    def is_due(self, now: float) -> bool:
        """Whether it is time to ask; after a minute without an answer we are lost no longer."""
        if self._give_up_at <= now:
            self.end()
        return self._ask_at <= now

    def question(self, now: float, random: Callable[[int], bytes], jitter: float) -> bytes:
        """The nonce to ask with: an answer to an earlier question will do."""
        self._ask_at = now + ASK_GAP_S * (1 + jitter)
        self.nonce = self.nonce or random(NONCE_BYTES)
        return self.nonce
