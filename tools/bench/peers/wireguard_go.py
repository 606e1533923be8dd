"""wireguard-go, configured through its own socket."""

import socket
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from netns.errors import LabError
from netns.waiting import wait_for
from tools.bench.peers.tunnel import A_TUNNEL_IP, B_TUNNEL_IP, Peer, Program, Tunnel

PORT: Final = 51820
SOCKETS: Final = Path("/var/run/wireguard")  # it is built in; /run is the lab's own
NAME: Final = "wireguard-go"
# without it, it tells people to use the kernel's, and ends
ENVIRONMENT: Final = {"WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KERNEL": "1"}


class WireGuardGo(Tunnel):
    """The socket is named after the interface, so that the two ends have different ones."""

    interface = "bwga"
    interface_b = "bwgb"

    def prepare(self) -> None:
        self.key = {name: X25519PrivateKey.generate() for name in ("a", "b")}

    def start_far(self) -> None:
        self.site.spawn(self.site.b, self.programs[NAME], "-f", self.interface_b, env=ENVIRONMENT)
        self._configure(self.interface_b, "b", "a", self.site.a_ip)
        self.site.interface_up(self.site.b, self.interface_b, f"{B_TUNNEL_IP}/24")

    def start_near(self) -> None:
        self.site.spawn(self.site.a, self.programs[NAME], "-f", self.interface, env=ENVIRONMENT)
        self._configure(self.interface, "a", "b", self.site.b_ip)
        self.site.interface_up(self.site.a, self.interface, f"{A_TUNNEL_IP}/24")

    def _configure(self, interface: str, name: str, other: str, endpoint: str) -> None:
        path = SOCKETS / f"{interface}.sock"
        wait_for(path.exists, 10, f"{NAME} opens {path}", interval_s=0.005)
        public = self.key[other].public_key().public_bytes_raw().hex()
        request = (
            f"set=1\nprivate_key={self.key[name].private_bytes_raw().hex()}\nlisten_port={PORT}\n"
            f"public_key={public}\nendpoint={endpoint}:{PORT}\nallowed_ip=10.9.0.0/24\n\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(request.encode())
            answer = connection.recv(4096).decode()
        if "errno=0" not in answer:
            raise LabError(f"{NAME} takes no configuration: {answer.strip()}")


WIREGUARD_GO = Peer("wireguard-go", "L3", "MTU 1420 (its default)", WireGuardGo, (Program(NAME, "WIREGUARD_GO"),))
