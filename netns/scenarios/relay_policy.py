"""A relay that carries some VLANs and not others, changes its mind by signed updates alone, and shares itself fairly.

a (red, blue, green) ── r ── b (red, blue, green)      r: mode allow, red and blue; its controller is c
                        │\\
                        c  d                           c: a node beside; d: a neighbour that forges updates
"""

import itertools
import json
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from netns import forger, links
from netns.checks.side import Side
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame, new_marker
from netns.identity import create_identity
from netns.lab import Lab
from netns.namespace import Namespace
from netns.node import Node, start_all
from netns.packets import BROADCAST
from netns.scenario import Figures, Scenario
from netns.topology import R_TO_A_IP, R_TO_B_IP, line_links, member_vlan, side, wait_members
from netns.waiting import wait_for
from peertap._core import StaticSecret
from peertap.shell.store import load_vlan_secret_file
from peertap.vlan.membership import StaticMembership

LABELS = ("red", "blue", "green")
R_TO_C_IP, R_TO_D_IP = "10.81.3.254", "10.81.4.254"
EFFECT_S = 1.0  # the row
SILENCE_S = 1.5  # long after anything that could arrive has arrived
RATE_MBPS = 40.0  # of the relay, and a little below its way out where that is narrow
NARROW = "44mbit"
GREEDY_FLOWS = 8
FAIR_RATIO = 0.8  # modest over greedy
VLAN_RATE_MBPS = 10.0


@dataclass(frozen=True, slots=True)
class Mesh:
    a: Node
    b: Node
    relay: Node
    controller: Node
    ids: dict[str, str]

    def ends(self, label: str) -> tuple[Side, Side]:
        index = LABELS.index(label)
        return side(self.a, index), side(self.b, index)


def run(lab: Lab, short: bool) -> Figures:
    mesh = _mesh(lab)
    d = lab.namespace("d")
    links.veth(d, "ud", "10.81.4.4/24", mesh.relay.namespace, "rd", f"{R_TO_D_IP}/24")
    with lab.report.step("a relay that allows red and blue, two members of red, blue and green, a controller"):
        start_all(mesh.relay, mesh.controller, mesh.a, mesh.b)
        for label in ("red", "blue"):
            wait_members(mesh.a, mesh.b, label)
        for node in (mesh.a, mesh.b):
            node.wait_trunk(mesh.relay, carrier="udp")
        mesh.controller.wait_trunk(mesh.relay)
    with lab.report.step("what is not granted does not pass"):
        _require_silence(mesh, "green")
    figures: Figures = {}
    figures |= _updates(mesh)
    figures |= _forged(mesh, d, restarts=not short)
    figures |= _carriage(mesh)
    figures |= _rates(mesh, 2.0 if short else 8.0)
    return figures


def _mesh(lab: Lab) -> Mesh:
    a_machine, relay_machine, b_machine = line_links(lab)
    c_machine = lab.namespace("c")
    links.veth(c_machine, "uc", "10.81.3.3/24", relay_machine, "rc", f"{R_TO_C_IP}/24")
    a, relay, b, controller = Node(a_machine), Node(relay_machine), Node(b_machine), Node(c_machine)
    for node, host, ip in ((a, 1, R_TO_A_IP), (b, 2, R_TO_B_IP)):
        vlans = tuple(
            member_vlan(lab, host, label=label, tap=f"ptap{number}", network=number + 1)
            for number, label in enumerate(LABELS)
        )
        node.configure(peers={ip: relay}, vlans=vlans)
    ids = {vlan.label: _vlan_id(vlan.secret_file) for vlan in a.config.vlans}
    controller.configure(peers={R_TO_C_IP: relay}, relay_mode="restricted")
    mesh = Mesh(a, b, relay, controller, ids)
    _configure_relay(mesh)
    return mesh


def _vlan_id(secret_file: Path) -> str:
    secret = load_vlan_secret_file(secret_file)
    return StaticMembership(secret.label, StaticSecret(secret.secret)).vlan_id.hex()


