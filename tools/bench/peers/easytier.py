"""EasyTier over its UDP tunnel."""

from tools.bench.peers.tunnel import A_TUNNEL_IP, B_TUNNEL_IP, Peer, Program, Tunnel

NAME = "easytier-core"


class EasyTier(Tunnel):
    """One udp:// link, fixed addresses on a TUN, a network secret."""

    interface = "et0"

    def prepare(self) -> None:
        self.command = [
            self.programs[NAME], "--network-name", "bench", "--network-secret", "bench", "--dev-name", self.interface,
        ]  # fmt: skip

    def start_far(self) -> None:
        listen = f"udp://{self.site.b_ip}:11010"
        self.site.spawn(self.site.b, *self.command, "--hostname", "b", "-i", f"{B_TUNNEL_IP}/24", "-l", listen)

    def start_near(self) -> None:
        far = f"udp://{self.site.b_ip}:11010"
        self.site.spawn(
            self.site.a, *self.command, "--hostname", "a", "-i", f"{A_TUNNEL_IP}/24", "--no-listener", "-p", far
        )


EASYTIER = Peer(
    "easytier",
    "L3",
    "udp://, TUN, AES-128-GCM and MTU 1360 (its defaults)",
    EasyTier,
    (Program(NAME, "EASYTIER", aliases=("easytier",)),),
)
