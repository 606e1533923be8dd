"""Routes and trees of one node, in step: neighbours' messages in, messages out (SPEC 6).

a neighbour's message, a trunk that comes or goes ─▶ routes ─▶ each tree follows its root ─▶ what to say
"""

from collections import Counter
from collections.abc import Callable, Iterable, Set
from functools import partial
from typing import Final, Protocol

from peertap.errors import PeerError
from peertap.mesh.audience import Key
from peertap.mesh.digests import Digests
from peertap.mesh.inflow import Inflow
from peertap.mesh.routes import RouteTable
from peertap.mesh.signatures import Signatures
from peertap.mesh.subscriptions import Sign, Subscriptions
from peertap.mesh.tree import Trees
from peertap.types import Token, TrunkId, VTag
from peertap.wire.control import (
    MAX_WANTS_PER_MESSAGE,
    Digest,
    Join,
    Joined,
    Leave,
    Message,
    Refresh,
    Routes,
    RoutesAck,
    SequenceRequest,
    Subscribe,
    Unsubscribe,
    Want,
)
from peertap.wire.routes import KIND_TREE, Origin, SignedJoin, SignedRoute

STAND_S: Final = 2.0  # ours: by then others have heard of a candidate, and joined

MeshMessage = (
    Routes | RoutesAck | SequenceRequest | Join | Joined | Leave | Refresh | Digest | Want | Subscribe | Unsubscribe
)


class Members(Protocol):
    """What this node announces of its own VLANs."""

    def tree_token(self, vtag: VTag) -> Token | None:
        """Which token of a VLAN is its tree's; None: the VLAN is none of ours."""

    def heard(self, route: SignedRoute, now: float) -> None:
        """A route of our VLANs that was taken: somebody else may announce our own token."""

    def step(self, request: SequenceRequest, now: float) -> None:
        """A neighbour needs a later sequence number of ours."""

    def stand_for_root(self, now: float) -> None:
        """Announces the tree tokens of VLANs in which we know no better root, and no others."""

    def root_is(self, vtag: VTag, root: Origin, now: float) -> None:
        """A tree has this root now."""


