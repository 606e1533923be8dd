"""What is asked of PeerTap alone: a flood that must leave no trace, and ten idle trunks."""

import time
from typing import Final

from netns.errors import ScenarioFailed, require
from netns.lab import Lab
from netns.probe import PingProbe
from netns.topology import star
from netns.waiting import wait_for
from tools.bench import measure
from tools.bench.measure import Course
from tools.bench.peers.peertap import PeerTap
from tools.bench.peers.tunnel import Tunnel

NEIGHBOURS: Final = 10
WATCH_INTERVAL_S: Final = 0.5
QUIET_S: Final = 3.0  # ours: what starting eleven nodes set going has come to rest
ANSWER_WITHIN_S: Final = 20.0
STAR_WITHIN_S: Final = 90.0


def overload(tunnel: Tunnel, course: Course, seconds: float, figures: dict[str, float]) -> None:
    """Floods b with UDP for so long; writes the axes of `overload`.

    Memory is watched all the time: the growth is that of the larger of both daemons at its highest.
    """
    pids = tunnel.pids()
    before = measure.memory_mb(pids)
    trunks = _trunks(tunnel)
    server = measure.start_iperf_server(course)
    flood = course.a.start(
        "flood", "iperf3", "-c", course.destination, "-u", "-b", "0", "-t", f"{seconds:g}", "-w", measure.UDP_BUFFER
    )
    grown = 0.0
    began = time.monotonic()
    while flood.exit_status is None and time.monotonic() < began + seconds + 15:
        time.sleep(WATCH_INTERVAL_S)
        grown = max(grown, _growth(before, measure.memory_mb(pids)))
        if time.monotonic() >= began + seconds:
            break  # from here on the recovery counts, whatever iperf3 still has to say
    lasted = time.monotonic() - began
    flood.stop(grace_s=0.1)
    ended = time.monotonic()
    probe = PingProbe(course.a, course.destination, interval_s=0.01)
    try:
        figures["overload_recovery_s"] = probe.wait_for_reply(ended, ANSWER_WITHIN_S, "answers after the flood") - ended
    finally:
        probe.stop()
        server.stop(grace_s=0.5)
    require(lasted >= seconds * 0.9, f"the flood ended after {lasted:.0f} s: {flood.tail(3)}")
    figures["overload"] = max(grown, _growth(before, measure.memory_mb(pids)))
    if trunks:
        figures["overload_trunk"] = float(_trunks(tunnel) == trunks)


def idle_cpu(lab: Lab, seconds: float) -> float:
    """Percent of one core that a hub with ten trunks uses when nothing is sent."""
    hub, nodes = star(lab, NEIGHBOURS)
    hub.start()
    hub.wait_ready()
    for node in nodes:  # one after the other: all at once would be a load of its own
        node.start()
        node.wait_ready()

    def all_up() -> bool:
        trunks = hub.status()["trunks"]
        up = {trunk["peer_id"] for trunk in trunks if trunk["state"] == "up" and trunk["carrier"] == "udp"}
        if len(up) < NEIGHBOURS:
            raise ScenarioFailed(f"{len(up)} of {NEIGHBOURS} trunks are up on udp")
        return True

    wait_for(all_up, STAR_WITHIN_S, f"the hub has {NEIGHBOURS} trunks", interval_s=1.0)
    time.sleep(QUIET_S)
    pids = [hub.process.pid] if hub.process is not None else []
    before, began = measure.cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    used = measure.cpu_seconds(pids) - before
    return 100 * used / (time.monotonic() - began)


def _growth(before: dict[int, float], now: dict[int, float]) -> float:
    return max((now[pid] - before[pid] for pid in before if pid in now), default=0.0)


def _trunks(tunnel: Tunnel) -> list[tuple[str, int]]:
    """Side and number of each trunk that is up; a trunk that was made anew has another number."""
    if not isinstance(tunnel, PeerTap):
        return []
    return [
        (node.name, int(trunk["id"]))
        for node in tunnel.all_nodes
        for trunk in node.status()["trunks"]
        if trunk["state"] == "up"
    ]
