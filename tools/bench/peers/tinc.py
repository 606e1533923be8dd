"""tinc 1.0, and tincr, which speaks the configuration of tinc 1.1."""

from typing import ClassVar

from netns.namespace import Namespace
from tools.bench.peers.tunnel import A_TUNNEL_IP, B_TUNNEL_IP, R_TUNNEL_IP, Daemons, Peer, Program


class Tinc(Daemons):
    """Everybody has everybody's key; a connects to b, or both to r."""

    def prepare(self) -> None:
        site, names = self.site, ["a", "b"]
        if site.is_relayed:
            names.append("r")
            self._node("r", (site.r_to_a_ip, site.r_to_b_ip), R_TUNNEL_IP, "")
            self._node("a", (site.a_ip,), A_TUNNEL_IP, "noder")
            self._node("b", (site.b_ip,), B_TUNNEL_IP, "noder")
        else:
            self._node("a", (site.a_ip,), A_TUNNEL_IP, "nodeb")
            self._node("b", (site.b_ip,), B_TUNNEL_IP, "")
        hosts = {name: (site.directory / name / "hosts" / f"node{name}").read_text() for name in names}
        for name in names:
            for other, text in hosts.items():
                self.file(f"{name}/hosts/node{other}", text)

    def start(self, name: str, machine: Namespace) -> None:
        directory = self.site.directory
        self.site.spawn(
            machine, self.programs["tincd"], "-c", str(directory / name), "-D", f"--pidfile={directory / name}.pid"
        )

    def _node(self, name: str, underlay: tuple[str, ...], address: str, connect_to: str) -> None:
        self.file(f"{name}/tinc.conf", self._settings(name, connect_to))
        self.file(f"{name}/hosts/node{name}", "".join(f"Address = {ip}\n" for ip in underlay))
        self._up_script(name, address)
        self.run("tincd", "-c", str(self.site.directory / name), "-K2048")

    def _settings(self, name: str, connect_to: str) -> str:
        connect = f"ConnectTo = {connect_to}\n" if connect_to else ""
        return f"Name = node{name}\nMode = switch\nInterface = {self.interface}\n{connect}"

    def _up_script(self, name: str, address: str) -> None:
        script = f"#!/bin/sh\nip addr add {address}/24 dev $INTERFACE\nip link set $INTERFACE up\n"
        self.file(f"{name}/tinc-up", script, mode=0o700)


class TincrTap(Tinc):
    """The same by tincr's own tools."""

    interface = "tr0"
    mode: ClassVar[str] = "switch"
    device: ClassVar[str] = "tap"

    def _node(self, name: str, underlay: tuple[str, ...], address: str, connect_to: str) -> None:
        directory = self.site.directory / name
        self.run("tinc", "-c", str(directory), "init", f"node{name}")
        more = f"DeviceType = {self.device}\nSPTPSCipher = aes-256-gcm\n"
        self.file(f"{name}/tinc.conf", self._settings(name, connect_to).replace("switch", self.mode) + more)
        host = directory / "hosts" / f"node{name}"
        lines = "".join(f"Address = {ip}\n" for ip in underlay)
        self.file(f"{name}/hosts/node{name}", f"{host.read_text()}\n{lines}Subnet = {address}\n")
        self._up_script(name, address)


class TincrTun(TincrTap):
    """Router mode over a TUN, with segmentation offload."""

    mode = "router"
    device = "tun"


def _tincr(name: str) -> Program:
    # never on PATH: programs of these names are tinc's
    return Program(name, "TINCR_BIN", is_folder=True, folders=("tincr",), on_path=False)


TINC = Peer(
    "tinc", "L2", "1.0, mode switch, AES-256-CBC and SHA-256 (its defaults), RSA 2048", Tinc,
    (Program("tincd", package="tinc"),),
)  # fmt: skip
TINCR_TAP = Peer("tincr-tap-aes", "L2", "mode switch, TAP, AES-256-GCM", TincrTap, (_tincr("tincd"), _tincr("tinc")))
TINCR_TUN = Peer("tincr-tun-aes", "L3", "mode router, TUN, AES-256-GCM", TincrTun, (_tincr("tincd"), _tincr("tinc")))
