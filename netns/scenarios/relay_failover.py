"""Two relays between two members: the one in use is killed under load, also while nobody decides, and becomes slow.

       r1                10.87.1.0/24 a ─ r1, 10.87.2.0/24 b ─ r1
a ──<      >── b         10.87.3.0/24 a ─ r2, 10.87.4.0/24 b ─ r2
       r2                nobody forwards IP
"""

import signal
import threading
import time
from itertools import product

from netns import links
from netns.checks import throughput
from netns.errors import require
from netns.lab import Lab
from netns.node import Node, start_all
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.stall import standing_still
from netns.topology import member_vlan, side, wait_members
from netns.waiting import wait_for

FAILOVER_S = 1.0  # the row
BY_BACKUP_S = 0.8  # SPEC 7: 250 ms of silence and three probes, 100 ms apart; then one ping
STANDSTILL_S = 2.0  # of the control planes: well below what neighbours bear
WATCH_S = 15.0  # so long the way is looked at after a relay came back
DEMOTED_S = 60.0
STAYS_S = 15.0
LOAD_S = 600.0  # longer than the scenario
STOPPED_S, RUNNING_S = 0.12, 0.05  # of a slow relay, again and again: below what counts as silence


def run(lab: Lab, short: bool) -> Figures:
    machines = {name: lab.namespace(name) for name in ("a", "b", "r1", "r2")}
    nodes = {name: Node(machine) for name, machine in machines.items()}
    a, b, relays = nodes["a"], nodes["b"], [nodes["r1"], nodes["r2"]]
    peers: dict[str, dict[str, Node]] = {"a": {}, "b": {}}
    for number, (member, relay) in enumerate((m, r) for r in ("r1", "r2") for m in ("a", "b")):
        network = f"10.87.{number + 1}"
        links.veth(
            machines[member], f"to-{relay}", f"{network}.1/24", machines[relay], f"to-{member}", f"{network}.2/24"
        )
        peers[member][f"{network}.2"] = nodes[relay]
    with lab.report.step("two members, two relays"):
        for node in relays:
            node.configure(relay_mode="open")
        for host, name in enumerate(("a", "b"), 1):
            nodes[name].configure(peers=peers[name], vlans=(member_vlan(lab, host),))
        start_all(*nodes.values())
        wait_members(a, b)
        for end, node in product((a, b), relays):
            end.wait_trunk(node, carrier="udp")
    server = throughput.start_iperf_server(side(b))
    load = a.namespace.start("iperf3", "iperf3", "-c", side(b).ipv4, "-t", f"{LOAD_S:g}", "-b", "200M")
    probe = PingProbe(a.namespace, side(b).ipv4)
    time.sleep(2)
    silences: list[float] = []
    changes: list[int] = []
    for _ in range(1 if short else 3):
        with lab.report.step("the relay in use is killed under load; it comes back, and nothing flaps"):
            used = wait_for(lambda: _relay_in_use(a, b, relays), 10, "a way")
            used.kill()
            killed = time.monotonic()
            probe.wait_for_reply(killed + 0.05, FAILOVER_S + 5, "pings by the other relay")
            time.sleep(2)
            silences.append(round(probe.longest_silence(killed, time.monotonic()), 3))
            used.start()
            used.wait_ready()
            changes.append(_changes(a, b, WATCH_S))
            for end in (a, b):
                end.wait_trunk(used, carrier="udp")
    with lab.report.step("the relay in use is killed while both control planes stand still: frames take the backup"):
        used = wait_for(lambda: _relay_in_use(a, b, relays), 10, "a way")
        for one in (a, b):
            wait_for(lambda one=one: one.vlan("lab")["members"][0]["backup"], 5, f"{one.name} has a backup")  # type: ignore[misc]
        assert a.process is not None and b.process is not None
        with standing_still(a.process.pid), standing_still(b.process.pid):
            used.kill()
            killed = time.monotonic()
            probe.wait_for_reply(killed + 0.05, STANDSTILL_S, "pings by the backup")
            time.sleep(STANDSTILL_S)
            by_backup_s = round(probe.longest_silence(killed, time.monotonic()), 3)
        used.start()
        used.wait_ready()
        for end in (a, b):
            end.wait_trunk(used, carrier="udp")
    with lab.report.step("the relay in use becomes slow: another one is used"):
        slow = wait_for(lambda: _relay_in_use(a, b, relays), 10, "a way")
        brake = _Brake(slow)
        lab.at_end(brake.stop)
        began = time.monotonic()
        wait_for(lambda: _relay_in_use(a, b, relays) not in (slow, None), DEMOTED_S, "the slow relay is left")
        demoted_s = time.monotonic() - began
        time.sleep(STAYS_S)
        require(_relay_in_use(a, b, relays) is not slow, "the slow relay is used again")
        brake.stop()
    require(load.exit_status is None, f"iperf3 gave up: {load.tail(5)}")
    probe.stop()
    load.stop()
    server.stop()
    figures: Figures = {
        "failover_s": silences, "by_backup_s": by_backup_s, "changes_after_return": changes,
        "demoted_after_s": round(demoted_s, 1),
    }  # fmt: skip
    require(max(silences) <= FAILOVER_S, f"too late: {figures}")
    require(by_backup_s <= BY_BACKUP_S, f"the backup is taken too late: {figures}")
    require(max(changes) <= 1, f"it flaps: {figures}")
    return figures


def _relay_in_use(a: Node, b: Node, relays: list[Node]) -> Node | None:
    """By which a's frames go to b."""
    (hop,) = [one["next_hop"] for one in a.vlan("lab")["members"] if one["peer_id"] == b.peer_id]
    return next((relay for relay in relays if relay.peer_id == hop), None)


def _changes(a: Node, b: Node, seconds: float) -> int:
    """How often the next hop changes."""
    seen: list[object] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hops = [one["next_hop"] for one in a.vlan("lab")["members"] if one["peer_id"] == b.peer_id]
        if not seen or hops != seen[-1]:
            seen.append(hops)
        time.sleep(0.2)
    return len(seen) - 1


class _Brake:
    """Stops a node's process for most of the time, in a thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        process = self._node.process
        assert process is not None
        while not self._ended.is_set():
            process.signal(signal.SIGSTOP)
            time.sleep(STOPPED_S)
            process.signal(signal.SIGCONT)
            self._ended.wait(RUNNING_S)


SCENARIO = Scenario(
    name="relay-failover",
    summary="two relays: the one in use killed under load: 1 s, 0.8 s without Python; no flapping; slow: left",
    run=run,
    bound_s=300,
    short_bound_s=200,
)
