"""ZeroTier on a planet of its own: b is its only root and the controller, a joins. Nothing asks the internet."""

import json
from typing import Any

from netns.namespace import Namespace
from tools.bench.peers.tunnel import Peer, Program, Tunnel

ONE = "zerotier-one"
MTU = 2800  # its default
PLANET = "8eac90a"  # the id of the built-in planet, which ours replaces by its newer timestamp


class ZeroTier(Tunnel):
    """Interface names come from the file devicemap."""

    interface = "bzt0"

    def prepare(self) -> None:
        ids = {name: self._identity(name) for name in ("a", "b")}
        self.network = f"{ids['b']}000001"
        self._planet()
        for name, _, underlay, _ in self.ends():
            settings = {
                "bind": [underlay], "portMappingEnabled": False, "allowSecondaryPort": False,
                "allowTcpFallbackRelay": False,
            }  # fmt: skip
            self.file(f"{name}/local.conf", json.dumps({"settings": settings}))
            self.file(f"{name}/devicemap", f"{self.network}={self.interface}\n")
            self.file(f"{name}/networks.d/{self.network}.conf", "")
        self.file(f"b/controller.d/network/{self.network}.json", json.dumps(self._network()))
        for name, _, _, address in self.ends():
            member = f"b/controller.d/network/{self.network}/member/{ids[name]}.json"
            self.file(member, json.dumps(self._member(ids[name], address)))

    def start_far(self) -> None:
        self._start("b", self.site.b)

    def start_near(self) -> None:
        self._start("a", self.site.a)

    def _start(self, name: str, machine: Namespace) -> None:
        self.site.spawn(machine, self.programs[ONE], "-U", str(self.site.directory / name))

    def _identity(self, name: str) -> str:
        (self.site.directory / name).mkdir()
        self.run(ONE, "-i", "generate", f"{name}/identity.secret", f"{name}/identity.public")
        return (self.site.directory / name / "identity.public").read_text().split(":")[0]

    def _planet(self) -> None:
        planet: dict[str, Any] = json.loads(self.run(ONE, "-i", "initmoon", "b/identity.public"))
        planet["worldType"], planet["id"] = "planet", PLANET
        planet["roots"][0]["stableEndpoints"] = [f"{self.site.b_ip}/9993"]
        self.file("planet.json", json.dumps(planet))
        self.run(ONE, "-i", "genmoon", "planet.json")
        made = (self.site.directory / f"{PLANET:0>16}.moon").read_bytes()
        for name in ("a", "b"):
            (self.site.directory / name / "planet").write_bytes(made)

    def _network(self) -> dict[str, Any]:
        return {
            "id": self.network, "nwid": self.network, "objtype": "network", "name": "bench", "private": True,
            "enableBroadcast": True, "mtu": MTU, "multicastLimit": 32, "revision": 1,
            "routes": [{"target": "10.9.0.0/24", "via": None}], "v4AssignMode": {"zt": False},
            "v6AssignMode": {"6plane": False, "rfc4193": False, "zt": False}, "ipAssignmentPools": [],
            "capabilities": [], "tags": [], "rules": [{"type": "ACTION_ACCEPT", "not": False, "or": False}],
            "rulesSource": "", "remoteTraceTarget": None, "remoteTraceLevel": 0, "authTokens": [None], "dns": [],
        }  # fmt: skip

    def _member(self, identity: str, address: str) -> dict[str, Any]:
        return {
            "id": identity, "address": identity, "nwid": self.network, "objtype": "member", "authorized": True,
            "ipAssignments": [address], "activeBridge": False, "noAutoAssignIps": True, "revision": 1,
            "capabilities": [], "tags": [],
        }  # fmt: skip


ZEROTIER = Peer(
    "zerotier", "L2", f"its own planet, AES-GMAC-SIV, MTU {MTU} (its default)", ZeroTier, (Program(ONE, "ZEROTIER"),),
    version_command=("-v",),
)  # fmt: skip
