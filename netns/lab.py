"""The lab: everything that a scenario makes belongs to it, and goes with it.

    with Lab("pair", report) as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        links.veth(a, "ua", "10.80.0.1/24", b, "ub", "10.80.0.2/24")
        a.run("ping", "-c1", "10.80.0.2")

At the end, whatever happened, it stops what runs, deletes the namespaces, and proves that nothing is left: no process
below this one, no process in one of its namespaces, no named namespace, no temporary directory.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from netns import linux
from netns.enter import REPOSITORY
from netns.errors import LabError
from netns.namespace import Namespace
from netns.process import DIES_WITH_THE_LAB, Process, kill_descendants
from netns.report import Report


class Lab:
    """Owner of namespaces, processes, sockets and the temporary directory (0700) of one scenario."""

    def __init__(
        self, name: str, report: Report, *, keep: bool = False, without_offloads: tuple[str, ...] = ()
    ) -> None:
        self.name, self.report, self.keep = name, report, keep
        self.without_offloads = without_offloads
        self.repository = REPOSITORY
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("PEERTAP_")}
        self.environment.update(PYTHONUNBUFFERED="1", LC_ALL="C.UTF-8")
        self.directory = Path(tempfile.mkdtemp(prefix=f"peertap-netns-{name}-"))
        self.namespaces: dict[str, Namespace] = {}
        self.processes: list[Process] = []
        self._sockets: list[socket.socket] = []
        self._at_end: list[Callable[[], None]] = []
        linux.adopt_orphans()

    def __enter__(self) -> "Lab":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def namespace(self, name: str) -> Namespace:
        """A new machine; names live in our private /run/netns, so they collide with nobody's."""
        if name in self.namespaces:
            raise LabError(f"namespace {name!r} exists already")
        made = self.namespaces[name] = Namespace(self, name)
        return made

    def command(self, *command: str, timeout_s: float = 30.0) -> str:
        """Runs a program outside of the named namespaces (still inside the lab)."""
        self.report.detail(" ".join(command))
        done = subprocess.run([*DIES_WITH_THE_LAB, *command], capture_output=True, text=True, timeout=timeout_s)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start(
        self, name: str, command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        self.report.detail(f"start {name}: {' '.join(command)}")
        log = self.directory / f"{name}.log"
        made = Process(name, command, log, cwd=cwd or self.repository, env={**self.environment, **(env or {})})
        self.processes.append(made)
        return made

    def keep_socket(self, made: socket.socket) -> None:
        self._sockets.append(made)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Called once when the lab closes, while its sockets are still open: threads are stopped here."""
        self._at_end.append(callback)

    def path(self, name: str) -> Path:
        return self.directory / name

    def close(self) -> None:
        """Ends everything and proves it.

        Raises:
            LabError: something is left.
        """
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGALRM})
        try:
            self._end_everything()
            left = self._what_is_left()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if left:
            raise LabError("clean-up failed, left behind: " + "; ".join(left))
        self.report.say(
            f"  clean-up proved: {len(self.processes)} processes ended, {len(self.namespaces)} namespaces gone,"
            " nothing left"
        )

    def _end_everything(self) -> None:
        for callback in self._at_end:
            callback()
        for process in self.processes:
            process.signal(signal.SIGTERM)
        for process in self.processes:
            process.stop(grace_s=2.5)
        kill_descendants()
        for opened in self._sockets:
            opened.close()
        for name in self.namespaces:
            with suppress(LabError, subprocess.TimeoutExpired):
                self.command("ip", "netns", "delete", name)
        if self.keep:
            self.report.say(f"  kept: {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _what_is_left(self) -> list[str]:
        left = [f"process {pid} ({command})" for pid, command in kill_descendants(timeout_s=0).items()]
        ours = {namespace.identity: name for name, namespace in self.namespaces.items()}
        for entry in os.listdir("/proc"):
            with suppress(OSError):
                if entry.isdigit() and (held := ours.get(os.stat(f"/proc/{entry}/ns/net").st_ino)):
                    left.append(f"process {entry} in namespace {held}")
        left += [f"namespace {name}" for name, namespace in self.namespaces.items() if namespace.path.exists()]
        if self.directory.exists() and not self.keep:
            left.append(f"directory {self.directory}")
        return left