def _configure_relay(mesh: Mesh, **keys: object) -> None:
    allowed = [mesh.ids["red"], mesh.ids["blue"]]
    relay = {"vlans": allowed, "controllers": [mesh.controller.peer_id], **keys}
    mesh.relay.configure(relay_mode="allow", relay=relay)


def _reload(mesh: Mesh, **keys: object) -> None:
    _configure_relay(mesh, **keys)
    before = mesh.relay.log().count("configuration reloaded")
    assert mesh.relay.process is not None
    mesh.relay.process.signal(signal.SIGHUP)
    wait_for(lambda: mesh.relay.log().count("configuration reloaded") > before, 5, "the relay reads its configuration")


class Beat:
    """Frames of one VLAN from a to everybody, one in 10 ms, and when each arrived at b."""

    def __init__(self, mesh: Mesh, label: str) -> None:
        a, b = mesh.ends(label)
        self._listener = Listener(b.namespace, b.interface)
        self._socket, self._mac = FrameSocket(a.namespace, a.interface), a.mac
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        a.namespace.lab.at_end(self._ended.set)

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            self._socket.send(marked_frame(BROADCAST, self._mac, new_marker()))

    def arrivals(self) -> list[float]:
        return sorted(self._listener.first_at.copy().values())

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.stop()
        self._socket.close()


def _longest_gap(times: list[float], since: float, until: float) -> float:
    inside = [since, *(at for at in times if since <= at <= until), until]
    return max(later - earlier for earlier, later in itertools.pairwise(inside))


def _updates(mesh: Mesh) -> Figures:
    """The controller's word, and the operator's, take effect within a second; the other VLAN notices nothing.

    The nodes are asked by their admin sockets, so that no figure has the start of a process in it.
    """
    lab, relay = mesh.a.lab, mesh.relay
    green, red = Beat(mesh, "green"), Beat(mesh, "red")
    name, there = mesh.ids["green"], {"relay": relay.peer_id}
    figures: Figures = {}
    wait_for(red.arrivals, 5, "red passes")
    began_all = time.monotonic()
    with lab.report.step("the controller allows green: it passes"):
        began = time.monotonic()
        mesh.controller.ask("relay allow", patterns=[name], **there)
        figures["update_answered_s"] = round(time.monotonic() - began, 3)
        figures["allowed_after_s"] = _first_after(green, began)
    with lab.report.step("the controller denies it again: it ends"):
        began = time.monotonic()
        mesh.controller.ask("relay deny", patterns=[name], **there)
        figures["denied_after_s"] = _last_after(green, began)
    with lab.report.step("the relay's operator does the same"):
        relay.command("relay", "forget", name)
        began = time.monotonic()
        relay.ask("relay allow", patterns=[f"{name[:8]}*"])
        figures["allowed_by_operator_after_s"] = _first_after(green, began)
        began = time.monotonic()
        relay.ask("relay deny", patterns=[name])
        figures["denied_by_operator_after_s"] = _last_after(green, began)
    figures["red_longest_gap_s"] = round(_longest_gap(red.arrivals(), began_all, time.monotonic() - 0.1), 3)
    green.stop()
    red.stop()
    late = {name: value for name, value in figures.items() if isinstance(value, float) and value > EFFECT_S}
    require(not late, f"later than {EFFECT_S:g} s: {late} of {figures}")
    return figures


def _first_after(beat: Beat, began: float) -> float:
    """When the first frame came, seconds."""
    wait_for(lambda: any(at > began for at in beat.arrivals()), 10, "the VLAN passes")
    return round(min(at for at in beat.arrivals() if at > began) - began, 3)


def _last_after(beat: Beat, began: float) -> float:
    """When the last frame came; after that there is silence."""
    time.sleep(SILENCE_S)
    last = beat.arrivals()[-1]
    require(time.monotonic() - last > SILENCE_S - EFFECT_S, "the VLAN goes on though it is denied")
    return round(max(last - began, 0.0), 3)


def _require_silence(mesh: Mesh, label: str) -> None:
    beat = Beat(mesh, label)
    time.sleep(SILENCE_S)
    beat.stop()
    require(not beat.arrivals(), f"{len(beat.arrivals())} frames of {label} came through")


