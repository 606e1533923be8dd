"""systemd's readiness and watchdog protocol (sd_notify(3)); silent where there is no systemd."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Sends a state such as "READY=1" to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)
    except OSError:
        pass  # a service manager that went away is no reason to stop


def watchdog_gap_s() -> float | None:
    """How often WATCHDOG=1 is due: half of what the service manager allows; None where it does not watch."""
    micros = os.environ.get("WATCHDOG_USEC", "")
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(micros) / 2e6 if micros.isdigit() and watched else None
