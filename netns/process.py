"""Child processes: started in a namespace, logged to a file, killed by pid, none left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from netns.errors import LabError

# The kernel kills the child when the lab is gone, even by kill -9. (preexec_fn is not safe beside threads.)
DIES_WITH_THE_LAB: Final = ("setpriv", "--pdeathsig", "KILL")


class Process:
    """A running program of the lab with its log (stdout and stderr together)."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, cwd: Path, env: Mapping[str, str]) -> None:
        self.name, self.command, self.log = name, list(command), log
        with open(log, "ab") as output:
            try:
                self._popen = subprocess.Popen(
                    [*DIES_WITH_THE_LAB, *self.command], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, cwd=cwd, env=dict(env), start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise LabError(f"{name}: cannot start {self.command[0]}: {error}") from error

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; minus the signal's number where a signal killed it."""
        return self._popen.poll()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 25) -> str:
        return "\n".join(self.text().splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        if self.exit_status is None:
            self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Waits for the end.

        Raises:
            LabError: it still runs after `timeout_s`.
        """
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} (pid {self.pid}) still runs after {timeout_s:g} s") from None

    def stop(self, grace_s: float = 3.0) -> int:
        """SIGTERM, then SIGKILL after the grace."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        self.signal(signal.SIGKILL)
        return self._popen.wait(10)


def descendants(root: int | None = None) -> dict[int, str]:
    """Every living process below `root` (this process by default), with its command line."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, parent = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(entry))
    found: dict[int, str] = {}
    todo = children.get(os.getpid() if root is None else root, [])
    while todo:
        pid = todo.pop()
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        todo = todo + children.get(pid, [])
    return found


def kill_descendants(timeout_s: float = 5.0) -> dict[int, str]:
    """Kills whatever is below this process, until nothing is; returns what could not be killed."""
    end = time.monotonic() + timeout_s
    while (left := descendants()) and time.monotonic() < end:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        reap()
        time.sleep(0.02)
    reap()
    return left


def reap() -> None:
    """Collects children that ended, ours by adoption too."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
