"""No tunnel: what the cable itself gives."""

from tools.bench.peers.tunnel import Peer, Tunnel
from tools.bench.topology import without_offloads


class Bare(Tunnel):
    """A cable needs nothing."""

    interface = "ua"
    interface_b = "ub"

    def prepare(self) -> None:
        self.destination = self.site.b_ip

    def start_far(self) -> None:
        return

    def start_near(self) -> None:
        return


class BareWithoutOffloads(Bare):
    """One packet for each 1500-byte frame."""

    def prepare(self) -> None:
        super().prepare()
        without_offloads(self.site)


VETH = Peer("veth", "-", "the cable itself: a veth pair, MTU 1500, its offloads on", Bare)
VETH_NOOFFLOAD = Peer(
    "veth-nooffload", "-", "the same without offloads: one packet for each 1500-byte frame", BareWithoutOffloads
)
