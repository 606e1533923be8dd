"""A machine of the lab: a named network namespace in which programs run and sockets are opened."""

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netns import linux
from netns.errors import LabError, ScenarioFailed
from netns.process import DIES_WITH_THE_LAB, Process

if TYPE_CHECKING:
    from netns.lab import Lab


@dataclass(frozen=True, slots=True)
class Interface:
    """What `ip link` says of an interface."""

    name: str
    index: int
    mac: bytes
    mtu: int
    flags: frozenset[str]


class Namespace:
    """Made by Lab.namespace. Commands run by `ip netns exec`; sockets are opened by setns in this process."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab, self.name = lab, name
        self.path = Path("/run/netns") / name
        lab.command("ip", "netns", "add", name)
        self.identity = os.stat(self.path).st_ino
        self.run("ip", "link", "set", "lo", "up")
        self.sysctl("net.ipv6.conf.default.accept_dad", "0")  # addresses are usable at once
        self.sysctl("net.ipv6.conf.all.accept_dad", "0")

    def wrap(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def run(
        self,
        *command: str,
        timeout_s: float = 30.0,
        env: Mapping[str, str] | None = None,
        input_text: str | None = None,
    ) -> str:
        """Runs a program to its end and returns its stdout.

        Raises:
            ScenarioFailed: another exit status than 0, or no end within `timeout_s`.
        """
        status, out, error = self.try_run(*command, timeout_s=timeout_s, env=env, input_text=input_text)
        if status != 0:
            raise ScenarioFailed(f"[{self.name}] {' '.join(command)}: exit status {status}\n{(out + error)[-2000:]}")
        return out

    def try_run(
        self,
        *command: str,
        timeout_s: float = 30.0,
        env: Mapping[str, str] | None = None,
        input_text: str | None = None,
    ) -> tuple[int, str, str]:
        """Exit status (-1: no end within `timeout_s`), stdout, stderr."""
        self.lab.report.detail(f"[{self.name}] {' '.join(command)}")
        try:
            done = subprocess.run(
                [*DIES_WITH_THE_LAB, *self.wrap(*command)], capture_output=True, text=True, errors="replace",
                timeout=timeout_s, input=input_text, stdin=subprocess.DEVNULL if input_text is None else None,
                cwd=self.lab.repository, env={**self.lab.environment, **(env or {})},
            )  # fmt: skip
        except subprocess.TimeoutExpired as expired:
            return -1, _text(expired.stdout), _text(expired.stderr) + f"\n(killed after {timeout_s:g} s)"
        return done.returncode, done.stdout, done.stderr

    def start(self, name: str, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Starts a program that stays; the lab stops it at the end."""
        return self.lab.start(name, self.wrap(*command), env=env, cwd=cwd)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in this namespace; the lab closes it at the end."""
        with linux.inside(self.path):
            made = socket.socket(family, kind, protocol)
        self.lab.keep_socket(made)
        return made

    def ip_json(self, *arguments: str) -> list[dict[str, Any]]:
        out = self.run("ip", "-json", *arguments)
        found: list[dict[str, Any]] = json.loads(out) if out.strip() else []
        return [entry for entry in found if entry]

    def interface(self, name: str) -> Interface:
        """Raises ScenarioFailed where there is none of that name."""
        link = self.ip_json("link", "show", "dev", name)[0]
        mac = bytes.fromhex(str(link["address"]).replace(":", ""))
        return Interface(name, int(link["ifindex"]), mac, int(link["mtu"]), frozenset(link["flags"]))

    def address(self, cidr: str, interface: str) -> None:
        self.run("ip", "address", "add", cidr, "dev", interface)

    def up(self, *interfaces: str) -> None:
        for interface in interfaces:
            self.run("ip", "link", "set", interface, "up")

    def route(self, destination: str, via: str) -> None:
        self.run("ip", "route", "add", destination, "via", via)

    def sysctl(self, key: str, value: str) -> None:
        self.run("sysctl", "-qw", f"{key}={value}")

    def nft(self, rules: str) -> None:
        """Loads nftables rules: a whole file, or commands."""
        try:
            self.run("nft", "-f", "-", input_text=rules)
        except ScenarioFailed as error:
            raise LabError(f"{error}\nin the rules:\n{rules}") from error


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")
