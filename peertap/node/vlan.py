"""One VLAN as this node takes part in it: its tokens, its origin, its members."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from peertap._core import VlanKeys
from peertap.types import Mac, PeerId, Sid, Token, TrunkId, VlanIndex, VTag
from peertap.vlan.introductions import Identity, Introductions
from peertap.vlan.membership import KeySource
from peertap.vlan.names import BROADCAST, KIND_GROUP, NO_MAC
from peertap.vlan.record import Port
from peertap.wire.routes import KIND_TREE, KIND_UNICAST, Origin, SignedJoin, SignedRoute, SignedSubscription, vtag_of

ROUTE_LIFETIME_S: Final = 48 * 3600  # PROTOCOL 5: expiry of a route
REFRESH_S: Final = 12 * 3600  # ours: announced again well before
JOIN_LIFETIME_S: Final = 48 * 3600  # ours: as routes
MAX_TOKENS_KEPT: Final = 16_384  # ours: made again when they are needed again
MOST_START_METRIC: Final = 4  # PROTOCOL 5: so that a neighbour cannot tell an owner from one behind it
DEFAULT_PRIORITY: Final = 128  # ours: the middle
LEAF_PRIORITY: Final = 192  # ours: a transit is the better root


@dataclass(frozen=True, slots=True)
class VlanSettings:
    """A VLAN as this node is to take part in it.

    Args:
        port: its interface; None: the shell knows it, or there is none.
        is_inside: it carries frames; otherwise letters alone, and `status` does not name it.
    """

    source: KeySource
    bridge: bool = False
    port: Port | None = None
    is_inside: bool = True
    mac_nonce: int = 0


class Names:
    """The tokens of a VLAN under one routing secret, and what this node announces under them."""

    def __init__(self, keys: VlanKeys, mac: Mac, *, start_ms: int, random: Callable[[int], bytes]) -> None:
        self.vtag: Final = vtag_of(keys.route_public)
        self.token: Final = Token(keys.token(KIND_UNICAST, mac))
        self.group_token: Final = Token(keys.token(KIND_GROUP, BROADCAST))
        self.tree_token: Final = Token(keys.token(KIND_TREE, NO_MAC))
        self.origin = Origin(DEFAULT_PRIORITY, start_ms, random(9))  # of the unicast token
        self.tree_origin = Origin(DEFAULT_PRIORITY, start_ms, random(9))
        self.start_metric: Final = 1 + random(1)[0] % MOST_START_METRIC
        self.outbid = False
        self.until = float("inf")
        self.group_edges: set[tuple[TrunkId, Origin]] = set()  # edges that frames can take now
        self.reachable: set[Mac] = set()  # members to whose token there is a hop now
        self.asked = 0  # how often another member's token was needed
        self.keys: Final = keys
        self._sequences = {KIND_UNICAST: 0, KIND_TREE: 0}
        self._tokens: dict[Mac, Token] = {}

    def token_of(self, mac: Mac) -> Token:
        """The unicast token of a member's virtual MAC."""
        token = self._tokens.get(mac)
        if token is None:
            if len(self._tokens) >= MAX_TOKENS_KEPT:
                self._tokens.clear()
            token = self._tokens[mac] = Token(self.keys.token(KIND_UNICAST, mac))
            self.asked += 1
        return token

    def needs(self) -> list[tuple[VTag, Token]]:
        """What a leaf has to be told of: the tree, and the members that it sends to."""
        return [(self.vtag, self.tree_token), *((self.vtag, token) for token in self._tokens.values())]

    def keep(self, macs: set[Mac]) -> None:
        """Members that are gone are needed no more."""
        for mac in [mac for mac in self._tokens if mac not in macs]:
            del self._tokens[mac]
            self.asked += 1

    def key_of(self, mac: Mac) -> tuple[VTag, Token]:
        """What routes to a member are kept under."""
        return self.vtag, self.token_of(mac)

    def route(self, kind: int, now_unix: float) -> SignedRoute:
        """A fresh announcement of our unicast or tree token."""
        self._sequences[kind] = (self._sequences[kind] + 1) & 0xFFFFFFFF
        keys = self.keys
        token, origin = (self.token, self.origin) if kind == KIND_UNICAST else (self.tree_token, self.tree_origin)
        fields = (keys.route_public, kind, token, origin, self._sequences[kind], int(now_unix) + ROUTE_LIFETIME_S)
        return SignedRoute(*fields, signature=keys.sign_route(SignedRoute.unsigned(*fields)))

    def join(self, root: Origin, now_unix: float) -> SignedJoin:
        """Our wish for the VLAN's broadcast frames in the tree of this root."""
        keys = self.keys
        fields = (keys.route_public, root, self.group_token, int(now_unix) + JOIN_LIFETIME_S)
        return SignedJoin(*fields, signature=keys.sign_route(SignedJoin.unsigned(*fields)))

    def stand_as(self, priority: int) -> None:
        """How good a root we are from now on; the smaller the better."""
        self.tree_origin = self.tree_origin._replace(priority=priority)

    def subscription(self, root: Origin, token: Token, now_unix: float) -> SignedSubscription:
        """Our wish for a multicast group's frames in the tree of this root."""
        keys = self.keys
        fields = (keys.route_public, root, token, int(now_unix) + JOIN_LIFETIME_S)
        return SignedSubscription(*fields, signature=keys.sign_route(SignedSubscription.unsigned(*fields)))

    def adopt_later_start(self, start_ms: int) -> None:
        """Another origin announces our token with a later start: outbid it once (SPEC 6.1)."""
        self.origin = Origin(self.origin.priority, start_ms + 1, self.origin.random)
        self.outbid = True


