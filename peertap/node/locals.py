"""The VLANs of this node: what it announces for each, its part in their trees, and their comings and goings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from peertap.mesh.fabric import Fabric
from peertap.node.actions import Action, ClosePort, Log, OpenPort
from peertap.node.compile import Compiler
from peertap.node.relaying import Relaying
from peertap.node.vlan import DEFAULT_PRIORITY, LEAF_PRIORITY, LocalVlan, Names, VlanSettings
from peertap.types import PeerId, Token, VlanIndex, VTag
from peertap.vlan.introductions import Identity
from peertap.wire.control import SequenceRequest
from peertap.wire.routes import KIND_TREE, KIND_UNICAST, Origin, SignedRoute

OLD_NAMES_S: Final = 60.0  # PROTOCOL 4: old tokens stay that long at most
KINDS: Final = (KIND_UNICAST, KIND_TREE)


class State(Protocol):
    """What they depend on."""

    @property
    def fabric(self) -> Fabric: ...

    @property
    def now_unix(self) -> float: ...


class LocalVlans:
    """All of them, by index; `changed` says that tables have to follow."""

    def __init__(
        self,
        state: State,
        identity: Identity,
        random: Callable[[int], bytes],
        say: Callable[[Action], None],
    ) -> None:
        self.all: Final[dict[VlanIndex, LocalVlan]] = {}
        self.changed = True
        self._is_leaf = False
        self._by_vtag: Final[dict[VTag, tuple[LocalVlan, Names]]] = {}
        self._state = state
        self._identity = identity
        self._random = random
        self._say = say
        self._last = 0

    def is_ours(self, vtag: VTag) -> bool:
        """Whether it names a VLAN of ours."""
        return vtag in self._by_vtag

    def named(self, vtag: VTag) -> tuple[LocalVlan, Names] | None:
        """The VLAN that has this name, and its names under the same routing secret."""
        return self._by_vtag.get(vtag)

    # Comings and goings

    def open(self, settings: VlanSettings, relaying: Relaying, now: float) -> VlanIndex:
        """Takes part in a VLAN from now on."""
        self._last += 1
        index = VlanIndex(self._last)
        vlan = LocalVlan(index, settings, self._identity, start_ms=self._start_ms, random=self._random)
        self.all[index] = vlan
        if settings.port is not None:
            self._say(OpenPort(index))
        self._announce(vlan, vlan.newest, relaying, now)
        return index

    def close(self, index: VlanIndex, relaying: Relaying, now: float) -> None:
        """Takes part no longer."""
        vlan = self.all.pop(index)
        if vlan.port is not None:
            self._say(ClosePort(index))
        for names in vlan.names:
            self._drop(names, relaying, now)

    def use_names(self, index: VlanIndex, relaying: Relaying, now: float) -> None:
        """The VLAN has another routing secret: its tokens are others, the old ones stay a little longer."""
        vlan = self.all[index]
        for old in vlan.names:
            old.until = min(old.until, now + OLD_NAMES_S)
        names = Names(vlan.source.keys, vlan.mac, start_ms=self._start_ms, random=self._random)
        vlan.names.insert(0, names)
        self._announce(vlan, names, relaying, now)

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        return min((names.until for _, names in self._each()), default=float("inf"))

    def tick(self, relaying: Relaying, now: float) -> None:
        """Old names go."""
        for vlan, names in list(self._each()):
            if names.until <= now:
                vlan.names.remove(names)
                self._drop(names, relaying, now)

    # Routes and trees

    def tree_token(self, vtag: VTag) -> Token | None:
        """Which token of a VLAN is its tree's; None: the VLAN is none of ours."""
        found = self._by_vtag.get(vtag)
        return None if found is None else found[1].tree_token

    def heard(self, route: SignedRoute, now: float) -> None:
        """A route of our VLANs that was taken: somebody else may announce our own token."""
        found = self._by_vtag.get(route.vtag)
        if found is None or route.token != found[1].token or route.origin == found[1].origin:
            return
        vlan, names = found
        if route.origin.start_ms >= names.origin.start_ms and not names.outbid:
            names.adopt_later_start(route.origin.start_ms)
            self._say(Log("warning", "own token announced by another", {"vlan": vlan.source.label}))
            self._state.fabric.own(names.route(KIND_UNICAST, self._state.now_unix), now, names.start_metric)

    def reclaim(self, index: VlanIndex, now: float) -> None:
        """Whoever else announced our own token does not any more: outbids what relays still hold of it."""
        fabric = self._state.fabric
        for names in self.all[index].names if index in self.all else ():
            others = [
                one for one in fabric.routes.origins((names.vtag, names.token)) if one.random != names.origin.random
            ]
            latest = max((one.start_ms for one in others), default=0)
            if latest >= names.origin.start_ms:
                names.adopt_later_start(latest)
                fabric.own(names.route(KIND_UNICAST, self._state.now_unix), now, names.start_metric)

    def step(self, request: SequenceRequest, now: float) -> None:
        """A neighbour needs a later sequence number of ours."""
        found = self._by_vtag.get(request.vtag)
        if found is not None:
            kind = KIND_TREE if request.token == found[1].tree_token else KIND_UNICAST
            self._state.fabric.own(found[1].route(kind, self._state.now_unix), now, found[1].start_metric)

    def refresh(self, now: float) -> None:
        """Announces and joins anew, long before what is signed expires."""
        fabric, unix = self._state.fabric, self._state.now_unix
        for _, names in self._each():
            fabric.own(names.route(KIND_UNICAST, unix), now, names.start_metric)
            if fabric.routes.owns((names.vtag, names.tree_token)):
                fabric.own(names.route(KIND_TREE, unix), now, names.start_metric)
            root = fabric.trees.root_of(names.vtag)
            if root is not None:
                fabric.interest(names.join(root[0], unix), now)
            fabric.renew(names.vtag)

    def stand_for_root(self, now: float) -> None:
        """A member is a candidate while it knows none better (SPEC 6.2)."""
        fabric = self._state.fabric
        for _, names in self._each():
            key = (names.vtag, names.tree_token)
            selected = fabric.routes.selected(key)
            if selected is None:
                fabric.own(names.route(KIND_TREE, self._state.now_unix), now, names.start_metric)
            elif selected.trunk is not None:
                fabric.disown(key, now)

    def take_role(self, now: float, *, is_leaf: bool) -> None:
        """A leaf is root only where no transit is."""
        self._is_leaf = is_leaf
        for _, names in self._each():
            self._state.fabric.disown((names.vtag, names.tree_token), now)
            names.stand_as(LEAF_PRIORITY if is_leaf else DEFAULT_PRIORITY)

    def needs_number(self) -> int:
        """Another one when a leaf needs to be told of something else."""
        return hash(tuple((names.vtag, names.asked) for _, names in self._each()))

    def root_is(self, vtag: VTag, root: Origin, now: float) -> None:
        """A tree has this root now: we want its frames, if it is of a VLAN of ours."""
        found = self._by_vtag.get(vtag)
        if found is not None:
            self._state.fabric.interest(found[1].join(root, self._state.now_unix), now)

    def withdraw(self, now: float) -> None:
        """Announces nothing any more."""
        for _, names in self._each():
            self._withdraw(names, now)

    # Inside

    @property
    def _start_ms(self) -> int:
        return int(self._state.now_unix * 1000)

    def _each(self) -> Iterator[tuple[LocalVlan, Names]]:
        for vlan in self.all.values():
            for names in vlan.names:
                yield vlan, names

    def _announce(self, vlan: LocalVlan, names: Names, relaying: Relaying, now: float) -> None:
        self._by_vtag[names.vtag] = vlan, names
        if self._is_leaf:
            names.stand_as(LEAF_PRIORITY)
        for kind in KINDS:
            self._state.fabric.own(names.route(kind, self._state.now_unix), now, names.start_metric)
        relaying.prove(vlan)
        relaying.ask_for(names.vtag)
        self.changed = True

    def _drop(self, names: Names, relaying: Relaying, now: float) -> None:
        del self._by_vtag[names.vtag]
        self._state.fabric.no_interest(names.vtag, now)
        self._withdraw(names, now)
        if not relaying.carries(names.vtag):
            self._state.fabric.forget(names.vtag, now)
        self.changed = True

    def _withdraw(self, names: Names, now: float) -> None:
        for token in (names.token, names.tree_token):
            self._state.fabric.disown((names.vtag, token), now)


def reaches(vlan: LocalVlan, member: PeerId, compiler: Compiler) -> bool:
    """Whether a sealed letter can go to a member now."""
    peer = vlan.introductions.peers.get(member)
    if peer is None or peer.pair_send is None:
        return False
    return compiler.hop(vlan.towards(peer.mac).key_of(peer.mac)) is not None
