"""A machine changes its address: its frames go on by UDP after a path check, and a stranger's packet moves nothing."""

import socket
import time

from netns.errors import require
from netns.lab import Lab
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.scenarios.fallback import steady
from netns.topology import A_IP, pair, side, start_pair
from netns.waiting import wait_for

NEW_IP = "10.80.0.77"
STRANGER_IP = "10.80.0.66"
UDP_PORT = 4511
SILENCE_S = 3.0  # ours: as for a blocked carrier


def run(lab: Lab, short: bool) -> Figures:
    nodes = pair(lab)
    start_pair(nodes, carrier="udp")
    a, b = nodes.a.namespace, nodes.b
    probe = PingProbe(a, side(b).ipv4)
    wait_for(lambda: steady(probe), 5, "pings are answered")
    figures: Figures = {}

    def remotes() -> list[str]:
        """Where b sends to a, by each of its trunks."""
        return [trunk["remote"] for trunk in b.status()["trunks"] if trunk["carrier"] == "udp"]

    with lab.report.step("garbage from another address is counted, and b goes on sending where it did"):
        a.address(f"{STRANGER_IP}/24", "ua")
        before = remotes()
        stranger = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stranger.bind((STRANGER_IP, 0))
        for size in (12, 36, 62, 100, 1400):
            stranger.sendto(bytes(size), ("10.80.0.2", UDP_PORT))
        stranger.close()
        time.sleep(1)
        require(remotes() == before, f"{before} became {remotes()}")
        require(b.drops().get("unknown_index", 0) >= 4, f"the garbage was not counted: {b.drops()}")
    with lab.report.step(f"a's address changes: silent for at most {SILENCE_S:g} s, then by UDP to the new one"):
        a.run("ip", "address", "del", f"{STRANGER_IP}/24", "dev", "ua")
        since = time.monotonic()
        a.address(f"{NEW_IP}/24", "ua")
        a.run("ip", "address", "del", f"{A_IP}/24", "dev", "ua")  # takes its secondary addresses along
        a.try_run("ip", "address", "add", f"{NEW_IP}/24", "dev", "ua")
        wait_for(lambda: any(NEW_IP in remote for remote in remotes()), 10, "b sends to the new address")
        figures["roamed_after_s"] = round(time.monotonic() - since, 2)
        wait_for(lambda: steady(probe), 10, "pings are answered")
        figures["longest_silence_s"] = round(probe.longest_silence(since, time.monotonic()), 2)
        require(float(str(figures["longest_silence_s"])) <= SILENCE_S, str(figures))
    with lab.report.step("the control connection comes back by itself, and everything works on"):
        wait_for(lambda: len(b.status()["trunks"]) == 1 and steady(probe), 30, "one trunk, and pings", interval_s=0.3)
        nodes.a.wait_trunk(b, carrier="udp")
    probe.stop()
    return figures


SCENARIO = Scenario(
    name="roam",
    summary="a machine's address changes: frames go on by UDP after a path check; a stranger's packets move nothing",
    run=run,
    bound_s=90,
    short_bound_s=80,
)
