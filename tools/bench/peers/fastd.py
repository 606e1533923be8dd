"""fastd, mode tap."""

from typing import Final

from netns.namespace import Namespace
from tools.bench.peers.tunnel import A_TUNNEL_IP, B_TUNNEL_IP, R_TUNNEL_IP, Daemons, Peer, Program

PORT: Final = 10000


class Fastd(Daemons):
    """b is passive: with `remote` on both sides two half-sessions can come up, and nothing passes."""

    def prepare(self) -> None:
        site, names = self.site, ("a", "b", *("r" if self.site.is_relayed else ()))
        self.secret: dict[str, str] = {}
        self.public: dict[str, str] = {}
        for name in names:
            said = dict(line.split(": ") for line in self.run("fastd", "--generate-key").splitlines() if ": " in line)
            self.secret[name], self.public[name] = said["Secret"].strip(), said["Public"].strip()
        if site.is_relayed:
            self._configure("a", site.a_ip, A_TUNNEL_IP, {"r": site.r_to_a_ip})
            self._configure("b", site.b_ip, B_TUNNEL_IP, {"r": site.r_to_b_ip})
            self._configure("r", "any", R_TUNNEL_IP, {"a": None, "b": None}, "forward yes;")
        else:
            self._configure("a", site.a_ip, A_TUNNEL_IP, {"b": site.b_ip})
            self._configure("b", site.b_ip, B_TUNNEL_IP, {"a": None})

    def start(self, name: str, machine: Namespace) -> None:
        self.site.spawn(machine, self.programs["fastd"], "-c", f"{name}.conf")

    def _configure(self, name: str, bind: str, address: str, peers: dict[str, str | None], more: str = "") -> None:
        blocks = "\n".join(
            f'peer "{peer}" {{ key "{self.public[peer]}"; {f"remote {ip} port {PORT};" if ip else ""} }}'
            for peer, ip in peers.items()
        )
        self.file(
            f"{name}.conf",
            f"""log level info; mode tap; interface "tap0"; method "salsa2012+umac"; mtu 1426; bind {bind}:{PORT};
secret "{self.secret[name]}"; {more}
on up "ip addr add {address}/24 dev $INTERFACE; ip link set up dev $INTERFACE";
{blocks}
""",
        )


FASTD = Peer(
    "fastd",
    "L2",
    "mode tap, salsa2012+umac, MTU 1426 (its manual's value)",
    Fastd,
    (Program("fastd", package="fastd"),),
)
