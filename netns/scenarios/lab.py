"""The lab itself: its rules do what they say, and nothing survives it.

inner ── router ──┬── one      10.7.0.2 behind the NAT of 192.0.2.1; one and two are 192.0.2.11 and .12
                  └── two      (the bridge `wan` is the Internet)
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

from netns import links, rules
from netns.enter import REPOSITORY
from netns.errors import require
from netns.lab import Lab
from netns.namespace import Namespace
from netns.process import descendants
from netns.report import Report
from netns.scenario import Figures, Scenario
from netns.waiting import wait_for

INNER, ROUTER, ONE, TWO = "10.7.0.2", "192.0.2.1", "192.0.2.11", "192.0.2.12"
PORT = 9000


def run(lab: Lab, short: bool) -> Figures:
    figures: Figures = {}
    step = lab.report.step
    with step("the four kinds of NAT behave as their names say"):
        for kind in ("port_restricted", "symmetric", "full_cone", "address_restricted"):
            figures[kind] = nat_behaviour(lab, kind)
        # (one outer port for two destinations, a stranger gets in, a known address from another port gets in)
        wanted: Figures = {
            "port_restricted": (True, False, False),
            "symmetric": (False, False, False),
            "full_cone": (True, True, True),
            "address_restricted": (True, False, True),
        }
        require(figures == wanted, f"NAT kinds: {figures}, not {wanted}")
    with step("UDP blocked, a TCP port blocked, loss, an MTU black hole"):
        figures |= firewall_rules(lab)
    with step("a bridge joins three machines"):
        bridged(lab)
    with step(
        "a lab that is killed (kill -9) takes its processes along; one that is told to stop cleans up and says so"
    ):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            stop_a_lab(number)
    with step("a program that goes into the background, and ignores SIGTERM, does not outlive its lab"):
        inner_lab = Lab("inner", Report(quiet_stdout=True))
        machine = inner_lab.namespace("inner")
        machine.run("sh", "-c", "trap '' TERM; setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
        sleeps = "sleep 1000"
        wait_for(lambda: any(sleeps in command for command in descendants().values()), 10, "the program runs")
        inner_lab.close()  # raises where something is left
    return figures


def nat_behaviour(lab: Lab, kind: str) -> tuple[bool, bool, bool]:
    prefix = kind[:2]
    inner, router, one, two, wan = (
        lab.namespace(f"{prefix}-{name}") for name in ("inner", "router", "one", "two", "wan")
    )
    links.veth(inner, "eth0", f"{INNER}/24", router, "lan", "10.7.0.1/24")
    for machine, name, address in ((router, "wan", ROUTER), (one, "eth0", ONE), (two, "eth0", TWO)):
        links.veth(machine, name, f"{address}/24", wan, f"to-{machine.name[-6:]}", None)
    links.bridge(wan, "wan", [f"to-{machine.name[-6:]}" for machine in (router, one, two)])
    inner.route("default", "10.7.0.1")
    router.sysctl("net.ipv4.ip_forward", "1")
    router.nft(rules.nat(kind, wan="wan", wan_address=ROUTER, inner_address=INNER))
    caller, at_one, at_two = (bound(machine) for machine in (inner, one, two))
    # A stranger first, while the NAT knows nothing but the caller's word to one.
    source_at_one = says_to(caller, at_one, ONE)
    require(source_at_one is not None and source_at_one[0] == ROUTER, f"{kind}: one heard from {source_at_one}")
    assert source_at_one is not None
    require(hears_from(caller, at_one, source_at_one), f"{kind}: the answer does not come back")
    stranger = hears_from(caller, bound(two, 9001), source_at_one)
    known_address = hears_from(caller, bound(one, 9001), source_at_one)
    source_at_two = says_to(caller, at_two, TWO)
    return source_at_one == source_at_two, stranger, known_address


def bound(machine: Namespace, port: int = PORT) -> socket.socket:
    made = machine.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("", port))
    return made


def says_to(sender: socket.socket, receiver: socket.socket, address: str) -> tuple[str, int] | None:
    """Where the receiver sees the datagram come from; None where it does not."""
    sender.sendto(b"hello", (address, PORT))
    if not select.select([receiver], [], [], 1.0)[0]:
        return None
    source: tuple[str, int] = receiver.recvfrom(100)[1]
    return source


def hears_from(receiver: socket.socket, sender: socket.socket, address: tuple[str, int]) -> bool:
    sender.sendto(b"hello", address)
    if not select.select([receiver], [], [], 0.3)[0]:
        return False
    receiver.recv(100)
    return True


def firewall_rules(lab: Lab) -> Figures:
    near, middle, far = lab.namespace("near"), lab.namespace("middle"), lab.namespace("far")
    links.veth(near, "eth0", "10.8.1.1/24", middle, "to-near", "10.8.1.254/24")
    links.veth(far, "eth0", "10.8.2.2/24", middle, "to-far", "10.8.2.254/24")
    middle.sysctl("net.ipv4.ip_forward", "1")
    near.route("default", "10.8.1.254")
    far.route("default", "10.8.2.254")
    receiver = bound(far)
    sender = bound(near)

    def udp_arrives(size: int = 10) -> bool:
        sender.sendto(bytes(size), ("10.8.2.2", PORT))
        arrived = bool(select.select([receiver], [], [], 0.3)[0])
        if arrived:
            receiver.recv(2000)
        return arrived

    server = far.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("", PORT))
    server.listen()

    def tcp_connects() -> bool:
        client = near.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.settimeout(0.3)
        return client.connect_ex(("10.8.2.2", PORT)) == 0

    require(udp_arrives(1400) and tcp_connects(), "the plain network does not work")
    for rule, table, udp, tcp in (
        (rules.drop_udp(), "drop_udp", False, True),
        (rules.drop_tcp_port(PORT), f"drop_tcp_{PORT}", True, False),
    ):
        far.nft(rule)
        require((udp_arrives(), tcp_connects()) == (udp, tcp), f"{table} does not do what it says")
        rules.remove(far, table)
    require(udp_arrives() and tcp_connects(), "a rule stayed")
    middle.nft(rules.mtu_black_hole(1280))
    require(udp_arrives(1252) and not udp_arrives(1253), "the black hole of 1280 bytes is none")
    far.nft(rules.lose_percent(20))
    answered = near.try_run("ping", "-nq", "-i0.002", "-c1000", "-W1", "10.8.2.2")[1].split(" received")[0].split()[-1]
    require(750 <= int(answered) <= 850, f"loss of 20 %: {answered} of 1000 pings were answered")
    return {"pings_answered_at_20_percent_loss": int(answered)}


def bridged(lab: Lab) -> None:
    middle = lab.namespace("bridge")
    machines = [lab.namespace(f"port{number}") for number in range(3)]
    for number, machine in enumerate(machines):
        links.veth(machine, "eth0", f"10.9.0.{number + 1}/24", middle, f"p{number}", None)
    links.bridge(middle, "br0", ["p0", "p1", "p2"])
    for target in ("10.9.0.2", "10.9.0.3"):
        machines[0].run("ping", "-nqc1", "-W2", target)


VICTIM = """
import signal, sys, time
from netns.cli import _interrupt
from netns.lab import Lab
from netns.report import Report
signal.signal(signal.SIGTERM, _interrupt)
with Lab("victim", Report()) as lab:
    machine = lab.namespace("victim-" + sys.argv[1])
    print(machine.start("sleeper", "sleep", "1000").pid, lab.directory, flush=True)
    time.sleep(1000)