class Fabric:
    """One node's part of the mesh. What it has to say is collected until `take`."""

    def __init__(
        self,
        members: Members,
        carries: Callable[[VTag], bool],
        signed_well: Callable[[SignedRoute | SignedJoin], bool] | None = None,
    ) -> None:
        """A node's part that knows nobody yet.

        Args:
            carries: whether routes and joins under a VTag are taken.
            signed_well: checks a signature; by default each is checked once and remembered.
        """
        self._signed_well: Final = signed_well or Signatures().are_right
        self.routes: Final = RouteTable(self._signed_well)
        self.trees: Final = Trees()
        self.subscriptions: Final = Subscriptions()
        self.differed: Final = Counter[TrunkId]()  # digests that said something else than what we heard
        self.inflow: Final = Inflow()
        self._digests: Final = Digests()
        self._followed = -1  # the version of the trees that subscriptions know
        self._members: Final = members
        self._carries: Final = carries
        self._tree_tokens: dict[VTag, Token] = {}
        self._apart_since: float | None = None  # as root we are heard where we stand, and elsewhere somebody does not
        self._stood: set[TrunkId] = set()  # where that was so, since the neighbours changed
        self._wants: dict[Key, None] = {}
        self._out: list[tuple[TrunkId, Message]] = []

    # Neighbours

    def add_neighbour(
        self, trunk: TrunkId, *, cost: int, mtu: int, is_silent: bool = False, is_leaf: bool = False
    ) -> None:
        """A trunk came up: it is owed everything, or what it wants."""
        self.routes.add_neighbour(trunk, cost=cost, mtu=mtu, is_silent=is_silent, is_leaf=is_leaf)
        if not is_leaf and self.routes.is_leaf:
            self._say_wants(trunk, self._wants, ())
        self._choose_stand()

    def has_neighbour(self, trunk: TrunkId) -> bool:
        return self.routes.has_neighbour(trunk)

    def neighbour_is_leaf(self, trunk: TrunkId, *, is_leaf: bool) -> None:
        """A neighbour says its role again."""
        if self.routes.neighbour_is_leaf(trunk, is_leaf=is_leaf) and not is_leaf and self.routes.is_leaf:
            self._say_wants(trunk, self._wants, ())
        self._choose_stand()

    def retire(self, trunk: TrunkId, now: float) -> None:
        """A trunk is to close soon: nothing goes by it that can go by another."""
        if self.routes.has_neighbour(trunk):
            self._out += self.routes.retire(trunk, now)

    def silence(self, trunk: TrunkId, now: float, *, is_silent: bool) -> None:
        """A neighbour should have answered, and nothing goes by it; or it spoke again."""
        if self.routes.has_neighbour(trunk):
            if is_silent:
                self.trees.trunk_silent(trunk)
            self._out += self.routes.silence(trunk, now, is_silent=is_silent)
            self._choose_stand()

    def set_cost(self, trunk: TrunkId, cost: int, now: float) -> None:
        """The trunk's cost changed, for example with its round-trip time."""
        if self.routes.has_neighbour(trunk):
            self._out += self.routes.set_cost(trunk, cost, now)

    def demote(self, key: Key, trunks: frozenset[TrunkId], now: float) -> None:
        """These neighbours swallow frames to a token, no others."""
        self._out += self.routes.demote(key, trunks, now)

    def remove_neighbour(self, trunk: TrunkId, now: float) -> None:
        """Nothing goes by this trunk any more."""
        if self.routes.has_neighbour(trunk):
            self._out += self.routes.remove_neighbour(trunk, now)
        self._digests.gone(trunk)
        self.inflow.gone(trunk)
        self.differed.pop(trunk, None)
        self._out += self.trees.trunk_down(trunk, now)
        self._choose_stand()

    # Our role

    @property
    def is_leaf(self) -> bool:
        """Whether nothing passes through this node (SPEC 6.5)."""
        return self.routes.is_leaf

    def becomes(self, now: float, *, is_leaf: bool) -> None:
        """This node has another role; the caller tells the neighbours, and what we want after it."""
        if is_leaf != self.routes.is_leaf:
            self.routes.becomes(now, is_leaf=is_leaf)
            self._wants = {}
            self._choose_stand()

    def want(self, keys: Iterable[Key], now: float) -> None:
        """As a leaf: exactly these tokens are what we want to be told of."""
        wanted = dict.fromkeys(keys)
        more = [key for key in wanted if key not in self._wants]
        less = [key for key in self._wants if key not in wanted]
        self._wants = wanted
        if self.routes.is_leaf and (more or less):
            self.routes.unwant(less, now)
            for trunk in self.routes.transits():
                self._say_wants(trunk, more, less)

    # Our own

    def own(self, route: SignedRoute, now: float, metric: int) -> None:
        """Announces a token of ours, or announces it again with a later sequence number."""
        self.routes.own(route, now, metric)

    def disown(self, key: Key, now: float) -> None:
        """Withdraws a token of ours."""
        self._out += self.routes.disown(key, now)

    def interest(self, join: SignedJoin, now: float) -> None:
        """We want a group's frames."""
        self._out += self.trees.interest(join, now)

    def no_interest(self, vtag: VTag, now: float) -> None:
        """We want no frames of this VLAN any more."""
        self._out += self.subscriptions.want(vtag, frozenset(), None)
        self._out += self.trees.no_interest(vtag, now)

    def subscribe(self, vtag: VTag, tokens: Set[Token], sign: Sign) -> None:
        """We listen to these groups of a VLAN, and no others."""
        self._out += self.subscriptions.want(vtag, tokens, sign)

    def renew(self, vtag: VTag) -> None:
        """Says again what we listen to, long before it expires."""
        self._out += self.subscriptions.renew(vtag)

    def forget(self, vtag: VTag, now: float) -> None:
        """We carry this VTag no longer: what neighbours announced under it goes, and its tree."""
        self.routes.forget(vtag, now)
        self._out += self.trees.forget(vtag)

    def refresh_all(self, trunk: TrunkId) -> None:
        """The neighbour carries by another policy: it is owed everything again."""
        if self.routes.has_neighbour(trunk):
            self.routes.refresh_all(trunk)

    def vtags(self) -> set[VTag]:
        """Under which neighbours told us something."""
        return self.routes.vtags() | self.trees.vtags()

    def leave(self) -> None:
        """This node goes: every edge ends."""
        self.routes.hurry()
        self._out += self.trees.leave_all()

    # From the wire

    def received_untrusted(self, trunk: TrunkId, message: MeshMessage, now: float, now_unix: float) -> None:
        """Takes a neighbour's message.

        Raises: PeerError: routes came before we know whether the neighbour relays, or before it may tell more.
        """
        match message:
            case Join() if self.routes.is_leaf and trunk != self.routes.stands_at:
                pass  # nothing passes through a leaf
            case Join(join):
                good = join.expiry >= now_unix and self._carries(join.vtag)
                if good and self._signed_well(join):
                    self._out += self.trees.join_untrusted(trunk, join, now)
            case Joined():
                self._out += self.trees.joined(trunk, message, now)
            case Leave():
                self._out += self.trees.left(trunk, message, now)
            case Subscribe(join):
                good = join.expiry >= now_unix and self._carries(join.vtag)
                news = good and self.subscriptions.is_news(trunk, join)
                if news and self._signed_well(join):
                    self._out += self.subscriptions.subscribed(trunk, join)
            case Unsubscribe():
                self._out += self.subscriptions.unsubscribed(trunk, message)
            case Routes():
                if not self.routes.has_neighbour(trunk):
                    raise PeerError("routes before the policy")
                if self.inflow.received(trunk, message.batch, max(1, len(message.adverts)), now):
                    self._out.append((trunk, RoutesAck(message.batch)))
                self._received_routes(trunk, message, now, now_unix)
            case _ if not self.routes.has_neighbour(trunk):
                pass  # it asks about what it was never told
            case RoutesAck():
                self.routes.acknowledged(trunk, message.batch, now)
            case Refresh():
                self.routes.refresh(trunk, message.vtag)
            case Digest():
                self._compare(trunk, message, now)
            case Want():
                self.routes.want(trunk, message.more, message.less)
            case SequenceRequest():
                self._sequence_asked(trunk, message, now)

    # Time

    def next_deadline(self) -> float | None:
        """When `tick` has something to do, or `take`."""
        moves_at = None if self._apart_since is None else self._apart_since + STAND_S
        routes_at = self.routes.next_deadline(), self.routes.next_batch_at()
        told_at = self._digests.next_deadline(), self.inflow.next_deadline()
        dues = (*routes_at, *told_at, self.trees.next_deadline(), moves_at)
        return min((due for due in dues if due is not None), default=None)

    def tick(self, now: float) -> None:
        """Says again what was not answered, takes better ways, ends old trees."""
        self._out += self.trees.tick(now)
        self._out += self.routes.tick(now)
        self._out += [(trunk, RoutesAck(batch)) for trunk, batch in self.inflow.due(now)]
        for trunk in self._digests.due(now):
            if not self.routes.is_settled(trunk):
                self._digests.postpone(trunk, now)
            elif trunk in self.routes.transits():
                told = self.routes.told_digests(trunk)
                self._out += [(trunk, digest) for digest in self._digests.messages(trunk, told)]

    def expire(self, now: float, now_unix: float) -> None:
        """What was signed for a time that is over goes."""
        self._out += self.routes.expire(now, now_unix)
        self._out += self.trees.expire(now, now_unix)
        self._out += self.subscriptions.expire(now_unix)

    # What follows

    def settle(self, now: float) -> list[Key]:
        """Brings trees in step with routes; returns the tokens whose routes changed."""
        if self.routes.has_changed:
            self._members.stand_for_root(now)
        changed = self.routes.take_changed()
        for key in changed:
            self._follow_root(key, now)
        if self.routes.is_leaf:
            self._look_for_company(now)
        if self._followed != self.trees.version:
            self._followed = self.trees.version
            self._out += self.subscriptions.follow(self.trees.edges())
        return changed

    def take(self, now: float) -> Iterable[tuple[TrunkId, Message]]:
        """What to say now, in this order."""
        out, self._out = self._out, []
        for trunk, batch in self.routes.batches(now):
            self._digests.told(trunk, now)
            out.append((trunk, batch))
        return out

    # Inside

    def _leads_to(self, key: Key, trunk: TrunkId | None) -> bool:
        """Whether frames to a token could go by a neighbour that is not the one in use."""
        return trunk is not None and not self.routes.is_silent(trunk) and self.routes.is_feasible(key, trunk)

    def _choose_stand(self) -> None:
        """As a leaf: by the nearest relay we can be root, as long as it is there."""
        self._stood.clear()
        if self.routes.is_leaf:
            relays = [trunk for trunk in self.routes.transits() if self.routes.may_stand_at(trunk)]
            if self.routes.stands_at not in relays:
                self.routes.stand_at(relays[0] if relays else None)

    def _look_for_company(self, now: float) -> None:
        """A leaf that is root stands elsewhere, if a relay there knows of none better than others.

        With nobody who joined it as often as that is so; else once at each relay, for those who joined may follow, and
        where no place is heard by all, nothing is to be had by moving on.
        """
        here = self.routes.stands_at
        elsewhere = [
            trunk
            for vtag, token in self._tree_tokens.items()
            for trunk in self.routes.rivals((vtag, token))
            if trunk != here and self.routes.may_stand_at(trunk)
            if self.trees.is_alone(vtag) or trunk not in self._stood
        ]
        if not elsewhere:
            self._apart_since = None
        elif self._apart_since is None:
            self._apart_since = now
        elif now >= self._apart_since + STAND_S:
            self._apart_since = None
            if here is not None:
                self._stood.add(here)
            self.routes.stand_at(elsewhere[0])

    def _say_wants(self, trunk: TrunkId, more: Iterable[Key], less: Iterable[Key]) -> None:
        added, gone = list(more), list(less)
        for at in range(0, max(len(added), len(gone)), MAX_WANTS_PER_MESSAGE):
            end = at + MAX_WANTS_PER_MESSAGE
            self._out.append((trunk, Want(tuple(added[at:end]), tuple(gone[at:end]))))

    def _received_routes(self, trunk: TrunkId, message: Routes, now: float, now_unix: float) -> None:
        members, judged = self._members, dict[VTag, tuple[bool, Token | None]]()
        carried, ours = [], False
        for advert in message.adverts:
            vtag, token = advert.route.key
            known = judged.get(vtag)
            if known is None:
                known = judged[vtag] = self._carries(vtag), members.tree_token(vtag)
            is_carried, tree = known
            if tree is not None:
                ours = True
                if (advert.route.kind == KIND_TREE) != (token == tree):
                    self.routes.refuse(trunk, "misplaced")
                    continue
            if is_carried:
                carried.append(advert)
        requests, taken = self.routes.received_untrusted(trunk, carried, now, now_unix)
        self._out += requests
        if ours:
            for route in taken:
                members.heard(route, now)

    def _compare(self, trunk: TrunkId, message: Digest, now: float) -> None:
        """A neighbour says what it told us. Of one whose routes were refused we have not all, and a leaf has not."""
        if self.routes.is_leaf or self.routes.refusals(trunk):
            return
        said = [one for one in message.told if self._carries(one[0])]
        asked, void = self._digests.compare(trunk, said, self.routes.heard_digests(trunk))
        self.differed[trunk] += len(void)
        for vtag in void:
            self._out += self.routes.unhear(trunk, vtag, now)
        self._out += [(trunk, Refresh(vtag)) for vtag in asked]

    def _sequence_asked(self, asker: TrunkId, request: SequenceRequest, now: float) -> None:
        answer, trunk = self.routes.requested(asker, request, now)
        if answer == "own":
            self._members.step(request, now)
        elif trunk is not None:
            onward = SequenceRequest(request.vtag, request.token, request.origin, request.sequence, request.hops - 1)
            self._out.append((trunk, onward))

    def _follow_root(self, key: Key, now: float) -> None:
        """Routing changed for a token; where it is a tree's, the tree follows."""
        vtag, token = key
        selected = self.routes.selected(key)
        if selected is not None and selected.advert.route.kind == KIND_TREE:
            present = self._tree_tokens.get(vtag, token)  # a VLAN has one tree: another token is no second one
            if present != token and self.routes.selected((vtag, present)) is not None:
                return
            root = selected.advert.route.origin
            self._tree_tokens[vtag] = token
            self._out += self.trees.root_is(vtag, root, selected.trunk, now, partial(self._leads_to, key))
            self._members.root_is(vtag, root, now)
        elif selected is None and self._tree_tokens.get(vtag) == token:
            del self._tree_tokens[vtag]
            self._out += self.trees.root_is(vtag, None, None, now)
