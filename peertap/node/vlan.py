"""One VLAN as this node takes part in it: its tokens, its origin, its members."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from peertap.types import Mac, PeerId, Sid, Token, TrunkId, VlanIndex
from peertap.vlan.introductions import Identity, Introductions
from peertap.vlan.membership import KeySource
from peertap.vlan.names import BROADCAST, KIND_GROUP, NO_MAC
from peertap.wire.routes import KIND_TREE, KIND_UNICAST, Origin, SignedJoin, SignedRoute, vtag_of

ROUTE_LIFETIME_S: Final = 48 * 3600  # PROTOCOL 5: expiry of a route
REFRESH_S: Final = 12 * 3600  # ours: announced again well before
JOIN_LIFETIME_S: Final = 48 * 3600  # ours: as routes
MAX_TOKENS_KEPT: Final = 16_384  # ours: made again when they are needed again
DEFAULT_PRIORITY: Final = 128  # ours: the middle


@dataclass(frozen=True, slots=True)
class VlanSettings:
    """A VLAN as the configuration has it."""

    index: VlanIndex
    source: KeySource
    bridge: bool


class LocalVlan:
    """A VLAN of this node."""

    def __init__(
        self, settings: VlanSettings, identity: Identity, *, start_ms: int, random: Callable[[int], bytes]
    ) -> None:
        self.index: Final = settings.index
        self.source: Final = settings.source
        self.bridge: Final = settings.bridge
        keys = settings.source.keys
        self.vtag: Final = vtag_of(keys.route_public)
        self.introductions: Final = Introductions(settings.source, identity, sid=Sid(random(16)), random=random)
        self.mac: Final = self.introductions.mac
        self.token: Final = Token(keys.token(KIND_UNICAST, self.mac))
        self.group_token: Final = Token(keys.token(KIND_GROUP, BROADCAST))
        self.tree_token: Final = Token(keys.token(KIND_TREE, NO_MAC))
        self.origin = Origin(DEFAULT_PRIORITY, start_ms, random(9))  # of the unicast token
        self.tree_origin: Final = Origin(DEFAULT_PRIORITY, start_ms, random(9))
        self.outbid = False
        self.group_edges: set[tuple[TrunkId, Origin]] = set()  # edges that frames can take now
        self.reachable: set[Mac] = set()  # members to whose token there is a hop now
        self._sequences = {KIND_UNICAST: 0, KIND_TREE: 0}
        self._tokens: dict[Mac, Token] = {}

    def token_of(self, mac: Mac) -> Token:
        """The unicast token of a member's virtual MAC."""
        token = self._tokens.get(mac)
        if token is None:
            if len(self._tokens) >= MAX_TOKENS_KEPT:
                self._tokens.clear()
            token = self._tokens[mac] = Token(self.source.keys.token(KIND_UNICAST, mac))
        return token

    def route(self, kind: int, now_unix: float) -> SignedRoute:
        """A fresh announcement of our unicast or tree token."""
        self._sequences[kind] = (self._sequences[kind] + 1) & 0xFFFFFFFF
        keys = self.source.keys
        token, origin = (self.token, self.origin) if kind == KIND_UNICAST else (self.tree_token, self.tree_origin)
        fields = (keys.route_public, kind, token, origin, self._sequences[kind], int(now_unix) + ROUTE_LIFETIME_S)
        return SignedRoute(*fields, signature=keys.sign_route(SignedRoute.unsigned(*fields)))

    def join(self, root: Origin, now_unix: float) -> SignedJoin:
        """Our wish for the VLAN's broadcast frames in the tree of this root."""
        keys = self.source.keys
        fields = (keys.route_public, root, self.group_token, int(now_unix) + JOIN_LIFETIME_S)
        return SignedJoin(*fields, signature=keys.sign_route(SignedJoin.unsigned(*fields)))

    def adopt_later_start(self, start_ms: int) -> None:
        """Another origin announces our token with a later start: outbid it once (SPEC 6.1)."""
        self.origin = Origin(self.origin.priority, start_ms + 1, self.origin.random)
        self.outbid = True

    def member_macs(self) -> dict[Mac, PeerId]:
        return {peer.mac: peer.member for peer in self.introductions.peers.values()}
