"""Daemons that talk to their like: router advertisements, VRRP, OSPF, LLDP, STP, each the real program.

Each is started at once and looked at later, so that their timers run side by side.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netns.checks.side import Side
from netns.errors import ScenarioFailed, require
from netns.process import Process
from netns.waiting import wait_for

RA_PREFIX: Final = "fd99:77::"
VRRP_MASTER_PRIORITY: Final = 150
VRRP_BACKUP_PRIORITY: Final = 100
VRRP_ROUTER: Final = 51
OSPF_NETWORK: Final = "198.18.7.1"  # RFC 2544: of no network that the lab has
OSPF_HELLO_S: Final = 1
BRIDGE: Final = "br0"


@dataclass(frozen=True, slots=True)
class Started:
    """Daemons that run, since when, and how to tell that they do what they are for."""

    processes: tuple[Process, ...]
    began: float
    effect: Callable[[], str | None]
    what: str

    def wait(self, timeout_s: float) -> tuple[float, str]:
        """Waits for the effect; returns the seconds since the start, and what was seen.

        Raises:
            ScenarioFailed: it does not come, with the daemons' last words.
        """
        try:
            seen = wait_for(self.effect, timeout_s, self.what, interval_s=0.1)
        except ScenarioFailed as error:
            raise ScenarioFailed(f"{error}\n" + "\n".join(one.tail(8) for one in self.processes)) from None
        return round(time.monotonic() - self.began, 1), seen

    def stop(self) -> None:
        for process in self.processes:
            process.stop()


def router_advertisements(router: Side, host: Side) -> Started:
    """dnsmasq advertises a prefix; the host's kernel makes itself an address of it (RFC 4862)."""
    host.namespace.sysctl(f"net.ipv6.conf.{host.interface}.accept_ra", "2")
    router.namespace.address(f"{RA_PREFIX}1/64", router.interface)
    began = time.monotonic()
    daemon = router.namespace.start(
        "dnsmasq-ra", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--log-facility=-",
        f"--interface={router.interface}", "--bind-interfaces", "--except-interface=lo", "--enable-ra",
        f"--dhcp-range={RA_PREFIX},ra-only,64,10m", f"--ra-param={router.interface},4,60",
        f"--dhcp-leasefile={router.namespace.lab.path('ra.leases')}",
    )  # fmt: skip

    def address() -> str | None:
        links = host.namespace.ip_json("-6", "address", "show", "dev", host.interface)
        found = [one["local"] for link in links for one in link["addr_info"] if one["local"].startswith(RA_PREFIX)]
        return str(found[0]) if found else None

    return Started((daemon,), began, address, f"{host} has an address in {RA_PREFIX}/64")


def vrrp(side: Side, priority: int, address: str) -> Process:
    """keepalived, at its usual second between advertisements."""
    directory = side.namespace.lab.path(f"keepalived-{side.namespace.name}")
    directory.mkdir(exist_ok=True)
    (directory / "conf").write_text(
        f"global_defs {{\n router_id {side.namespace.name}\n}}\n"
        f"vrrp_instance lan {{\n state BACKUP\n interface {side.interface}\n virtual_router_id {VRRP_ROUTER}\n"
        f" priority {priority}\n advert_int 1\n virtual_ipaddress {{\n  {address}/24\n }}\n}}\n"
    )
    return side.namespace.start(
        f"keepalived-{side.namespace.name}", "keepalived", "--dont-fork", "--log-console", "--vrrp", "--dump-conf",
        f"--use-file={directory}/conf", f"--pid={directory}/pid", f"--vrrp_pid={directory}/vrrp.pid",
    )  # fmt: skip


def has_address(side: Side, address: str) -> bool:
    links = side.namespace.ip_json("-4", "address", "show", "dev", side.interface)
    return any(one["local"] == address for link in links for one in link["addr_info"])


def ospf(near: Side, far: Side) -> Started:
    """BIRD on both; the far one has a network of its own, to which the near one gets a route and pings."""
    far.namespace.run("ip", "address", "add", f"{OSPF_NETWORK}/32", "dev", "lo")
    began = time.monotonic()
    daemons = tuple(_bird(side) for side in (near, far))

    def learned() -> str | None:
        adjacency = near.namespace.run("birdc", "-s", str(_bird_socket(near)), "show", "ospf", "neighbors")
        require("Full/" in adjacency, f"no adjacency: {adjacency}")
        routes = near.namespace.ip_json("route", "show", OSPF_NETWORK)
        require(bool(routes), "no route")
        answered = near.namespace.try_run("ping", "-nqc1", "-W1", "-I", near.ipv4, OSPF_NETWORK)[0] == 0
        require(answered, f"no answer along {routes}")
        return f"Full, {routes[0]['dst']} via {routes[0]['gateway']} {routes[0].get('protocol')}"

    return Started(daemons, began, learned, f"{near} learns of {OSPF_NETWORK} by OSPF and reaches it")


