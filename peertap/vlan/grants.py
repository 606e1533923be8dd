"""Proofs of a VLAN-ID for relays whose policy names VLANs (SPEC 6.4)."""

from typing import Final

from peertap.errors import DecodeError
from peertap.types import VlanId, VTag
from peertap.vlan.names import vlan_id
from peertap.wire.codec import Reader
from peertap.wire.control import Grant
from peertap.wire.relay import Carriage, carriage_message
from peertap.wire.routes import signed_by, vtag_of

CREATOR_KEY_BYTES: Final = 32  # Ed25519


def grant_message(vlan: VlanId, grant_key: bytes, expiry: int) -> bytes:
    """What a creator signs."""
    return b"PeerTap/1 grant" + vlan + grant_key + expiry.to_bytes(8, "big")


def vtag_message(vtag: bytes) -> bytes:
    """What the grant key signs."""
    return b"PeerTap/1 vtag" + vtag


def owner_message(vlan: VlanId) -> bytes:
    """What the route key signs: only its holders can say of which VLAN it is."""
    return b"PeerTap/1 vlan of route key" + vlan


def checked_grant(grant: Grant, now_unix: float) -> tuple[VTag, VlanId] | None:
    """The VTag and the VLAN-ID that it is proven to belong to; None when anything does not hold.

    One creator's signature proves VLANs for which one admin can speak; where k have to, there is no grant yet.
    """
    if grant.threshold != 1 or any(len(key) != CREATOR_KEY_BYTES for key in grant.creators):
        return None
    if grant.expiry < now_unix:
        return None
    vlan = vlan_id(grant.creators, grant.threshold, grant.name_hash)
    vtag = vtag_of(grant.route_public)
    granted = grant_message(vlan, grant.grant_key, grant.expiry)
    if not any(signed_by(creator, grant.creator_signature, granted) for creator in grant.creators):
        return None
    if not signed_by(grant.grant_key, grant.grant_signature, vtag_message(vtag)):
        return None
    if not signed_by(grant.route_public, grant.route_signature, owner_message(vlan)):
        return None  # a member's VTag under a stranger's VLAN-ID
    return vtag, vlan


def checked_carriage(carriage: Carriage, now_unix: float) -> tuple[VTag, VlanId, int] | None:
    """The VTag and VLAN-ID that ask to be carried, with the proof's expiry; None when it is not valid (SPEC 15.4)."""
    try:
        reader = Reader(carriage.grant, "carriage grant")
        grant = Grant.read(reader)
        reader.end()
    except DecodeError:
        return None
    proven = checked_grant(grant, now_unix)
    if proven is None or carriage.until <= now_unix:
        return None
    vtag, vlan = proven
    message = carriage_message(carriage.relay, vlan, carriage.until)
    return (vtag, vlan, grant.expiry) if signed_by(grant.grant_key, carriage.signature, message) else None