def _forged(mesh: Mesh, d: Namespace, *, restarts: bool) -> Figures:
    """Updates that are forged, old, or for another relay change nothing, and are counted and logged."""
    relay, lab = mesh.relay, mesh.a.lab
    state = lab.path("node-d")
    create_identity(state)
    with lab.report.step("a neighbour sends forged and old updates"):
        answer = mesh.controller.command("relay", "deny", "0000*", "--relay", relay.peer_id, "--json")
        before = relay.status()["relay"]
        refused = forger.send_updates(
            d, relay_address=R_TO_D_IP, relay_peer_id=relay.peer_id, state_directory=state,
            controller_state=mesh.controller.config.state_directory, other_relay=mesh.a.peer_id,
            vlan_id=mesh.ids["green"], sequence=json.loads(answer)["sequence"],
        )  # fmt: skip
        after = relay.status()["relay"]
        require(after["rules"] == before["rules"], f"rules changed: {after['rules']}")
        counted = sum(after["refused_updates"].values())
        require(counted == refused == 8, f"{refused} refused, counted {after['refused_updates']}")
        require(relay.log().count("relay update refused") == 8, "not all are in the log")
    if not restarts:
        _require_silence(mesh, "green")
        return {"forged_refused": refused, "refused_by_reason": after["refused_updates"]}
    with lab.report.step("the relay starts anew: rules are kept, and old updates are refused still"):
        relay.terminate()
        relay.start().wait_ready()
        for node in (mesh.a, mesh.b):
            node.wait_trunk(relay, carrier="udp")
        again = forger.send_updates(
            d, relay_address=R_TO_D_IP, relay_peer_id=relay.peer_id, state_directory=state,
            controller_state=mesh.controller.config.state_directory, other_relay=mesh.a.peer_id,
            vlan_id=mesh.ids["green"], sequence=json.loads(answer)["sequence"],
        )  # fmt: skip
        require(relay.status()["relay"]["rules"] == after["rules"], "rules were lost")
        require(again == 8, f"{again} refused")
        _require_silence(mesh, "green")
        for label in ("red", "blue"):
            wait_members(mesh.a, mesh.b, label)
    return {"forged_refused": refused + again, "refused_by_reason": after["refused_updates"]}


def _carriage(mesh: Mesh) -> Figures:
    """`vlan grant` makes a line for this relay, and no other."""
    relay, lab = mesh.relay, mesh.a.lab
    with lab.report.step("a member's carriage grant is allowed at its relay, and refused at another"):
        line = mesh.a.command("vlan", "grant", relay.peer_id, "--vlan", "green").strip()
        for other, text in ((mesh.controller, line), (relay, line[:-8] + "aaaaaaaa")):
            found = other.namespace.try_run(*_peertap(other, "relay", "allow", text))
            require(found[0] != 0 and "carriage grant" in found[2], f"{other.name} took it: {found}")
        relay.command("relay", "forget", mesh.ids["green"], mesh.ids["green"][:8] + "*")
        _require_silence(mesh, "green")
        relay.command("relay", "allow", line)
        wait_members(mesh.a, mesh.b, "green")
        relay.command("relay", "forget", mesh.ids["green"])
    return {"carriage_line_chars": len(line)}


def _peertap(node: Node, *arguments: str) -> list[str]:
    from netns.node import peertap_command

    return [*peertap_command(), *arguments, "--config", str(node.config.file)]


