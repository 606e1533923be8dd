"""nebula; b is the lighthouse, or r, which relays then."""

from typing import Final

from netns.namespace import Namespace
from tools.bench.peers.tunnel import A_TUNNEL_IP, B_TUNNEL_IP, R_TUNNEL_IP, Daemons, Peer, Program

PORT: Final = 4242


class Nebula(Daemons):
    """Certificates of one authority, all traffic allowed."""

    interface = "neb1"

    def prepare(self) -> None:
        site = self.site
        self.run("nebula-cert", "ca", "-name", "bench", "-out-crt", "ca.crt", "-out-key", "ca.key")
        if site.is_relayed:
            relay = f"relay: {{relays: ['{R_TUNNEL_IP}'], am_relay: false, use_relays: true}}"
            self._node("a", A_TUNNEL_IP, site.a_ip, f"{_lighthouse(R_TUNNEL_IP, site.r_to_a_ip)}\n{relay}")
            self._node("b", B_TUNNEL_IP, site.b_ip, f"{_lighthouse(R_TUNNEL_IP, site.r_to_b_ip)}\n{relay}")
            relaying = "lighthouse: {am_lighthouse: true}\nrelay: {am_relay: true, use_relays: false}"
            self._node("r", R_TUNNEL_IP, "0.0.0.0", relaying)  # noqa: S104 - a namespace of the lab
        else:
            self._node("a", A_TUNNEL_IP, site.a_ip, _lighthouse(B_TUNNEL_IP, site.b_ip))
            self._node("b", B_TUNNEL_IP, site.b_ip, "lighthouse: {am_lighthouse: true}")

    def start(self, name: str, machine: Namespace) -> None:
        self.site.spawn(machine, self.programs["nebula"], "-config", str(self.site.directory / f"{name}.yml"))

    def _node(self, name: str, address: str, listen: str, more: str) -> None:
        directory = self.site.directory
        self.run(
            "nebula-cert", "sign", "-ca-crt", "ca.crt", "-ca-key", "ca.key", "-name", name, "-ip", f"{address}/24",
            "-out-crt", f"{name}.crt", "-out-key", f"{name}.key",
        )  # fmt: skip
        self.file(
            f"{name}.yml",
            f"""pki: {{ca: {directory}/ca.crt, cert: {directory}/{name}.crt, key: {directory}/{name}.key}}
listen: {{host: {listen}, port: {PORT}}}
tun: {{dev: {self.interface}}}
punchy: {{punch: false}}
firewall: {{outbound: [{{port: any, proto: any, host: any}}], inbound: [{{port: any, proto: any, host: any}}]}}
{more}
""",
        )


def _lighthouse(address: str, underlay: str) -> str:
    return (
        f"static_host_map: {{'{address}': ['{underlay}:{PORT}']}}\n"
        f"lighthouse: {{am_lighthouse: false, hosts: ['{address}']}}"
    )


def _program(name: str) -> Program:
    return Program(name, "NEBULA_BIN", is_folder=True, folders=("nebula-1.10",), package="nebula")


NEBULA = Peer(
    "nebula", "L3", "AES-256-GCM, MTU 1300 (its default)", Nebula, (_program("nebula"), _program("nebula-cert")),
    version_command=("-version",),
)  # fmt: skip
