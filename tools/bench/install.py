"""Getting Debian's peers: what `--install` does, outside of the lab."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import Final

ALWAYS: Final = ("iperf3",)
TIME_LIMIT_S: Final = 600.0


def packages(wanted: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed.

    Without dpkg there is nothing to ask, and nothing to install.
    """
    if shutil.which("dpkg-query") is None:
        return []
    return [package for package in dict.fromkeys((*ALWAYS, *wanted)) if package and not _is_installed(package)]


def install(missing: list[str]) -> str | None:
    """Installs Debian packages; returns why it could not, or None. A service that one brings does not start."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "RUNLEVEL": "1"}
    for arguments in (["update"], ["install", "--no-install-recommends", *missing]):
        command = [*as_root, "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=TIME_LIMIT_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{' '.join(command)}: {error}"
        if done.returncode != 0 and arguments[0] == "install":
            said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "sudo:"))]
            return f"apt-get install {' '.join(missing)}: {' '.join(said)[:300] or f'exit status {done.returncode}'}"
    return None


def _is_installed(package: str) -> bool:
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True, timeout=30
    )
    return done.stdout == "installed"
