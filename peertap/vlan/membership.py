"""Where a VLAN's keys come from: the interface, and its static form (SPEC 3.1). MLS will be the other one."""

from typing import Final, Protocol

from peertap._core import AES_256_GCM, StaticSecret, VlanKeys
from peertap.types import VlanId
from peertap.vlan.grants import grant_message, owner_message, vtag_message
from peertap.vlan.names import name_hash, vlan_id
from peertap.wire.control import Grant
from peertap.wire.routes import vtag_of

GRANT_LIFETIME_S: Final = 30 * 24 * 3600  # ours: a grant is made anew at each trunk, so a month is ample


class KeySource(Protocol):
    """The keys of one VLAN, whatever its membership is."""

    @property
    def label(self) -> str: ...

    @property
    def vlan_id(self) -> VlanId: ...

    @property
    def aead(self) -> int: ...

    @property
    def keys(self) -> VlanKeys:
        """The keys of the current epoch."""

    @property
    def warning(self) -> str | None:
        """What `status` says about this kind of membership."""

    def grant(self, now_unix: float) -> Grant:
        """The proof of the VLAN-ID for a relay that wants one (SPEC 6.4)."""


class StaticMembership:
    """Everybody with the secret is a member, for ever."""

    warning: str | None = (
        "static key: no member can be removed, no forward secrecy, and relays can link this VLAN's tokens over time"
    )
    aead = AES_256_GCM

    def __init__(self, label: str, secret: StaticSecret) -> None:
        self.label = label
        self._secret = secret
        self._name_hash = name_hash(label, secret.name_nonce)
        self.vlan_id = vlan_id((secret.creator_public,), 1, self._name_hash)
        self.keys = secret.keys(self.vlan_id)

    def grant(self, now_unix: float) -> Grant:
        expiry = int(now_unix) + GRANT_LIFETIME_S
        granted = grant_message(self.vlan_id, self._secret.grant_public, expiry)
        return Grant(
            creators=(self._secret.creator_public,),
            threshold=1,
            name_hash=self._name_hash,
            grant_key=self._secret.grant_public,
            expiry=expiry,
            creator_signature=self._secret.sign_as_creator(granted),
            route_public=self.keys.route_public,
            grant_signature=self._secret.sign_as_grantee(vtag_message(vtag_of(self.keys.route_public))),
            route_signature=self.keys.sign_route(owner_message(self.vlan_id)),
        )