"""


def stop_a_lab(number: signal.Signals) -> None:
    """Runs a lab in a process of its own, ends it by a signal, and looks for its child."""
    # unshare: a mount and network namespace of its own, with its own /run/netns
    script = (
        f"mount -t tmpfs tmpfs /run && mkdir /run/netns && exec {sys.executable} -c '{VICTIM}' {number.name.lower()}"
    )
    victim = subprocess.Popen(
        ["unshare", "-nm", "sh", "-c", script],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert victim.stdout is not None
    pid, directory = victim.stdout.readline().split()
    sleeper = int(pid)
    time.sleep(0.1)
    victim.send_signal(number)
    output, _ = victim.communicate(timeout=15)
    wait_for(
        lambda: not os.path.exists(f"/proc/{sleeper}") or is_zombie(sleeper),
        5,
        f"the child ends with its lab ({number.name})",
    )
    shutil.rmtree(directory, ignore_errors=True)  # kill -9 leaves it
    require(number is signal.SIGKILL or "clean-up proved" in output, f"{number.name}: {output}")


def is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


SCENARIO = Scenario(
    name="lab",
    summary="the lab itself: NAT kinds, firewall rules, bridges; nothing survives it, even killed",
    run=run,
    bound_s=90,
    short_bound_s=90,
)
