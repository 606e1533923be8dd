"""A PeerTap node under test: its files, its process, and what it says about itself.

This file and identity.py are the only ones that know how a node is started and asked.
"""

import json
import os
import re
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from netns.errors import LabError, ScenarioFailed, require
from netns.identity import create_identity
from netns.namespace import Namespace
from netns.nodeconfig import NodeConfig, VlanConfig, peer_address
from netns.process import Process
from netns.waiting import wait_for
from peertap.errors import PeerTapError
from peertap.shell import admin_client

COMMAND: Final = "PEERTAP_LAB_COMMAND"  # environment: another program with the same command line
READY_WITHIN_S: Final = 20.0  # ours: far above a start on a loaded machine of two cores
EXIT_WITHIN_S: Final = 2.0  # what PeerTap promises after SIGTERM


def peertap_command() -> list[str]:
    if override := os.environ.get(COMMAND):
        return shlex.split(override)
    script = Path(sys.executable).parent / "peertap"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; sys.argv[0] = 'peertap'; from peertap.cli.main import main; main()"]


def is_ready(log: str) -> bool:
    return re.search(r"\bready\b", log) is not None


class Node:
    """One node in one namespace. Its configuration may change between starts: see `configure`."""

    def __init__(self, namespace: Namespace, name: str | None = None) -> None:
        self.namespace, self.lab = namespace, namespace.lab
        self.name = name or namespace.name
        self.directory = self.lab.path(f"node-{self.name}")
        self.directory.mkdir(mode=0o700)
        self.config = NodeConfig(self.name, self.directory, without_offloads=self.lab.without_offloads)
        self.peer_id = create_identity(self.config.state_directory)
        self.process: Process | None = None
        self._log_start = 0

    def configure(
        self, *, peers: "dict[str, Node] | None" = None, vlans: tuple[VlanConfig, ...] | None = None, **changes: Any
    ) -> "Node":
        """Writes the configuration.

        Args:
            peers: underlay address -> node to dial there.
            changes: fields of NodeConfig.
        """
        if peers is not None:
            changes["peers"] = tuple(peer_address(ip, peer.peer_id) for ip, peer in peers.items())
        if vlans is not None:
            changes["vlans"] = vlans
        self.config = replace(self.config, **changes)
        self.config.file.write_text(self.config.emit())
        self.config.file.chmod(0o600)
        return self

    def start(self) -> "Node":
        """Starts it without waiting."""
        log = self.lab.path(f"node-{self.name}.log")
        self._log_start = log.stat().st_size if log.exists() else 0
        command = [*peertap_command(), "up", "--config", str(self.config.file)]
        self.process = self.namespace.start(f"node-{self.name}", *command)
        return self

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> float:
        """Waits for the log line that says so; returns the instant at which it was seen (within 5 ms)."""

        def said_so() -> float | None:
            self.require_alive()
            return time.monotonic() if is_ready(self.log()) else None

        return wait_for(said_so, timeout_s, f"node {self.name} is ready", interval_s=0.005)

    def log(self) -> str:
        """What it logged since its last start."""
        with open(self.lab.path(f"node-{self.name}.log"), "rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def require_alive(self) -> None:
        """Raises LabError, which no wait_for takes for "not yet"."""
        if self.process is None or self.process.exit_status is not None:
            status = "never started" if self.process is None else f"exit status {self.process.exit_status}"
            raise LabError(f"node {self.name} does not run: {status}")

    def terminate(self) -> float:
        """SIGTERM; returns how long the end took.

        Raises:
            ScenarioFailed: longer than 2 s, or another exit status than 0.
        """
        self.require_alive()
        assert self.process is not None
        began = time.monotonic()
        self.process.signal(signal.SIGTERM)
        status = self.process.wait(10)
        took = time.monotonic() - began
        require(status == 0, f"node {self.name}: exit status {status} after SIGTERM")
        require(
            took <= EXIT_WITHIN_S,
            f"node {self.name}: {took:.2f} s from SIGTERM to its end, more than {EXIT_WITHIN_S:g}",
        )
        return took

    def kill(self) -> None:
        """kill -9."""
        self.require_alive()
        assert self.process is not None
        self.process.kill()

    def command(self, *arguments: str, timeout_s: float = 15.0) -> str:
        """Runs `peertap ARGUMENTS --config FILE` on the node's machine."""
        self.require_alive()
        return self.namespace.run(
            *peertap_command(), *arguments, "--config", str(self.config.file), timeout_s=timeout_s
        )

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """The last answer to a request on the admin socket: quicker than `command`, which starts a process.

        Raises: ScenarioFailed: the node refuses.
        """
        self.require_alive()
        answers: list[dict[str, Any]] = [{}]
        try:
            with admin_client.connect(self.directory / "admin.sock", node=self.name) as connection:
                answers += admin_client.ask(connection, {"command": command, **fields}, node=self.name)
        except PeerTapError as error:
            raise ScenarioFailed(f"node {self.name}: {command}: {error.what}") from error
        return answers[-1]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.command("status", "--json"))
        return found

    def vlan(self, label: str) -> dict[str, Any]:
        """The VLAN's part of the status."""
        for vlan in self.status()["vlans"]:
            if vlan["label"] == label:
                return dict(vlan)
        raise ScenarioFailed(f"node {self.name}: no VLAN {label!r} in its status")

    def trunk(self, peer: "Node") -> dict[str, Any]:
        """The trunk to a neighbour that is up."""
        trunks = [trunk for trunk in self.status()["trunks"] if trunk["peer_id"] == peer.peer_id]
        up = [trunk for trunk in trunks if trunk["state"] == "up"]
        require(bool(up), f"node {self.name}: no trunk to {peer.name} is up: {trunks}")
        return dict(up[-1])

    def wait_trunk(
        self, peer: "Node", *, carrier: str | None = None, transport: str | None = None, timeout_s: float = 20.0
    ) -> dict[str, Any]:
        """Waits until the trunk to `peer` is up and as wanted."""

        def as_wanted() -> dict[str, Any]:
            trunk = self.trunk(peer)
            require(carrier in (None, trunk["carrier"]), f"carrier {trunk['carrier']}: {trunk}")
            require(transport in (None, trunk["transport"]), f"transport {trunk['transport']}: {trunk}")
            return trunk

        wanted = " ".join(filter(None, ("up", carrier and f"on {carrier}", transport and f"over {transport}")))
        return wait_for(as_wanted, timeout_s, f"trunk {self.name} to {peer.name} is {wanted}", interval_s=0.2)

    def wait_member(self, label: str, other: "Node", timeout_s: float = 20.0) -> dict[str, Any]:
        """Waits until `other` is a known member of the VLAN with a pair key."""

        def known() -> dict[str, Any]:
            members = self.vlan(label)["members"]
            found = [member for member in members if member["peer_id"] == other.peer_id]
            require(bool(found) and bool(found[0]["known"]) and bool(found[0]["pair"]), f"members {members}")
            return dict(found[0])

        return wait_for(known, timeout_s, f"{self.name} knows {other.name} in {label}", interval_s=0.2)

    def drops(self) -> dict[str, int]:
        return {str(reason): int(count) for reason, count in self.status()["drops"].items()}


def start_all(*nodes: Node) -> None:
    """Starts them at once and waits until each is ready."""
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_ready()


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The drop counters that went up, and by how much."""
    return {reason: count - before.get(reason, 0) for reason, count in after.items() if count > before.get(reason, 0)}
