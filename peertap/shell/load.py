"""How busy this process is: the share of one core that its busiest thread takes (SPEC 11.1)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_UTIME: Final = 11  # proc(5): user and system time are fields 14 and 15; the second, in brackets, is cut off before


class LoadMeter:
    """Each reading covers the time since the one before."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._before = _ticks()

    def read(self) -> float:
        """The busiest thread's share of a core since the last reading, 0 to 1."""
        now, ticks = time.monotonic(), _ticks()
        most = max((count - self._before.get(thread, 0) for thread, count in ticks.items()), default=0)
        passed_s, self._at, self._before = max(now - self._at, 1 / _TICKS_PER_S), now, ticks
        return min(1.0, most / _TICKS_PER_S / passed_s)


def _ticks() -> dict[str, int]:
    """Processor time of each thread so far, in clock ticks."""
    found = {}
    for task in _TASKS.iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the thread has ended
            continue
        found[task.name] = int(fields[_UTIME]) + int(fields[_UTIME + 1])
    return found
