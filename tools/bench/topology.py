"""The networks of a run, built from the lab's: two or three machines, cables, and where the daemons run.

direct    a ──────── b             10.80.0.1   10.80.0.2
emulated  a ══════== b             the same addresses; the cable delays, loses, or is slow
relay     a ── r ── b              10.81.1.1   10.81.1.254 | 10.81.2.254   10.81.2.2
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netns import links
from netns.emulator import Impairment
from netns.errors import LabError
from netns.lab import Lab
from netns.namespace import Namespace
from netns.process import Process, descendants
from netns.topology import (
    A_IP,
    A_LINE_IP,
    B_IP,
    B_LINE_IP,
    R_TO_A_IP,
    R_TO_B_IP,
    emulated_links,
    line_links,
    pair_links,
)
from netns.waiting import wait_for
from tools.bench.axes import Link

IMPAIRMENTS: Final = {
    Link.LOSS1: Impairment(delay_ms=10, loss_percent=1),
    Link.DELAY20: Impairment(delay_ms=10),
    Link.DELAY80: Impairment(delay_ms=40),
    Link.RATE100: Impairment(rate_mbit=100, queue_ms=50),
}


@dataclass(slots=True)
class Site:
    """Machines and cables for one tunnel; `r` only where the link is a relay's.

    Args:
        directory: for keys and configurations; it goes with the lab.
        a_ip, b_ip: underlay addresses of the two ends. r_to_a_ip, r_to_b_ip: those of the relay.
    """

    lab: Lab
    link: Link
    directory: Path
    a: Namespace
    b: Namespace
    a_ip: str
    b_ip: str
    r: Namespace | None = None
    r_to_a_ip: str = ""
    r_to_b_ip: str = ""
    daemons: list[Process] = field(default_factory=list)

    @property
    def is_relayed(self) -> bool:
        return self.r is not None

    @property
    def relay(self) -> Namespace:
        """The machine between a and b."""
        if self.r is None:
            raise LabError(f"{self.link.value} has no relay")
        return self.r

    def spawn(self, machine: Namespace, *command: str, env: Mapping[str, str] | None = None) -> Process:
        """Starts a daemon of the tunnel."""
        made = machine.start(f"daemon-{machine.name}-{len(self.daemons)}", *command, env=env, cwd=self.directory)
        self.daemons.append(made)
        return made

    def pids(self) -> list[int]:
        """All processes of the tunnel, those that its daemons forked too."""
        alive = [daemon.pid for daemon in self.daemons if daemon.exit_status is None]
        return [*alive, *(below for pid in alive for below in descendants(pid))]

    def interface_up(self, machine: Namespace, interface: str, cidr: str, timeout_s: float = 10.0) -> None:
        """Waits for an interface that a daemon makes, addresses it and brings it up."""
        wait_for(
            lambda: machine.try_run("ip", "link", "show", "dev", interface)[0] == 0,
            timeout_s,
            f"interface {interface} of {machine.name}",
            interval_s=0.005,
        )
        machine.try_run("ip", "address", "add", cidr, "dev", interface)
        machine.up(interface)


def build(lab: Lab, link: Link, *, seed: int) -> Site:
    """The machines and cables of a link."""
    directory = lab.path("tunnel")
    directory.mkdir(mode=0o700)
    if link is Link.RELAY:
        a, r, b = line_links(lab)
        site = Site(lab, link, directory, a, b, A_LINE_IP, B_LINE_IP, r, R_TO_A_IP, R_TO_B_IP)
    elif link in IMPAIRMENTS:
        a, b, _ = emulated_links(lab, IMPAIRMENTS[link], seed=seed)
        site = Site(lab, link, directory, a, b, A_IP, B_IP)
    else:
        a, b = pair_links(lab)
        site = Site(lab, link, directory, a, b, A_IP, B_IP)
    return site


def without_offloads(site: Site) -> None:
    """From now on every packet of the underlay is one packet of the wire."""
    for machine, interface in ((site.a, "ua"), (site.b, "ub")):
        links.without_offloads(machine, interface)
