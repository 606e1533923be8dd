"""One visit: a tunnel is started on its link, its axes are read, and the lab cleans up."""

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netns.enter import REPOSITORY
from netns.errors import LabError, ScenarioFailed, require
from netns.lab import Lab
from netns.probe import PingProbe
from netns.report import Report
from tools.bench import measure, special
from tools.bench.axes import BARE_ROWS, READ_WITH, Link, applies
from tools.bench.measure import Course
from tools.bench.peers.peertap import PeerTap
from tools.bench.peers.registry import PEERS
from tools.bench.peers.tunnel import Tunnel
from tools.bench.plan import Visit
from tools.bench.topology import build, without_offloads

HEAD_START_S: Final = 1.0  # ours: b runs that long before a is started
JOIN_WITHIN_S: Final = 25.0  # ours: tinc and fastd retry a lost handshake after 5 to 20 s
SETTLED_S: Final = 0.5
DRAIN_WITHIN_S: Final = 8.0  # ours: what a flood left in queues is gone
STATUS_RUNS: Final = 5
LOSSY_FLOWS: Final = 8

Failure = (ScenarioFailed, LabError, OSError, subprocess.SubprocessError)


@dataclass(slots=True)
class Outcome:
    """What a visit brought: figures by axis, and what went wrong."""

    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Quiet(Report):
    """The lab's steps are shown with --verbose only; our progress lines are the report."""

    def __init__(self, *, verbose: bool) -> None:
        super().__init__(verbose=verbose, quiet_stdout=True)

    def say(self, text: str) -> None:
        self.detail(text.strip())


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how loud.

    Args:
        stream_s: length of one TCP stream.
        flood_s: length of the overload. idle_s: how long the idle hub is watched.
        keep: the lab's directories stay.
    """

    stream_s: float = 3.0
    flood_s: float = 30.0
    idle_s: float = 20.0
    verbose: bool = False
    keep: bool = False


def make(visit: Visit, settings: Settings, hints: dict[str, float]) -> Outcome:
    """Does the visit. A peer that fails is a problem in its outcome; nothing is raised for it.

    Args:
        hints: figures of earlier rounds, by axis: where to search.
    """
    outcome = Outcome()
    report = Quiet(verbose=settings.verbose)
    try:
        with Lab(f"bench-{visit.peer}", report, keep=settings.keep) as lab:
            try:
                if visit.link is Link.IDLE:
                    outcome.figures["idle_cpu"] = special.idle_cpu(lab, settings.idle_s)
                else:
                    Reader(lab, visit, settings, hints, outcome).read()
            except Failure as error:
                outcome.problems.append(_sentence(error))
            except Exception as error:  # a peer that says something new must not end the run
                outcome.problems.append(f"{type(error).__name__}: {_sentence(error)}")
    except LabError as error:  # the clean-up
        outcome.problems.append(_sentence(error))
    return outcome


class Reader:
    """Starts the visit's tunnel and reads its axes, in an order in which none spoils the next."""

    def __init__(self, lab: Lab, visit: Visit, settings: Settings, hints: dict[str, float], outcome: Outcome) -> None:
        self.visit, self.settings, self.hints, self.outcome = visit, settings, hints, outcome
        self.site = build(lab, visit.link, seed=visit.round)
        peer = PEERS[visit.peer]
        self.tunnel: Tunnel = peer.tunnel(self.site, peer.find())

    def read(self) -> None:
        self._start()
        course = Course(self.site.a, self.site.b, self.tunnel.destination)
        stream_s = self.settings.stream_s
        match self.visit.link:
            case Link.DIRECT:
                self._direct(course)
            case Link.RELAY:
                self._try("relay_rtt_ms", lambda: measure.idle_ping(course)[0])
                self._try("relay_tcp1", lambda: measure.tcp(course, stream_s).mbps)
            case Link.LOSS1:
                self._try("loss1_tcp1", lambda: self._mean_of_flows(course, 3 * stream_s))
                self._try("loss1_tcp1_bbr", lambda: measure.tcp(course, 2 * stream_s, congestion="bbr", skip_s=1).mbps)
            case Link.DELAY20 | Link.DELAY80:
                axis = f"{self.visit.link.value}_tcp1"
                self._try(axis, lambda: measure.tcp(course, 2 * stream_s, congestion="bbr", skip_s=1).mbps)
            case Link.RATE100:
                self._with_ping(course, "rate100_tcp1", "rtt_load_100m_ms", 2 * stream_s, ramp_up_s=1.0)
            case Link.STREAM:
                self._try("stream_tcp1", lambda: measure.tcp(course, stream_s).mbps)
                self._with_ping(course, None, "stream_rtt_load_ms", stream_s)
            case Link.OVERLOAD:
                special.overload(self.tunnel, course, self.settings.flood_s, self.outcome.figures)
            case Link.IDLE:
                raise AssertionError("the hub has no tunnel between two")

    def _start(self) -> None:
        tunnel, site, bare = self.tunnel, self.site, self.visit.peer in BARE_ROWS
        tunnel.prepare()
        tunnel.start_far()
        if not bare:
            time.sleep(HEAD_START_S)
        probe = PingProbe(site.a, tunnel.destination, interval_s=0.01, interface=tunnel.interface)
        began = time.monotonic()
        tunnel.start_near()
        try:
            answered = probe.wait_for_reply(began, JOIN_WITHIN_S, "the first ping is answered")
        except ScenarioFailed as error:
            raise ScenarioFailed(f"{error}{self._last_words()}") from error
        finally:
            probe.stop()
        if self._wants("join_ms"):
            self.outcome.figures["join_ms"] = (answered - began) * 1000
        tunnel.settle()
        self._require_route()
        time.sleep(0.0 if bare else SETTLED_S)

    def _direct(self, course: Course) -> None:
        stream_s = self.settings.stream_s
        if self._wants("rtt_ms"):
            self._try("rtt_ms", lambda: self._both(measure.idle_ping(course), "rtt_p99_ms"))
        if self._wants("tcp1"):
            self._try("tcp1", lambda: self._tcp_and_cpu(course))
        if self._wants("tcp4"):
            self._try("tcp4", lambda: measure.tcp(course, stream_s, flows=4).mbps)
        if self._wants("rtt_load_ms"):
            self._with_ping(course, None, "rtt_load_ms", stream_s)
        if self._wants("status_ms"):
            self._try("status_ms", self._status)
        if self._wants("udp1200_pps"):
            self._try("udp1200_pps", lambda: self._highest_rate(course, "udp1200_pps", 1200))
        if self._wants("udp64_pps"):
            self._try("udp64_pps", lambda: measure.udp(course, 64, stream_s).received_pps)
        if self._wants("memory_mb"):
            self._try("memory_mb", lambda: sum(measure.memory_mb(self.tunnel.pids()).values()))
        if self._wants("tcp1_nooffload"):
            self._try("tcp1_nooffload", lambda: self._without_offloads(course))

    def _mean_of_flows(self, course: Course, seconds: float) -> float:
        """What one flow gets: with a few losses per second its own figure would be chance, so it is a mean of several.

        The link has room for a hundred of them, so that they do not disturb each other.
        """
        return measure.tcp(course, seconds, flows=LOSSY_FLOWS, skip_s=1).mbps / LOSSY_FLOWS

    def _tcp_and_cpu(self, course: Course) -> float:
        pids = self.tunnel.pids()
        before = measure.cpu_seconds(pids)
        stream = measure.tcp(course, self.settings.stream_s)
        if applies(self.visit.peer, "cpu_s_per_gb"):
            spent = measure.cpu_seconds(pids) - before
            self.outcome.figures["cpu_s_per_gb"] = spent / (stream.received_bytes / 1e9)
        return stream.mbps

    def _highest_rate(self, course: Course, axis: str, length: int) -> float:
        mbps = self.outcome.figures.get("tcp1")
        guess_pps = mbps * 1e6 / 8 / length if mbps is not None else None
        return measure.highest_rate(course, length, hint_pps=self.hints.get(axis), guess_pps=guess_pps)

    def _without_offloads(self, course: Course) -> float:
        """Comes last: it changes the link."""
        without_offloads(self.site)
        probe = PingProbe(self.site.a, course.destination)
        probe.wait_for_reply(time.monotonic(), DRAIN_WITHIN_S, "pings are answered after the flood")
        probe.stop()
        time.sleep(SETTLED_S)
        return measure.tcp(course, self.settings.stream_s).mbps

    def _status(self) -> float:
        if not isinstance(self.tunnel, PeerTap):
            raise LabError(f"{self.visit.peer} has no `peertap status`")
        node = self.tunnel.nodes.a
        took = []
        for _ in range(STATUS_RUNS):
            began = time.monotonic()
            node.command("status")
            took.append((time.monotonic() - began) * 1000)
        return statistics.median(took)

    def _with_ping(
        self, course: Course, speed: str | None, round_trip: str, seconds: float, ramp_up_s: float = measure.RAMP_UP_S
    ) -> None:
        def both() -> float:
            stream, times = measure.tcp_with_ping(course, seconds, ramp_up_s=ramp_up_s)
            if speed is not None:
                self.outcome.figures[speed] = stream.mbps
            return statistics.median(times)

        self._try(round_trip, both)

    def _both(self, figures: tuple[float, float], second: str) -> float:
        self.outcome.figures[second] = figures[1]
        return figures[0]

    def _wants(self, axis: str) -> bool:
        return axis in self.visit.axes

    def _try(self, axis: str, read: Callable[[], float]) -> None:
        """One axis that fails leaves the others."""
        if self.visit.link is not Link.DIRECT and not any(
            self._wants(name) for name in (axis, READ_WITH.get(axis, axis))
        ):
            return
        try:
            self.outcome.figures[axis] = read()
        except Failure as error:
            self.outcome.problems.append(f"{axis}: {_sentence(error)}")

    def _last_words(self) -> str:
        """What a daemon said that ended by itself."""
        return "".join(f"; {process.name} ended: {process.tail(2)}" for process in self.tunnel.ended())

    def _require_route(self) -> None:
        """What is measured is the tunnel, not the cable."""
        route = self.site.a.ip_json("route", "get", self.tunnel.destination)[0]
        require(route.get("dev") == self.tunnel.interface, f"traffic would take {route.get('dev')}, not the tunnel")


def _sentence(error: BaseException) -> str:
    """The first lines of what went wrong."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"{Path(error.cmd[0]).name}: {(error.stderr or error.stdout or '').strip()[-200:]}"
    return " ".join(str(error).replace(str(REPOSITORY), ".").split())[:300]
