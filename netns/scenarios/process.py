"""A good process: what it says when it cannot start, how it ends, reloads and shares a machine."""

import json
import signal
import time
from dataclasses import replace

from netns.errors import require
from netns.lab import Lab
from netns.node import Node, peertap_command, start_all
from netns.process import Process
from netns.scenario import Figures, Scenario
from netns.topology import pair
from netns.waiting import wait_for

SECOND_SIGNAL_S = 0.5
WITHOUT_NET_ADMIN = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")


def run(lab: Lab, short: bool) -> Figures:
    step = lab.report.step
    figures: Figures = {}
    nodes = pair(lab)
    with step("up without a configuration says what to do, exit status 2"):
        says(nodes.a, ["up", "--config", "/nowhere/peertap.yaml"], 2, "peertap init")
    with step("asking a node that does not run: one sentence, exit status 1"):
        says(nodes.a, ["status", "--config", str(nodes.a.config.file)], 1, "does not run", "peertap up")
    with step("without CAP_NET_ADMIN: the command that grants it, exit status 1"):
        says(
            nodes.a,
            ["up", "--config", str(nodes.a.config.file)],
            1,
            "CAP_NET_ADMIN",
            "ip tuntap add",
            without_admin=True,
        )
    with step("without CAP_NET_ADMIN, on an interface that its user owns: it runs"):
        own_tap(nodes.a)
    start_all(nodes.a, nodes.b)
    with step("a second process of the same node is refused, exit status 2"):
        says(nodes.a, ["up", "--config", str(nodes.a.config.file)], 2, "runs already", "--node")
    with step("a second node on one machine, by init --node and up --node"):
        second_node(nodes.a)
    with step("SIGHUP takes up peers and log level, and says what needs a restart"):
        reload(nodes.a)
    with step("a configuration with a mistake is not taken up, and the node goes on"):
        good = nodes.a.config.file.read_text()
        nodes.a.config.file.write_text(good.replace('"peers"', '"peeers"'))
        assert nodes.a.process is not None
        nodes.a.process.signal(signal.SIGHUP)
        wait_for(lambda: "not reloaded" in nodes.a.log() and "did you mean" in nodes.a.log(), 3, "it says so")
        nodes.a.config.file.write_text(good)
        nodes.a.status()
    with step("peertap ping: a neighbour, a member by MAC and by IP; nonsense is refused"):
        pings(nodes.a, nodes.b)
    with step("peertap trace follows a frame from the port to the trunk and back"):
        figures["trace_steps"] = trace(nodes.a, nodes.b)
    with step("a rekey on request: the next epoch, and no ping is lost"):
        low, high = sorted((nodes.a, nodes.b), key=lambda node: node.status()["peer_id"])
        before = {node.name: epoch(node) for node in (low, high)}
        for node in (low, high):
            node.command("rekey")
        wait_for(
            lambda: all(epoch(node) == before[node.name] + 1 for node in (low, high)), 5, "both use the next epoch"
        )
        status, out, _ = nodes.a.namespace.try_run(
            "ping", "-qc20", "-i0.02", nodes.b.config.vlans[0].addresses[0].split("/")[0]
        )
        require(status == 0 and " 0% packet loss" in out, out)
    with step("first SIGTERM: exit status 0 within 2 s"):
        figures["exit_s"] = round(nodes.b.terminate(), 2)
    with step("second signal: at once"):
        assert nodes.a.process is not None
        nodes.a.process.signal(signal.SIGINT)
        time.sleep(0.02)
        began = time.monotonic()
        nodes.a.process.signal(signal.SIGINT)
        nodes.a.process.wait(SECOND_SIGNAL_S)
        figures["second_signal_s"] = round(time.monotonic() - began, 3)
    return figures


def says(node: Node, arguments: list[str], status: int, *texts: str, without_admin: bool = False) -> None:
    """Runs the command, which must fail with this exit status, these texts, and no traceback."""
    prefix = WITHOUT_NET_ADMIN if without_admin else ()
    got, out, errors = node.namespace.try_run(*prefix, *peertap_command(), *arguments)
    require(got == status, f"exit status {got}, not {status}: {out}{errors}")
    for text in texts:
        require(text in errors, f"{text!r} is not in: {errors}")
    require("Traceback" not in errors, errors)


