"""Services that live on broadcast and multicast: DHCP by dnsmasq and a real client, mDNS by two avahi daemons."""

import re
import shutil
from pathlib import Path
from typing import Final

from netns.checks.side import Side
from netns.errors import LabError, require
from netns.process import Process
from netns.waiting import wait_for

DHCP_SERVER: Final = "10.99.77.1"
DHCP_RANGE: Final = ("10.99.77.100", "10.99.77.110")
SERVICE_TYPE: Final = "_peertap-test._tcp"
SERVICE_PORT: Final = 4242
USERS: Final = ("root", "avahi", "netdev", "messagebus")
SERVICE_TEXT: Final = "greeting=hello-across-peertap"


def dhcp(a: Side, b: Side) -> str:
    """dnsmasq at A leases an address to a client at B; returns the address. Nothing stays configured."""
    a.namespace.address(f"{DHCP_SERVER}/24", a.interface)
    server = a.namespace.start(
        "dnsmasq", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--log-dhcp", "--log-facility=-",
        f"--interface={a.interface}", "--bind-interfaces", "--except-interface=lo", "--dhcp-authoritative", "--no-ping",
        f"--dhcp-range={DHCP_RANGE[0]},{DHCP_RANGE[1]},255.255.255.0,10m",
        f"--dhcp-leasefile={a.namespace.lab.path('dhcp.leases')}",
    )  # fmt: skip
    try:
        wait_for(lambda: "DHCP, " in server.text(), 5, "dnsmasq serves")
        leased = _lease(b)
    finally:
        server.stop()
        a.namespace.run("ip", "address", "del", f"{DHCP_SERVER}/24", "dev", a.interface)
    require(leased.startswith(DHCP_SERVER[:-1]), f"DHCP leased {leased!r}")
    return leased


def _lease(b: Side) -> str:
    """Runs a DHCP client whose script only prints what it was given."""
    script = b.namespace.lab.path("dhcp-script")
    script.write_text('#!/bin/sh\necho "leased ${ip:-$new_ip_address} for ${1:-$reason}"\n')
    script.chmod(0o755)
    if client := shutil.which("udhcpc"):
        command = [client, "-i", b.interface, "-n", "-q", "-f", "-t", "5", "-T", "1", "-s", str(script)]
    elif client := shutil.which("dhclient"):
        files = [flag for kind in ("lf", "pf") for flag in (f"-{kind}", str(b.namespace.lab.path(f"dhclient.{kind}")))]
        command = [client, "-4", "-1", "-d", "-q", *files, "-sf", str(script), b.interface]
        command = ["timeout", "--preserve-status", "8", *command]  # it stays; the lease is printed long before
    else:
        raise LabError("no DHCP client here: apt-get install udhcpc")
    _, out, error = b.namespace.try_run(*command, timeout_s=20)
    found = re.findall(r"leased (\d[\d.]+) for (?:bound|BOUND)", out)
    require(bool(found), f"the DHCP client got no lease: {(out + error)[-600:]}")
    return str(found[0])


def mdns(a: Side, b: Side) -> str:
    """avahi at A announces a service; avahi at B finds and resolves it. Returns the line that avahi-browse printed."""
    daemons = [_avahi(a, "peertap-a", announces=True), _avahi(b, "peertap-b", announces=False)]
    bus = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={_bus_socket(b)}"}
    try:
        for daemon in daemons:
            wait_for(lambda daemon=daemon: "Server startup complete" in daemon.text(), 15, f"{daemon.name} started")  # type: ignore[misc]

        def resolved() -> str | None:
            _, out, _ = b.namespace.try_run("avahi-browse", "-rpt", SERVICE_TYPE, env=bus, timeout_s=8)
            lines = [line for line in out.splitlines() if line.startswith("=;") and f";{a.ipv4};" in line]
            return lines[0] if lines else None

        line = wait_for(resolved, 15, f"avahi-browse at {b.namespace.name} resolves {SERVICE_TYPE}", interval_s=0.2)
    finally:
        for daemon in daemons:
            daemon.stop()
    require(SERVICE_TEXT in line and f";{SERVICE_PORT};" in line, f"mDNS: {line}")
    return line


def _avahi(side: Side, host: str, *, announces: bool) -> Process:
    """avahi-daemon (and a D-Bus of its own, to browse by), with /run and /etc/avahi private to its mount namespace."""
    directory = side.namespace.lab.path(f"avahi-{side.namespace.name}")
    (directory / "etc" / "services").mkdir(parents=True, exist_ok=True)
    (directory / "run").mkdir(exist_ok=True)
    (directory / "etc" / "avahi-daemon.conf").write_text(
        f"[server]\nhost-name={host}\nallow-interfaces={side.interface}\nuse-ipv6=no\nratelimit-burst=1000\n"
        f"enable-dbus={'no' if announces else 'yes'}\n[publish]\npublish-workstation=no\n"
    )
    if announces:
        (directory / "etc" / "services" / "test.service").write_text(
            f"<service-group><name>peertap test</name><service><type>{SERVICE_TYPE}</type><port>{SERVICE_PORT}</port>"
            f"<txt-record>{SERVICE_TEXT}</txt-record></service></service-group>"
        )
    (directory / "bus.conf").write_text(
        f"<busconfig><type>session</type><listen>unix:path={_bus_socket(side)}</listen><auth>EXTERNAL</auth>"
        '<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>'
        '<allow receive_sender="*"/><allow eavesdrop="true"/></policy></busconfig>'
    )
    start_bus = f"dbus-daemon --config-file={directory}/bus.conf --nofork --nopidfile & " if not announces else ""
    wait_bus = f"while [ ! -S {_bus_socket(side)} ]; do sleep 0.02; done; " if not announces else ""
    # A user namespace maps one user: here the users that avahi wants to be are root.
    (directory / "passwd").write_text("".join(f"{user}:x:0:0::/:/bin/sh\n" for user in USERS))
    (directory / "group").write_text("".join(f"{user}:x:0:\n" for user in USERS))
    script = (
        "set -e; mkdir -p /run/avahi-daemon; "
        f"mount --bind {directory}/run /run/avahi-daemon; mount --bind {directory}/etc /etc/avahi; "
        f"mount --bind {directory}/passwd /etc/passwd; mount --bind {directory}/group /etc/group; "
        f"{start_bus}{wait_bus}"
        "exec avahi-daemon --no-drop-root --no-chroot --no-rlimits --no-proc-title"
    )
    for program in ("avahi-daemon", "avahi-browse", "dbus-daemon"):
        if shutil.which(program) is None:
            raise LabError(f"{program} is missing: apt-get install avahi-daemon avahi-utils dbus-daemon")
    environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={_bus_socket(side)}"}
    side.namespace.lab.path(f"avahi-{side.namespace.name}.log").unlink(missing_ok=True)
    return side.namespace.start(f"avahi-{side.namespace.name}", "sh", "-c", script, env=environment)


def _bus_socket(side: Side) -> Path:
    return side.namespace.lab.path(f"avahi-{side.namespace.name}") / "bus"
