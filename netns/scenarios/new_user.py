"""A stranger follows the README on two fresh machines: `init` and `up`, at most five commands in all."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

from netns import links
from netns.errors import LabError, require
from netns.lab import Lab
from netns.namespace import Namespace
from netns.node import READY_WITHIN_S, is_ready, peertap_command
from netns.process import Process
from netns.scenario import Figures, Scenario
from netns.topology import pair_links
from netns.waiting import wait_for

README = Path(__file__).resolve().parents[2] / "README.md"
MAX_COMMANDS = 5  # the row


class FreshMachine:
    """A namespace with an empty home directory and its own /etc, /run, /var/lib: as if nobody had ever used it."""

    def __init__(self, lab: Lab, namespace: Namespace) -> None:
        self.lab, self.namespace = lab, namespace
        self.root = lab.path(f"machine-{namespace.name}")
        self.home = self.root / "home"
        for name in ("home", "run", "var"):
            (self.root / name).mkdir(parents=True)
        # What an ordinary user may not read is left out; no command here needs it.
        subprocess.run(["cp", "-r", "/etc", str(self.root / "etc")], stderr=subprocess.DEVNULL)
        self.commands: list[str] = []
        binaries = self.root / "bin"
        binaries.mkdir()
        script = binaries / "peertap"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(peertap_command())} "$@"\n')
        script.chmod(0o755)
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PYTHONPATH": str(lab.repository),
        }

    def run(self, command: str, answer: str | None = None) -> str:
        """Types a command, and `answer` where it asks; returns what it prints to stdout."""
        self.commands.append(command)
        self.lab.report.say(f"    {self.namespace.name}$ {command}")
        return self.namespace.run(*self._wrap(command), env=self.environment, input_text=answer)

    def start(self, command: str) -> Process:
        self.commands.append(command)
        self.lab.report.say(f"    {self.namespace.name}$ {command}")
        return self.namespace.start(f"node-{self.namespace.name}", *self._wrap(command), env=self.environment)

    def _wrap(self, command: str) -> list[str]:
        """`ip netns exec` has given the command a mount namespace of its own: these mounts end with it."""
        script = (
            f"set -e; hostname {self.namespace.name} 2>/dev/null || true; "
            f"mount --bind {self.root}/etc /etc; mount --bind {self.root}/run /run; "
            f"mount --bind {self.root}/var /var/lib; cd {self.home}; exec {command}"
        )
        return ["unshare", "-u", "sh", "-c", script]


def run(lab: Lab, short: bool) -> Figures:
    machines = [FreshMachine(lab, namespace) for namespace in pair_links(lab)]
    first, second = machines
    require(README.exists(), f"{README} does not exist")
    init, up = (readme_command(README.read_text(), verb) for verb in (r"init", r"up"))
    with lab.report.step("first machine: the README's init"):
        printed = first.run(init)
    with lab.report.step("second machine: the line that init printed"):
        second.run(join_line(printed), answer=secret_line(printed))
    with lab.report.step("both: the README's up"):
        processes = [machine.start(up) for machine in machines]
        for process in processes:
            wait_for(lambda process=process: said_ready(process), READY_WITHIN_S, f"{process.name} is ready")  # type: ignore[misc]
    with lab.report.step("a network of two"):
        target = wait_for(lambda: overlay_address(second.namespace), 5, "the second machine has a TAP with an address")
        device = tap(first.namespace)
        wait_for(
            lambda: first.namespace.try_run("ping", "-nqc1", "-W1", "-I", device, target)[0] == 0,
            20,
            f"ping {target} by {device}",
        )
        count = sum(len(machine.commands) for machine in machines)
        require(count <= MAX_COMMANDS, f"{count} commands were needed")
    _stop(processes)
    typed = [command for machine in machines for command in machine.commands]
    return {"commands": count, "typed": typed, **by_invite(lab)}


def by_invite(lab: Lab) -> Figures:
    """The README's other way: a VLAN whose members come by invite."""
    one, other = (FreshMachine(lab, lab.namespace(name)) for name in ("c", "d"))
    links.veth(one.namespace, "ua", "10.87.0.1/24", other.namespace, "ub", "10.87.0.2/24")
    readme = README.read_text()
    words = (r"init --bare", r"up", r"vlan create \S+", r"vlan invite \S+", r"vlan join")
    init, up, create, invite, join = (readme_command(readme, word) for word in words)
    with lab.report.step("both: a bare node, and up"):
        for machine in (one, other):
            machine.run(init)
        processes = [machine.start(up) for machine in (one, other)]
        for process in processes:
            wait_for(lambda process=process: said_ready(process), READY_WITHIN_S, f"{process.name} is ready")  # type: ignore[misc]
    with lab.report.step("create, invite, join"):
        one.run(create)
        line = one.run(invite).strip()
        require(line.startswith("ptjoin1-"), f"`invite` printed {line[:40]!r}")
        other.run(join, answer=f"{line}\n")
        target = wait_for(lambda: overlay_address(one.namespace), 5, "the first machine has a TAP with an address")
        device = tap(other.namespace)
        wait_for(
            lambda: other.namespace.try_run("ping", "-nqc1", "-W1", "-I", device, target)[0] == 0, 20, f"ping {target}"
        )
    _stop(processes)
    return {"by_invite": [*one.commands, *other.commands]}


