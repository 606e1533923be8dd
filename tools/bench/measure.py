"""The single measurements: round trips, streams, CPU and memory. All traffic goes from a to b. GB = 1e9 bytes."""

import json
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netns.checks.throughput import IPERF_PORT
from netns.errors import LabError, ScenarioFailed
from netns.namespace import Namespace
from netns.process import Process
from netns.waiting import wait_for

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
UDP_BUFFER: Final = "2M"  # ours: with the default of 208 kB the receiver, not the tunnel, would lose packets
MAX_LOSS: Final = 0.01  # the 1 %
UDP_STEP_S: Final = 1.0
FIRST_UDP_STEPS: Final = 5  # ours: a factor of 4 halved five times is 4 %
LATER_UDP_STEPS: Final = 4  # ours: a factor of 2 halved four times is 4 %, around what the first round found
DRAIN_S: Final = 2.0  # ours: what a flood left in queues does not count for the next step
MIN_PPS: Final = 2000.0  # ours: where the search starts for a peer that nothing is known of
IDLE_PINGS: Final = 200
IDLE_PING_INTERVAL_S: Final = 0.01
LOADED_PING_INTERVAL_S: Final = 0.02
RAMP_UP_S: Final = 0.5  # ours: slow start is over, the queue is what it will be

PING_TIME: Final = re.compile(r"time=([\d.]+) ms")


@dataclass(frozen=True, slots=True)
class Course:
    """Where a stream goes: two machines and the address of the second in the tunnel."""

    a: Namespace
    b: Namespace
    destination: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What one iperf3 run brought."""

    mbps: float
    received_bytes: int


@dataclass(frozen=True, slots=True)
class Datagrams:
    """What one UDP run brought, in packets."""

    sent: int
    received: int
    seconds: float

    @property
    def received_pps(self) -> float:
        return self.received / self.seconds

    @property
    def loss(self) -> float:
        return 1 - self.received / self.sent if self.sent else 1.0


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of all does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def ping(course: Course, count: int = IDLE_PINGS, interval_s: float = IDLE_PING_INTERVAL_S) -> list[float]:
    """Round trips in milliseconds.

    Raises:
        ScenarioFailed: fewer than half were answered.
    """
    _, out, error = course.a.try_run(
        "ping", "-n", "-i", f"{interval_s:g}", "-c", str(count), "-W", "1", course.destination,
        timeout_s=count * interval_s * 3 + 10,
    )  # fmt: skip
    times = ping_times(out)
    if len(times) < count / 2:
        raise ScenarioFailed(f"{len(times)} of {count} pings answered: {(out + error)[-200:].strip()}")
    return times


def ping_times(out: str) -> list[float]:
    return [float(found) for found in PING_TIME.findall(out)]


def idle_ping(course: Course) -> tuple[float, float]:
    """Median and 99th percentile of the round trip without other traffic."""
    course.a.try_run("ping", "-nq", "-i0.01", "-c30", "-W1", course.destination)  # warm-up
    times = ping(course)
    return statistics.median(times), percentile(times, 0.99)


def tcp(course: Course, seconds: float, *, flows: int = 1, congestion: str = "cubic", skip_s: float = 0.0) -> Stream:
    """One TCP run; `skip_s` at its begin do not count."""
    options = ["-P", str(flows), "-C", congestion, *(["-O", f"{skip_s:g}"] if skip_s else [])]
    result, _ = _iperf(course, seconds, *options, timeout_s=seconds + skip_s + 20)
    return stream_of(result)


def stream_of(result: dict[str, Any]) -> Stream:
    """What iperf3's JSON says of a TCP run.

    Raises:
        ScenarioFailed: nothing arrived.
    """
    received = result.get("end", {}).get("sum_received", {})
    if "error" in result or not received.get("bytes"):
        raise ScenarioFailed(f"iperf3 carried nothing: {result.get('error', '')}")
    return Stream(received["bits_per_second"] / 1e6, int(received["bytes"]))


def tcp_with_ping(
    course: Course, seconds: float, *, congestion: str = "cubic", ramp_up_s: float = RAMP_UP_S
) -> tuple[Stream, list[float]]:
    """One TCP run with pings beside it; those of its begin do not count."""
    count = max(10, int((seconds - ramp_up_s - 0.3) / LOADED_PING_INTERVAL_S))
    skipped = int(ramp_up_s / LOADED_PING_INTERVAL_S)
    log = course.a.lab.path("ping-under-load.log")
    before = log.stat().st_size if log.exists() else 0
    pinging = course.a.start(
        "ping-under-load", "ping", "-n", "-i", f"{LOADED_PING_INTERVAL_S:g}", "-c", str(count + skipped), "-W", "1",
        course.destination,
    )  # fmt: skip
    try:
        stream = tcp(course, seconds, congestion=congestion)
        with suppress(LabError):
            pinging.wait(1.5)
    finally:
        pinging.stop(grace_s=0.5)
    times = ping_times(pinging.text()[before:])[skipped:]
    if len(times) < count / 4:
        raise ScenarioFailed(f"{len(times)} of {count} pings answered under load")
    return stream, times


def udp(course: Course, length: int, seconds: float, rate_bps: float = 0) -> Datagrams:
    """One UDP run; a rate of 0 is as fast as the sender can."""
    result, heard = _iperf(
        course, seconds, "-u", "-l", str(length), "-b", f"{rate_bps:.0f}", "-w", UDP_BUFFER, timeout_s=seconds + 7
    )
    return datagrams_of(result, heard, seconds)


def datagrams_of(result: dict[str, Any], heard: dict[str, Any], seconds: float) -> Datagrams:
    """What the JSON of both ends says of a UDP run.

    Raises:
        ScenarioFailed: an end gave no result.
    """
    if "error" in result or "end" not in result:
        raise ScenarioFailed(f"iperf3: {result.get('error', 'no result')}")
    sent = sum(int(interval["sum"]["packets"]) for interval in result.get("intervals", []))
    arrived = heard.get("end", {}).get("sum") or result["end"].get("sum") or {}
    if not sent or "packets" not in arrived:
        raise ScenarioFailed("iperf3 gave no count of packets")
    return Datagrams(sent, max(0, int(arrived["packets"]) - int(arrived.get("lost_packets", 0))), seconds)


def highest_rate(course: Course, length: int, *, hint_pps: float | None, guess_pps: float | None) -> float:
    """The highest received rate with at most 1 % loss, in packets per second.

    Args:
        hint_pps: what an earlier round found. guess_pps: where to search when a flood brings no answer.
    """

    def step(rate_pps: float) -> Datagrams:
        try:
            return udp(course, length, UDP_STEP_S, rate_pps * length * 8)
        except ScenarioFailed:
            time.sleep(DRAIN_S)
            raise

    return search_rate(step, hint_pps=hint_pps, guess_pps=guess_pps)


def search_rate(
    step: Callable[[float], Datagrams], *, hint_pps: float | None = None, guess_pps: float | None = None
) -> float:
    """Halves the range in which the highest rate with at most 1 % loss lies.

    Args:
        step: sends at a rate, 0 being as fast as the sender can; it may raise ScenarioFailed, which is "too fast".

    Raises:
        ScenarioFailed: no step had so little loss.
    """
    best, steps = 0.0, LATER_UDP_STEPS
    if hint_pps is not None:
        low, high = hint_pps * 0.7, hint_pps * 1.4
    else:
        steps = FIRST_UDP_STEPS
        try:
            flood = step(0)
            if flood.loss <= MAX_LOSS:
                return flood.received_pps  # the sender is the limit
            base = max(flood.received_pps, MIN_PPS)
        except ScenarioFailed:
            base = max(guess_pps or 0.0, MIN_PPS)
        low, high = base * 0.4, base * 1.6
    for _ in range(steps):
        wanted = math.sqrt(low * high)
        try:
            found = step(wanted)
        except ScenarioFailed:
            high = wanted
            continue
        if found.loss <= MAX_LOSS:
            best = max(best, found.received_pps)
        if found.loss <= MAX_LOSS and found.received_pps >= 0.9 * wanted:
            low = wanted
        else:
            high = wanted  # too much, or more than the sender can
    if best == 0.0:
        raise ScenarioFailed(f"more than 1 % loss even at {high:.0f} packets/s")
    return best


def cpu_seconds(pids: Iterable[int]) -> float:
    """utime + stime of these processes, all their threads."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def memory_mb(pids: Iterable[int]) -> dict[int, float]:
    """VmRSS of each process, in MB of 1e6 bytes."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            if match:
                found[pid] = int(match[1]) * 1024 / 1e6
    return found


def machine_busy() -> tuple[float, float]:
    """CPU seconds that this machine was busy, and that it had, since its start."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S, sum(fields) / TICKS_PER_S


