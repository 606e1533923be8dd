"""A run: visit after visit, with a line for each, and the machine left as it was."""

import fcntl
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tools.bench import measure, visit
from tools.bench.axes import PEER_NAMES
from tools.bench.peers.registry import PEERS
from tools.bench.plan import Visit, seconds
from tools.bench.result import Result
from tools.bench.visit import Settings

LOCK_NAME: Final = "bench.lock"  # in the directory for temporary files: two that measure at once would both be wrong
LISTEN_S: Final = 0.25  # ours: how long the machine is watched before a visit
NOISY_PERCENT: Final = 15.0  # ours: of the whole machine; above it the figures are doubtful


def progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def found(peers: Sequence[str]) -> dict[str, str]:
    """Why each peer of ours is absent: not chosen, or not here."""
    absent = {}
    for name in PEER_NAMES:
        if name not in peers:
            absent[name] = "left out by --peers"
        elif (why := PEERS[name].absent()) is not None:
            absent[name] = why
    return absent


def run(planned: Sequence[Visit], result: Result, settings: Settings) -> None:
    """Does all visits and fills the result; what is measured before an interruption stays in it."""
    began = time.monotonic()
    busy: list[float] = []
    ahead = seconds(planned, settings.stream_s)
    progress(f"{len(planned)} visits, about {_duration(ahead)}")
    for number, planned_visit in enumerate(planned, start=1):
        what = f"round {planned_visit.round}, {planned_visit.link.value}: {planned_visit.peer}"
        with alone():
            busy.append(other_load())
            result.about["busy_percent"] = round(statistics.median(busy), 1)
            started = time.monotonic()
            outcome = visit.make(planned_visit, settings, hints := _hints(result, planned_visit.peer))
            if not outcome.figures:  # it did not even start: once more, and both attempts are told
                again = visit.make(planned_visit, settings, hints)
                outcome = visit.Outcome(again.figures, outcome.problems + again.problems)
        wanted = {axis: value for axis, value in outcome.figures.items() if axis in planned_visit.axes}
        result.add(planned_visit.peer, wanted)
        result.problems += [f"{planned_visit.peer}, {planned_visit.link.value}: {text}" for text in outcome.problems]
        left = seconds(planned[number:], settings.stream_s) * _pace(planned[:number], settings, began)
        figures = " ".join(f"{axis}={value:.5g}" for axis, value in wanted.items())
        noisy = f"  [machine {busy[-1]:.0f} % busy with something else]" if busy[-1] > NOISY_PERCENT else ""
        took = time.monotonic() - started
        progress(
            f"[{number}/{len(planned)}] {what}: {figures or 'nothing'}  ({took:.0f} s, {_duration(left)} left){noisy}"
        )
        for text in outcome.problems:
            progress(f"    {text}")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
    }


def other_load() -> float:
    """Percent of this machine that something else uses just now."""
    busy, had = measure.machine_busy()
    time.sleep(LISTEN_S)
    busy_later, had_later = measure.machine_busy()
    return 100 * (busy_later - busy) / max(had_later - had, 0.01)


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else who asks for it measures meanwhile."""
    path = Path(tempfile.gettempdir()) / LOCK_NAME
    if path.exists() and not os.access(path, os.W_OK):  # somebody else's: then there is no agreement
        yield
        return
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another measurement runs: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _hints(result: Result, peer: str) -> dict[str, float]:
    return {axis: statistics.median(values) for axis, values in result.samples.get(peer, {}).items()}


def _pace(done: Sequence[Visit], settings: Settings, began: float) -> float:
    """How much longer than estimated it has taken so far."""
    return max(0.2, (time.monotonic() - began) / max(1.0, seconds(done, settings.stream_s)))


def _duration(length_s: float) -> str:
    return f"{length_s / 60:.0f} min" if length_s >= 90 else f"{length_s:.0f} s"