def own_tap(node: Node) -> None:
    """A persistent interface that belongs to the node's user needs no capability."""
    namespace, vlan = node.namespace, node.config.vlans[0]
    node.start()
    node.wait_ready()
    mac, mtu = (node.vlan(vlan.label)["tap"][key] for key in ("mac", "mtu"))
    node.terminate()
    namespace.run("ip", "tuntap", "add", "dev", vlan.tap, "mode", "tap", "user", "0")
    namespace.run("ip", "link", "set", vlan.tap, "address", mac, "mtu", str(mtu), "up")
    for address in vlan.addresses:
        namespace.run("ip", "address", "add", address, "dev", vlan.tap, *(["nodad"] if ":" in address else []))
    command = [*WITHOUT_NET_ADMIN, *peertap_command(), "up", "--config", str(node.config.file)]
    process = namespace.start(f"node-{node.name}-unprivileged", *command)
    wait_for(lambda: ready(process), 10, "the unprivileged node is ready")
    process.signal(signal.SIGTERM)
    require(process.wait(3) == 0, f"exit status {process.exit_status}: {process.tail(5)}")
    namespace.run("ip", "tuntap", "del", "dev", vlan.tap, "mode", "tap")


def ready(process: Process) -> bool:
    require(process.exit_status is None, f"it ended: {process.tail(5)}")
    return " ready" in process.text()


def second_node(first: Node) -> None:
    directory = first.directory
    environment = {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "PYTHONPATH": str(first.lab.repository)}
    file, state = directory / "second.yaml", directory / "second-state"
    init = ["init", "--node", "second", "--config", str(file), "--state-dir", str(state), "--vlan", "other"]
    first.namespace.run(*peertap_command(), *init, env=environment)
    process = first.namespace.start("node-second", *peertap_command(), "up", "--config", str(file), env=environment)
    wait_for(lambda: ready(process), 10, "the second node is ready")
    status, out, errors = first.namespace.try_run(*peertap_command(), "status", "--json", "--config", str(file))
    require(status == 0 and json.loads(out)["node"] == "second", f"{out}{errors}")
    process.signal(signal.SIGTERM)
    require(process.wait(3) == 0, f"exit status {process.exit_status}: {process.tail(5)}")


def reload(node: Node) -> None:
    before = node.config
    node.config = replace(before, peers=(), log_level="debug", underlay_mtu=1400)
    node.config.file.write_text(node.config.emit())
    assert node.process is not None
    node.process.signal(signal.SIGHUP)
    wait_for(lambda: "configuration reloaded" in node.log(), 3, "it says so")
    line = next(line for line in node.log().splitlines() if "configuration reloaded" in line)
    require("peers" in line and "log.level" in line and "underlay_mtu" in line, line)
    node.config = before
    node.config.file.write_text(before.emit())
    node.process.signal(signal.SIGHUP)
    wait_for(lambda: node.log().count("configuration reloaded") == 2, 3, "and once more")


def pings(node: Node, other: Node) -> None:
    member = node.wait_member("lab", other)
    address = other.config.vlans[0].addresses[0].split("/")[0]
    node.namespace.run("ping", "-qc1", "-W2", address)
    for target in (other.peer_id, member["mac"], address):
        found = json.loads(node.command("ping", target, "--count", "3", "--json"))
        require(found["received"] == 3, f"ping {target}: {found}")
    says(node, ["ping", "nonsense", "--config", str(node.config.file)], 1, "nonsense", "peertap status")


def trace(node: Node, other: Node) -> list[str]:
    """The steps that a ping's frames took."""
    mac = node.wait_member("lab", other)["mac"]
    tracer = node.namespace.start(
        "trace", *peertap_command(), "trace", mac, "--seconds", "2", "--json", "--config", str(node.config.file)
    )
    time.sleep(0.8)  # for it to begin
    node.namespace.run("ping", "-qc3", "-i0.1", other.config.vlans[0].addresses[0].split("/")[0])
    require(tracer.wait(6) == 0, f"exit status {tracer.exit_status}: {tracer.tail(5)}")
    steps = [json.loads(line)["step"] for line in tracer.text().splitlines() if line.startswith("{")]
    unique = list(dict.fromkeys(steps))
    for wanted in ("port read", "port write"):
        require(any(wanted in step for step in unique), f"no step {wanted!r} in {unique}")
    return unique


def epoch(node: Node) -> int:
    return int(node.status()["trunks"][-1]["epoch"])


SCENARIO = Scenario(
    name="process",
    summary="starts, refusals, signals, reload, two nodes on a machine, ping, trace and rekey: a good process",
    run=run,
    bound_s=120,
    short_bound_s=100,
)
