"""What shows that an answer was made after our question (SPEC 5.1)."""

from __future__ import annotations

import hmac as constant_time
from collections import deque
from collections.abc import Callable
from typing import Final

from peertap.wire.introduction import CHALLENGE_BYTES

VALID_S: Final = 10.0  # PROTOCOL 2: a challenge is valid for 10 s
STEP_S: Final = 5.0  # ours: a new one every 5 s, so that each is offered for at least 5


class Challenges:
    """Our random challenges: the one that we offer now and those that may still be echoed."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._made: deque[tuple[bytes, float]] = deque(maxlen=3)

    def offered(self, now: float) -> bytes:
        """The one to offer."""
        if not self._made or self._made[-1][1] + STEP_S < now:
            self._made.append((self._random(CHALLENGE_BYTES), now))
        return self._made[-1][0]

    def is_ours(self, echoed: bytes, now: float) -> bool:
        """Whether an echo is of one that is still valid."""
        return any(
            constant_time.compare_digest(echoed, challenge) and now <= made + VALID_S + STEP_S
            for challenge, made in self._made
        )