def _bird(side: Side) -> Process:
    configuration = side.namespace.lab.path(f"bird-{side.namespace.name}.conf")
    configuration.write_text(
        f"log stderr all;\nrouter id {side.ipv4};\nprotocol device {{}}\n"
        "protocol kernel { ipv4 { export all; import none; }; }\n"
        "protocol ospf v2 { ipv4 { import all; export none; };\n"
        f' area 0 {{ interface "{side.interface}" {{ type broadcast; hello {OSPF_HELLO_S}; dead count 4;'
        f' wait {2 * OSPF_HELLO_S}; }}; interface "lo" {{ stub; }}; }};\n}}\n'
    )
    return side.namespace.start(
        f"bird-{side.namespace.name}", "bird", "-f", "-c", str(configuration), "-s", str(_bird_socket(side)),
        "-P", str(side.namespace.lab.path(f"bird-{side.namespace.name}.pid")),
    )  # fmt: skip


def _bird_socket(side: Side) -> str:
    return str(side.namespace.lab.path(f"bird-{side.namespace.name}.ctl"))


def lldp(a: Side, b: Side) -> Started:
    """lldpad on both; A lists B as its neighbour, by B's MAC."""
    began = time.monotonic()
    daemons = tuple(_lldpad(side) for side in (a, b))
    for side in (a, b):
        for words in (("-L", "adminStatus=rxtx"), ("-T", "-V", "sysName", "enableTx=yes")):
            set_up = ("lldptool", words[0], "-i", side.interface, *words[1:])
            wait_for(lambda: side.namespace.try_run(*set_up)[0] == 0, 5, f"lldpad at {side} serves")  # noqa: B023

    def neighbour() -> str | None:
        seen = a.namespace.try_run("lldptool", "-t", "-n", "-i", a.interface)[1]
        return " ".join(seen.split()) if f"MAC: {b.mac_text}" in seen else None

    return Started(daemons, began, neighbour, f"LLDP at {a} shows {b}")


def _lldpad(side: Side) -> Process:
    """Of two daemons of a machine the second one ends, by a name in /dev/shm: each gets its own."""
    configuration = side.namespace.lab.path(f"lldpad-{side.namespace.name}.conf")
    script = f"mount -t tmpfs tmpfs /dev/shm && exec lldpad -p -t -f {configuration}"
    return side.namespace.start(f"lldpad-{side.namespace.name}", "sh", "-c", script)


def spanning_tree(root: Side, other: Side) -> Started:
    """A bridge of Open vSwitch with STP (IEEE 802.1D) over each interface; both believe in one root.

    The Linux bridge hears BPDUs in the machine's first network namespace only (net/llc/llc_input.c).
    """
    began = time.monotonic()
    processes = [*_open_vswitch(root, priority=4096), *_open_vswitch(other, priority=32768)]

    def agreed() -> str | None:
        (own, at_root), (mine, at_other) = _bridge_status(root), _bridge_status(other)
        require(own != mine, f"both bridges are {own!r}")
        return own if own == at_root == at_other else None

    return Started(tuple(processes), began, agreed, "two bridges agree on their root")


def _open_vswitch(side: Side, priority: int) -> list[Process]:
    """The switch in user space (datapath netdev), with a database of its own."""
    directory = _switch_directory(side)
    directory.mkdir()
    name, database = side.namespace.name, f"unix:{directory}/db.sock"
    environment = {f"OVS_{kind}DIR": str(directory) for kind in ("RUN", "DB", "LOG", "SYSCONF")}
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    side.namespace.run("ovsdb-tool", "create", f"{directory}/conf.db", schema)
    server = side.namespace.start(
        f"ovsdb-{name}", "ovsdb-server", f"{directory}/conf.db", f"--remote=p{database}",
        f"--unixctl={directory}/db.ctl", env=environment,
    )  # fmt: skip
    wait_for((directory / "db.sock").exists, 5, f"ovsdb-server at {side} serves", interval_s=0.01)
    switch = side.namespace.start(
        f"ovs-{name}", "ovs-vswitchd", database, f"--unixctl={directory}/switch.ctl", "--disable-system",
        env=environment,
    )  # fmt: skip
    side.namespace.run(
        "ovs-vsctl", f"--db={database}", "--timeout=10", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE,
        "datapath_type=netdev", "stp_enable=true", f"other_config:stp-priority={priority}",
        "other_config:stp-hello-time=1", "--", "add-port", BRIDGE, side.interface, env=environment,
    )  # fmt: skip
    return [server, switch]


def _bridge_status(side: Side) -> tuple[str, str]:
    """Who a bridge is, and who it believes is root."""
    database = f"unix:{_switch_directory(side)}/db.sock"
    said = side.namespace.run("ovs-vsctl", f"--db={database}", "--timeout=5", "get", "bridge", BRIDGE, "status")
    found = dict(re.findall(r'(\w+)="([^"]*)"', said))
    return found.get("stp_bridge_id", ""), found.get("stp_designated_root", "")


def _switch_directory(side: Side) -> Path:
    return side.namespace.lab.path(f"ovs-{side.namespace.name}")
