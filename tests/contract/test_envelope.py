"""Our signed envelopes against those of py-libp2p: each reads and believes the other's."""

from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer import envelope as theirs

from peertap.types import public_key_of
from peertap.wire.envelope import Envelope
from tests.support.identities import identity

DOMAIN, TYPE, PAYLOAD = "PeerTap/1 presence", b"/peertap/presence/1", bytes(range(200)) * 3


def test_libp2p_believes_an_envelope_of_ours() -> None:
    own = identity("a")
    data = Envelope.seal(own.peer_id, own.sign, DOMAIN.encode(), TYPE, PAYLOAD).emit()
    read = theirs.unmarshal_envelope(data)
    read.validate(DOMAIN)
    assert (read.payload_type, read.raw_payload) == (TYPE, PAYLOAD)
    assert read.public_key.to_bytes() == public_key_of(own.peer_id)
    assert read.marshal_envelope() == data


def test_we_believe_an_envelope_of_libp2p() -> None:
    pair = create_new_key_pair(bytes(range(32)))
    signature = pair.private_key.sign(theirs.make_unsigned(DOMAIN, TYPE, PAYLOAD))
    data = theirs.Envelope(pair.public_key, TYPE, PAYLOAD, signature).marshal_envelope()
    read = Envelope.parse_untrusted(data)
    assert (read.payload_type, read.payload) == (TYPE, PAYLOAD)
    assert public_key_of(read.signer) == pair.public_key.to_bytes()
    assert read.is_signed(DOMAIN.encode())
    assert not read.is_signed(b"another domain")
    assert read.emit() == data
