"""Peer addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

from peertap.config.address import PeerAddress, parse_address
from peertap.errors import ConfigError
from peertap.identity.node import parse_peer_id

ID = "12D3KooWSqSKrnzEZQAsumacQ7CZEa8AvjDmokuuEKs82SgiizgY"


@pytest.mark.parametrize(
    "text",
    [
        f"/ip4/192.0.2.1/p2p/{ID}",
        f"/ip6/2001:db8::1/tcp/4511/p2p/{ID}",
        f"/dns4/relay.example.org/udp/4512/quic-v1/p2p/{ID}",
        f"/dns6/relay.example.org/tcp/80/ws/p2p/{ID}",
        f"/dns/a/p2p/{ID}",
    ],
)
def test_an_address_reads_and_writes_the_same_and_libp2p_takes_it(text: str) -> None:
    assert str(parse_address(text)) == text
    for concrete in parse_address(text).concrete():
        assert str(Multiaddr(str(concrete))) == str(concrete)


def test_an_address_is_made_canonical() -> None:
    assert str(parse_address(f"/ip6/2001:DB8:0::1/p2p/{ID}")) == f"/ip6/2001:db8::1/p2p/{ID}"
    assert str(parse_address(f"/dns/Relay.Example/p2p/{ID}")) == f"/dns/relay.example/p2p/{ID}"


def test_an_address_without_transport_stands_for_all_on_default_ports() -> None:
    address = parse_address(f"/ip4/192.0.2.1/p2p/{ID}")
    assert [each.transport_part for each in address.concrete()] == ["/tcp/4511", "/udp/4512/quic-v1", "/tcp/4512/ws"]
    exact = parse_address(f"/ip4/192.0.2.1/tcp/9/p2p/{ID}")
    assert exact.concrete() == (exact,)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not a multiaddr"),
        ("192.0.2.1", "not a multiaddr"),
        ("/ip4/192.0.2.1", "does not end in /p2p/"),
        ("/ip4/192.0.2.1/tcp/4511", "does not end in /p2p/"),
        (f"/ip4/192.0.2.1/p2p/{ID}/p2p-circuit", "circuit"),
        (f"/ipx/192.0.2.1/p2p/{ID}", "'ipx' is none of"),
        (f"/ip4/relay.example/p2p/{ID}", "not an IPv4 address"),
        (f"/ip4/0.0.0.0/p2p/{ID}", "nobody can be dialled"),
        (f"/ip4/224.0.0.1/p2p/{ID}", "nobody can be dialled"),
        (f"/ip6/fe80::1/p2p/{ID}", "link-local"),
        (f"/ip6/2001:db8::1%eth0/p2p/{ID}", "link-local"),
        (f"/dns/-x/p2p/{ID}", "not a host name"),
        (f"/dns/{'a' * 254}/p2p/{ID}", "not a host name"),
        (f"/ip4/192.0.2.1/tcp/0/p2p/{ID}", "not a port"),
        (f"/ip4/192.0.2.1/tcp/65536/p2p/{ID}", "not a port"),
        (f"/ip4/192.0.2.1/tcp/04/p2p/{ID}", "not a port"),
        (f"/ip4/192.0.2.1/tcp/4/wss/p2p/{ID}", "no transport"),
        (f"/ip4/192.0.2.1/udp/4/p2p/{ID}", "no transport"),
        (f"/ip4/192.0.2.1/p2p/{ID[:-1]}", "peer ID"),
        (f"/ip4/192.0.2.1/p2p/{ID[:-1]}0", "peer ID"),
        ("/ip4/192.0.2.1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "not made from an Ed25519 key"),
        ("/" * 500, "longer than"),
    ],
)
def test_what_cannot_be_dialled_is_refused_with_a_hint(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        parse_address(text)
    assert caught.value.hint


@given(st.text(max_size=80))
def test_random_text_raises_nothing_but_config_error(text: str) -> None:
    for candidate in (text, f"/ip4/{text}", f"/ip4/192.0.2.1/tcp/{text}/p2p/{ID}", f"/dns/{text}/p2p/{text}"):
        try:
            address = parse_address(candidate)
        except ConfigError:
            continue
        assert parse_address(str(address)) == address


@given(st.ip_addresses(v=4), st.integers(1, 65535), st.sampled_from(["tcp", "ws", "quic-v1"]))
def test_parse_undoes_str(ip: object, port: int, transport: str) -> None:
    peer = parse_peer_id(ID)
    address = PeerAddress("ip4", str(ip), transport, port, peer)  # type: ignore[arg-type]  # drawn from the three
    try:
        assert parse_address(str(address)) == address
    except ConfigError as error:
        assert "nobody" in error.what  # 0.0.0.0 and multicast
