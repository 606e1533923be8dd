"""A neighbour that says what it likes, a VLAN whose route key a test holds, and honest members to go on beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peertap.mesh.policy import Mode
from peertap.node.events import Event, MessageReceived
from peertap.types import Token, TrunkId
from peertap.wire import control
from peertap.wire.control import Advert, Message, Ping, Policy, Pong, Routes, RoutesAck
from peertap.wire.routes import KIND_UNICAST, Origin, SignedJoin, SignedRoute, vtag_of
from tests.support.identities import identity
from tests.support.mesh import SimLink, SimMesh, SimNode

FAR_EXPIRY = 1 << 40
Kind = TypeVar("Kind", bound=Message)


class Signer:
    """A route key: of an outsider's own VLAN, or the lab's as a member holds it."""

    def __init__(self, seed: bytes = bytes(32), node: SimNode | None = None) -> None:
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public, self._sign = key.public_key().public_bytes_raw(), key.sign
        if node is not None:
            keys = node.vlan(node.labels[0]).source.keys  # type: ignore[attr-defined]
            self.public, self._sign = keys.route_public, keys.sign_route
        self.vtag = vtag_of(self.public)

    def route(self, token: bytes, origin: Origin, sequence: int = 1, kind: int = KIND_UNICAST) -> SignedRoute:
        fields = (self.public, kind, Token(token), origin, sequence, FAR_EXPIRY)
        return SignedRoute(*fields, signature=self._sign(SignedRoute.unsigned(*fields)))

    def join(self, root: Origin, token: bytes, expiry: int = FAR_EXPIRY) -> SignedJoin:
        fields = (self.public, root, Token(token), expiry)
        return SignedJoin(*fields, signature=self._sign(SignedJoin.unsigned(*fields)))


class Neighbour:
    """One end of a trunk without a node behind it; it only answers what keeps the trunk alive."""

    def __init__(self, mesh: SimMesh, name: str, victim: str) -> None:
        self.name, self.identity = name, identity(name)
        self.trunks: dict[TrunkId, SimLink] = {}
        self.heard: list[Message] = []
        self.packets = 0  # of frames that came
        self.acknowledges = True
        self._batch = 0
        self.link = SimLink(mesh, self, mesh.nodes[victim], 0.005)  # type: ignore[arg-type]
        self.number = self.link.numbers[victim]

    def post(self, event: Event) -> None:
        if not isinstance(event, MessageReceived):
            return
        self.heard.append(event.message)
        match event.message:
            case Ping(number):
                self.say(Pong(number))
            case Routes(batch, _):
                if self.acknowledges:
                    self.say(RoutesAck(batch))

    def arrived(self, *_packet: object) -> None:
        self.packets += 1

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.link.send(self, control.emit(message))  # type: ignore[arg-type]

    def greet(self) -> None:
        self.say(Policy(True, False))

    def announce(self, routes: Sequence[SignedRoute], metric: int = 5) -> None:
        self._batch += 1
        self.say(Routes(self._batch, tuple(Advert(route, metric, 1400) for route in routes)))

    def got(self, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.heard if isinstance(message, kind)]

    def routes(self) -> list[SignedRoute]:
        """What it was announced."""
        return [advert.route for batch in self.got(Routes) for advert in batch.adverts]

    @property
    def is_up(self) -> bool:
        return self.link.up


def hostile(mesh: SimMesh, victim: str, name: str = "x") -> Neighbour:
    """One that has greeted its victim."""
    neighbour = Neighbour(mesh, name, victim)
    neighbour.greet()
    mesh.run(0.2)
    return neighbour


def tokens(count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(1, count + 1)]


def line(mode: Mode = Mode.OPEN) -> SimMesh:
    """a — r — b, all settled."""
    mesh = SimMesh()
    mesh.add("a", "lab")
    mesh.add("r", mode=mode)
    mesh.add("b", "lab")
    mesh.link("a", "r")
    mesh.link("r", "b")
    mesh.run(1)
    return mesh


def vlan(node: SimNode) -> Any:
    return node.vlan("lab")


def assert_works(mesh: SimMesh, *names: str) -> None:
    """Broadcast and unicast between these members, each frame once."""
    members = [mesh.nodes[name] for name in names]
    for node in members:
        node.delivered.clear()
    for source in members:
        source.broadcast("lab", ("all", source.name))
        for to in members:
            if to is not source:
                assert source.unicast("lab", vlan(to).mac, ("one", source.name)), (
                    f"{source.name} has no way to {to.name}"
                )
    mesh.run(1)
    for node in members:
        expected = sorted((kind, one.name) for one in members for kind in ("all", "one") if one is not node)
        assert sorted(content for _, content in node.delivered) == expected, node.name  # type: ignore[type-var]