class LocalVlan:
    """A VLAN of this node."""

    def __init__(
        self,
        index: VlanIndex,
        settings: VlanSettings,
        identity: Identity,
        *,
        start_ms: int,
        random: Callable[[int], bytes],
    ) -> None:
        self.index: Final = index
        self.source: Final = settings.source
        self.bridge: Final = settings.bridge
        self.port: Final = settings.port
        self.is_inside: Final = settings.is_inside
        self.introductions: Final = Introductions(
            settings.source,
            identity,
            sid=Sid(random(16)),
            random=random,
            mac_nonce=settings.mac_nonce,
            token_to=lambda mac: self.towards(mac).token_of(mac) if mac is not None else self.for_group().group_token,
        )
        self.mac: Final = self.introductions.mac
        self.names = [Names(settings.source.keys, self.mac, start_ms=start_ms, random=random)]  # newest first
        self.has_router = False  # a multicast router is behind our ports

    @property
    def newest(self) -> Names:
        """The names under the routing secret that holds now."""
        return self.names[0]

    def towards(self, mac: Mac) -> Names:
        """Under which names frames go to a member: the newest in which there is a way."""
        return next((one for one in self.names if mac in one.reachable), self.newest)

    def for_group(self) -> Names:
        """Under which names group frames go: the newest, once everybody can be reached in it."""
        known = set().union(*(one.reachable for one in self.names))
        ready = (one for one in self.names if one.group_edges and one.reachable >= known)
        some = (one for one in self.names if one.group_edges)
        return next(ready, None) or next(some, None) or self.newest

    def renumbered(self) -> VlanSettings:
        """The same with the next virtual MAC."""
        return VlanSettings(self.source, self.bridge, self.port, self.is_inside, self.introductions.mac_nonce + 1)

    def may_bridge(self, member: PeerId) -> bool:
        """Whether other MACs may be behind a member."""
        return self.source.may_bridge(member, default=self.bridge)

    def member_macs(self) -> dict[Mac, PeerId]:
        return {peer.mac: peer.member for peer in self.introductions.peers.values()}