def _stop(processes: list[Process]) -> None:
    for process in processes:
        process.signal(signal.SIGINT)
        require(process.wait(5) == 0, f"{process.name}: exit status {process.exit_status} after Ctrl-C")


def said_ready(process: Process) -> bool:
    if process.exit_status is not None:
        raise LabError(f"{process.name} ended with exit status {process.exit_status}")
    return is_ready(process.text())


def readme_command(readme: str, words: str) -> str:
    """The README's first `peertap WORDS` in a code block, word for word but for sudo and prompt."""
    lines = [re.sub(r"^\s*[$#]?\s*(sudo\s+)?", "", line) for block in re.findall(r"```.*?\n(.*?)```", readme, re.S)
             for line in block.splitlines()]  # fmt: skip
    commands = [re.sub(r"\s+#.*", "", line) for line in lines if re.fullmatch(rf"peertap {words}\s*(#.*)?", line)]
    require(bool(commands), f"README.md shows no `peertap {words}` in a code block")
    return commands[0]


def join_line(printed: str) -> str:
    """The line to type on the other machine."""
    found = re.findall(r"^\W*(?:sudo\s+)?(peertap init .*--join.*?)\s*$", printed, re.M)
    require(bool(found), f"`peertap init` printed no line for the other machine:\n{printed}")
    return str(found[0])


def secret_line(printed: str) -> str | None:
    """The secret that `init` printed to be pasted at the other machine; None where the line above holds everything."""
    found = re.findall(r"^\s*(ptvlan1-\S+)\s*$", printed, re.M)
    return f"{found[0]}\n" if found else None


def tap(namespace: Namespace) -> str:
    names = [link["ifname"] for link in namespace.ip_json("link", "show") if link["ifname"] not in ("lo", "ua", "ub")]
    require(len(names) == 1, f"{namespace.name} has the interfaces {names}")
    return str(names[0])


def overlay_address(namespace: Namespace) -> str:
    """The TAP's address: IPv4 where it has one, else the link-local IPv6."""
    found = namespace.ip_json("address", "show", "dev", tap(namespace))[0]["addr_info"]
    addresses = sorted(str(entry["local"]) for entry in found)
    require(bool(addresses), f"no address on the TAP of {namespace.name}")
    return min(addresses, key=lambda address: ":" in address)


SCENARIO = Scenario(
    name="new-user",
    summary="the README word for word on fresh machines: a network of two by init and up, another one by an invite",
    run=run,
    bound_s=120,
    short_bound_s=90,
)
