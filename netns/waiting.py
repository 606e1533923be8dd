"""Waiting for a condition, with a deadline and an answer to "what did it look like?"."""

import time
from collections.abc import Callable
from typing import TypeVar

from netns.errors import ScenarioFailed

Seen = TypeVar("Seen")


def wait_for(condition: Callable[[], Seen | None], timeout_s: float, what: str, interval_s: float = 0.05) -> Seen:
    """Calls `condition` until it returns something true, and returns that.

    A ScenarioFailed raised by the condition counts as "not yet": its text is what was last seen.

    Raises:
        ScenarioFailed: after `timeout_s`, with `what` and what was last seen.
    """
    end = time.monotonic() + timeout_s
    while True:
        last: object
        try:
            seen = condition()
            if seen:
                return seen
            last = seen
        except ScenarioFailed as error:
            last = error
        if time.monotonic() >= end:
            raise ScenarioFailed(f"{what}: not within {timeout_s:g} s; last seen: {_shorten(repr(last))}")
        time.sleep(interval_s)


def _shorten(text: str) -> str:
    return text if len(text) <= 1500 else text[:1500] + "…"
