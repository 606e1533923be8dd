"""vpncloud, type tap."""

from netns.namespace import Namespace
from tools.bench.peers.tunnel import A_TUNNEL_IP, B_TUNNEL_IP, Peer, Program, Tunnel


class VpnCloud(Tunnel):
    """It wants a default route to find its own address; without the tunnel that one must not lead to the other end."""

    interface = "vc0"

    def prepare(self) -> None:
        self.site.a.route("default", self.site.b_ip)
        self.site.b.route("default", self.site.a_ip)
        for machine in (self.site.a, self.site.b):
            machine.run("ip", "route", "add", "unreachable", "10.9.0.0/24", "metric", "9999")

    def start_far(self) -> None:
        self._start(self.site.b, self.site.b_ip, B_TUNNEL_IP)

    def start_near(self) -> None:
        self._start(self.site.a, self.site.a_ip, A_TUNNEL_IP, "-c", f"{self.site.b_ip}:3210")

    def _start(self, machine: Namespace, underlay: str, address: str, *more: str) -> None:
        self.site.spawn(
            machine, self.programs["vpncloud"], "-t", "tap", "-m", "normal", "-d", self.interface,
            "-l", f"{underlay}:3210", "-p", "bench", "--algorithm", "AES256", "--ip", f"{address}/24",
            "--no-port-forwarding", *more,
        )  # fmt: skip


VPNCLOUD = Peer("vpncloud", "L2", "type tap, AES-256, its default MTU", VpnCloud, (Program("vpncloud", "VPNCLOUD"),))
