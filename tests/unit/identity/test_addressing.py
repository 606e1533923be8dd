"""Addresses that members derive without asking each other."""

from hypothesis import given
from hypothesis import strategies as st

from peertap.identity.addressing import interface_addresses
from peertap.identity.secret import VlanSecret
from peertap.types import PeerId, peer_id_of

secrets = st.builds(VlanSecret, st.just("lab"), st.binary(min_size=32, max_size=32))
peers = st.builds(peer_id_of, st.binary(min_size=32, max_size=32))


@given(secrets, peers, peers)
def test_founder_and_joiner_share_networks_and_never_an_address(secret: VlanSecret, one: PeerId, other: PeerId) -> None:
    founder = interface_addresses(secret.label, secret.secret, one, founder=True)
    joiner = interface_addresses(secret.label, secret.secret, other, founder=False)
    for place in (0, 1):
        ours, theirs = founder[place], joiner[place]
        assert ours.network == theirs.network
        assert ours.ip != theirs.ip
        for address in (ours, theirs):
            assert address.is_private
            assert address.ip not in (address.network.network_address, address.network.broadcast_address)


@given(secrets, peers)
def test_the_same_member_always_gets_the_same_addresses(secret: VlanSecret, peer: PeerId) -> None:
    assert interface_addresses(secret.label, secret.secret, peer, founder=False) == interface_addresses(
        secret.label, secret.secret, peer, founder=False
    )


def test_the_derivation_does_not_change() -> None:
    secret, peer = VlanSecret("lab", bytes(range(32))), peer_id_of(bytes(32))
    assert [str(address) for address in interface_addresses(secret.label, secret.secret, peer, founder=True)] == [
        "10.68.0.1/16",
        "fdc5:3113:2683:3da0::1/64",
    ]
