"""All peers, by name."""

from typing import Final

from tools.bench.peers.bare import VETH, VETH_NOOFFLOAD
from tools.bench.peers.easytier import EASYTIER
from tools.bench.peers.fastd import FASTD
from tools.bench.peers.nebula import NEBULA
from tools.bench.peers.openvpn import OPENVPN
from tools.bench.peers.peertap import PEERTAP
from tools.bench.peers.tinc import TINC, TINCR_TAP, TINCR_TUN
from tools.bench.peers.tunnel import Peer
from tools.bench.peers.vpncloud import VPNCLOUD
from tools.bench.peers.wireguard_go import WIREGUARD_GO
from tools.bench.peers.zerotier import ZEROTIER

_ALL: Final = (
    PEERTAP, FASTD, TINC, OPENVPN, NEBULA, TINCR_TAP, TINCR_TUN, VPNCLOUD, ZEROTIER, EASYTIER, WIREGUARD_GO, VETH,
    VETH_NOOFFLOAD,
)  # fmt: skip
PEERS: Final[dict[str, Peer]] = {peer.name: peer for peer in _ALL}
