"""The order in which addresses are dialled."""

from peertap.shell.ladder import ladder, parsed
from tests.support.identities import identity

PEER = identity("a").text


def test_every_address_is_tried_once_cheapest_transport_first_and_nonsense_not_at_all() -> None:
    bare, quic, ws = (
        f"/ip4/192.0.2.{n}{part}/p2p/{PEER}" for n, part in ((1, ""), (2, "/udp/9/quic-v1"), (3, "/tcp/9/ws"))
    )
    texts = [quic, "/ip4/192.0.2.9", bare, ws, bare, ""]
    assert len(parsed(texts)) == 4
    assert [(one.host[-1], one.transport) for one in ladder(texts)] == [
        ("1", "tcp"), ("1", "ws"), ("3", "ws"), ("2", "quic-v1"), ("1", "quic-v1"),
    ]  # fmt: skip
