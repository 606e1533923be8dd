"""A whole node beside a neighbour that says more than is of use: it is named, bounded, and the others go on."""

from __future__ import annotations

import pytest

from peertap.mesh import inflow
from peertap.mesh.policy import Mode
from peertap.node.trunk import MAX_DIGESTS
from peertap.types import Token, TrunkId, VTag
from peertap.wire.control import Digest, Refresh, RoutesAck
from peertap.wire.routes import KIND_UNICAST, Origin, SignedRoute
from tests.support.hostile import FAR_EXPIRY, Signer, assert_works, hostile, line, tokens, vlan
from tests.support.mesh import SimMesh

SMALL = Origin(0, 1, bytes(9))


def test_a_neighbour_that_floods_with_forged_routes_is_named_with_their_number_and_not_for_each() -> None:
    mesh = line()
    a, x = mesh.nodes["a"], hostile(mesh, "a")
    mine = next(one for one in x.routes() if one.kind == KIND_UNICAST and one.token == vlan(a).newest.token)
    for number in range(50):
        token = Token(number.to_bytes(16, "big"))
        x.announce([SignedRoute(mine.public, KIND_UNICAST, token, mine.origin, 1, FAR_EXPIRY, bytes(64))])
        mesh.run(0.3)
    said = [one.fields for one in a.log if one.event == "routes refused"]
    assert [one["peer"] for one in said] == [x.identity.peer_id] * 2, "15 s: once, and again after ten"
    assert said[0]["why"] == {"forged": 1}
    trunk = next(one for one in a.node.trunks.values() if one.peer == x.identity.peer_id)
    assert a.node.routes.refusals(trunk.id) == {"forged": 50}
    assert_works(mesh, "a", "b")


@pytest.mark.parametrize("waits", [True, False], ids=["at the pace that it gets", "without waiting"])
def test_a_neighbour_that_repeats_signed_routes_without_end_is_named_and_heard_at_a_pace(
    monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr(inflow, "ADVERTS_AT_ONCE", 50)
    monkeypatch.setattr(inflow, "ADVERTS_PER_S", 10)
    mesh, signer = line(), Signer(b"o" * 32)
    relay, x = mesh.nodes["r"], hostile(mesh, "r")
    route = signer.route(tokens(1)[0], SMALL)
    announced = 0
    for _ in range(200):
        if not waits or len(x.got(RoutesAck)) == announced:
            x.announce([route] * 10)
            announced += 1
        mesh.run(0.1)
    assert [one.fields["peer"] for one in relay.log if one.event == "neighbour floods"][:1] == [x.identity.peer_id]
    if waits:
        assert 5 + 15 <= announced <= 5 + 21, "20 s at one batch a second, after five"
    assert any(trunk.peer == x.identity.peer_id for trunk in relay.node.trunks.values()) is waits
    assert_works(mesh, "a", "b")


def test_a_neighbour_whose_digests_are_lies_is_named_and_costs_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, signer = SimMesh(), Signer(b"o" * 32)
    relay = mesh.add("r", mode=Mode.OPEN)
    x = hostile(mesh, "r")
    x.announce([signer.route(tokens(1)[0], SMALL)])
    mesh.run(0.5)
    looks, heard_digests = list[TrunkId](), relay.node.routes.heard_digests

    def counted(trunk: TrunkId) -> dict[VTag, bytes]:
        looks.append(trunk)
        return heard_digests(trunk)

    monkeypatch.setattr(relay.node.routes, "heard_digests", counted)
    for _ in range(100):
        x.say(Digest(((signer.vtag, b"8 bytes!"),)))
    mesh.run(0.5)
    assert len(looks) == MAX_DIGESTS
    assert len(x.got(Refresh)) == 2
    assert [log.fields["peer"] for log in relay.log if log.event == "routes differ"] == [x.identity.peer_id]