def start_iperf_server(course: Course) -> Process:
    """Serves one client, says what it heard in JSON, and ends."""
    server = course.b.start("iperf3-server", "iperf3", "-s", "-1", "-J", "-B", course.destination)
    wait_for(
        lambda: f":{IPERF_PORT}" in course.b.run("ss", "-Hltn") or server.exit_status is not None,
        5,
        "the iperf3 server listens",
        interval_s=0.02,
    )
    return server


def _iperf(course: Course, seconds: float, *options: str, timeout_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs both ends; returns what the client and the server say."""
    log = course.b.lab.path("iperf3-server.log")
    before = log.stat().st_size if log.exists() else 0
    server = start_iperf_server(course)
    try:
        _, out, error = course.a.try_run(
            "iperf3", "-c", course.destination, "-t", f"{seconds:g}", "-J", "--connect-timeout", "3000", *options,
            timeout_s=timeout_s,
        )  # fmt: skip
        with suppress(LabError):
            server.wait(1.0)
    finally:
        server.stop(grace_s=0.5)
    try:
        result: dict[str, Any] = json.loads(out)
    except ValueError:
        raise ScenarioFailed(f"iperf3 gave no result: {(out + error)[-200:].strip()}") from None
    with open(log, "rb") as file:
        file.seek(before)
        said = file.read().decode(errors="replace")
    try:
        heard: dict[str, Any] = json.loads(said)
    except ValueError:
        heard = {}
    return result, heard
