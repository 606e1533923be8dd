"""Getting into a world of our own: one user, network and mount namespace with a private /run.

    python -m netns run NAME
      └─ exec unshare -Urnm python -m netns run NAME      (PEERTAP_NETNS_INSIDE=1)
           /run is a tmpfs, /run/netns holds our namespaces, nothing is visible outside

Where user namespaces are forbidden, root gets the same without the user namespace.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NoReturn

from netns.errors import LabError

INSIDE: Final = "PEERTAP_NETNS_INSIDE"
REPOSITORY: Final = Path(__file__).resolve().parent.parent
PROGRAMS: Final = {
    "ip": "iproute2",
    "nft": "nftables",
    "ping": "iputils-ping",
    "iperf3": "iperf3",
    "ethtool": "ethtool",
    "setpriv": "util-linux",
}


def is_inside() -> bool:
    return os.environ.get(INSIDE) == "1"


def enter(arguments: list[str], *, module: str = "netns", as_root_first: bool = False) -> NoReturn:
    """Replaces this process by itself inside the namespaces.

    Args:
        module: what runs inside: `python -m MODULE ARGUMENTS`.
        as_root_first: root keeps its rights over the machine's limits (buffers), as a service would have them.

    Raises:
        LabError: neither way works here.
    """
    path = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"  # not in the PATH of an ordinary user
    own = [sys.executable, "-m", module, *arguments]
    ways = [["unshare", "-Urnm"], ["unshare", "-nm"]]
    for unshare in reversed(ways) if as_root_first else ways:
        if _works(unshare):
            os.chdir(REPOSITORY)
            os.execvpe(unshare[0], [*unshare, *own], {**os.environ, INSIDE: "1", "PATH": path})  # noqa: S606 - no shell is wanted
    raise LabError(
        "this machine allows no namespaces here: run as root, or set sysctl kernel.unprivileged_userns_clone=1"
        " (and kernel.apparmor_restrict_unprivileged_userns=0 where it exists)"
    )


def furnish() -> None:
    """Once inside: a private /run, and loopback up.

    Raises:
        LabError: a program that every scenario needs is missing, or the machine refuses.
    """
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise LabError(f"{program} is missing: apt-get install {package}")
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"],
        ["ip", "link", "set", "lo", "up"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    Path("/run/netns").mkdir()
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        hint = "modprobe tun" if isinstance(error, FileNotFoundError) else "chmod 0666 /dev/net/tun, or run as root"
        raise LabError(f"/dev/net/tun: {error.strerror}; to fix it: {hint}") from error


def _works(unshare: list[str]) -> bool:
    try:
        probe = [*unshare, "mount", "-t", "tmpfs", "tmpfs", "/run"]
        return subprocess.run(probe, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"unshare (package util-linux): {error}") from error