def _rates(mesh: Mesh, seconds: float) -> Figures:
    """Two VLANs under load, one with many flows: what each gets, with a narrow way out and with a rate."""
    lab, relay = mesh.a.lab, mesh.relay
    figures: Figures = {}
    machine = relay.namespace
    machine.run("tc", "qdisc", "add", "dev", "rb", "root", "tbf", "rate", NARROW, "burst", "32k", "latency", "50ms")
    with lab.report.step("the way out is narrow, and the relay knows nothing of it: red has eight flows, blue one"):
        figures["ratio_without_rate"] = _share(mesh, seconds)["ratio"]
    with lab.report.step(f"relay.rate is {RATE_MBPS:g} Mbit/s: each has half"):
        _reload(mesh, rate=RATE_MBPS)
        before = _accounts(mesh)
        shared = _share(mesh, seconds)
        figures |= {"ratio": shared["ratio"], "red_mbps": shared["red"], "blue_mbps": shared["blue"]}
        figures["drops"] = {name: count for name, count in relay.drops().items() if name.startswith("relay_")}
        after = _accounts(mesh)
        for label in ("red", "blue"):
            carried, sent = after[label] - before[label], shared[f"{label}_bytes"]
            require(carried >= sent, f"{label}: {carried} bytes accounted, {sent} received")
        require(shared["ratio"] >= FAIR_RATIO, f"not fair: {figures}")
        require(shared["red"] + shared["blue"] >= 0.75 * RATE_MBPS, f"half empty: {figures}")
    machine.run("tc", "qdisc", "del", "dev", "rb", "root")
    with lab.report.step(f"relay.vlan_rate is {VLAN_RATE_MBPS:g} Mbit/s: red keeps to it"):
        _reload(mesh, vlan_rate=VLAN_RATE_MBPS)
        alone = _iperf(mesh, "red", seconds, GREEDY_FLOWS).wait()
        figures["limited_mbps"] = alone[0]
        require(alone[0] <= 1.15 * VLAN_RATE_MBPS, f"more than allowed: {alone[0]} Mbit/s")
        require(relay.drops().get("relay_vlan_rate", 0) > 0, f"nothing was dropped for it: {relay.drops()}")
    _reload(mesh)
    return figures


def _accounts(mesh: Mesh) -> dict[str, int]:
    """Bytes carried by VLAN, as `relay list` has them."""
    listed = json.loads(mesh.relay.command("relay", "list", "--json"))
    names = {name: label for label, name in mesh.ids.items()}
    return {names[one["vlan_id"]]: one["bytes"] for one in listed["carried"] if one["vlan_id"] in names}


class _Iperf:
    """One iperf3 run in the background."""

    def __init__(self, mesh: Mesh, label: str, seconds: float, flows: int) -> None:
        self._a, b = mesh.ends(label)
        self._server = b.namespace.start(f"iperf3-{label}", "iperf3", "-s", "-1", "-B", b.ipv4)
        wait_for(lambda: f"{b.ipv4}:5201" in b.namespace.run("ss", "-Hltn"), 5, "the iperf3 server listens")
        self._command = ("iperf3", "-c", b.ipv4, "-t", f"{seconds:g}", "-P", str(flows), "-C", "cubic", "-J", "-O", "1")
        self._timeout_s = seconds + 20
        self._result: tuple[int, str, str] = (-1, "", "")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._result = self._a.namespace.try_run(*self._command, timeout_s=self._timeout_s)

    def wait(self) -> tuple[float, int]:
        """Mbit/s and bytes received."""
        self._thread.join()
        self._server.stop()
        status, out, error = self._result
        require(status == 0, f"iperf3: {(out + error)[-500:]}")
        got = json.loads(out)["end"]["sum_received"]
        return round(got["bits_per_second"] / 1e6, 1), int(got["bytes"])


def _iperf(mesh: Mesh, label: str, seconds: float, flows: int) -> _Iperf:
    return _Iperf(mesh, label, seconds, flows)


def _share(mesh: Mesh, seconds: float) -> dict[str, float]:
    greedy, modest = _iperf(mesh, "red", seconds, GREEDY_FLOWS), _iperf(mesh, "blue", seconds, 1)
    (red, red_bytes), (blue, blue_bytes) = greedy.wait(), modest.wait()
    require(red > 0 and blue > 0, f"nothing got through: {red}, {blue} Mbit/s")
    ratio = round(blue / red, 2)
    return {"red": red, "blue": blue, "ratio": ratio, "red_bytes": red_bytes, "blue_bytes": blue_bytes}


SCENARIO = Scenario(
    name="relay-policy",
    summary="a relay's VLANs by list and signed update, forged and old ones refused; two under load share it fairly",
    run=run,
    bound_s=200,
    short_bound_s=120,
)
