"""Where a VLAN's keys come from: the interface, and its forms (SPEC 3.1, 9, 10)."""

from typing import Final, Protocol

from peertap._core import AES_256_GCM, StaticSecret, VlanKeys
from peertap.types import PeerId, VlanId, public_key_of
from peertap.vlan.commits import charter_vlan_id
from peertap.vlan.grants import grant_message, owner_message, vtag_message
from peertap.vlan.group import Group
from peertap.vlan.invites import door_secret
from peertap.vlan.names import name_hash, vlan_id
from peertap.vlan.secrets import VlanSecrets
from peertap.wire.control import Grant
from peertap.wire.invite import Invite
from peertap.wire.relay import Carriage, carriage_message
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

    def is_member(self, member: PeerId) -> bool:
        """Whether somebody may introduce itself."""

    def may_bridge(self, member: PeerId, *, default: bool) -> bool:
        """Whether other MACs may be behind a member; `default` is what this node is configured to believe."""

    @property
    def warning(self) -> str | None:
        """What `status` says about this kind of membership."""

    @property
    def is_shown(self) -> bool:
        """Whether we let those who know the circle find us (SPEC 12.1)."""

    @property
    def is_sought(self) -> bool:
        """Whether there is somebody whom we want to find by the circle."""

    @property
    def is_public(self) -> bool:
        """Whether everybody in the mesh may hear that we are a member (SPEC 11.1)."""

    def grant(self, now_unix: float) -> Grant | None:
        """The proof of the VLAN-ID for a relay that wants one (SPEC 6.4), where there is one."""


class StaticMembership:
    """Everybody with the secret is a member, for ever."""

    warning: str | None = (
        "static key: no member can be removed, no forward secrecy, and relays can link this VLAN's tokens over time"
    )
    aead = AES_256_GCM
    is_shown = is_sought = True

    def __init__(self, label: str, secret: StaticSecret, *, is_public: bool = False) -> None:
        self.label = label
        self.is_public = is_public
        self._secret = secret
        self._name_hash = name_hash(label, secret.name_nonce)
        self.vlan_id = vlan_id((secret.creator_public,), 1, self._name_hash)
        self.keys = secret.keys(self.vlan_id)

    def is_member(self, member: PeerId) -> bool:
        """Whoever has the secret is one."""
        return True

    def may_bridge(self, member: PeerId, *, default: bool) -> bool:
        """Nobody says who may: what holds here holds for all."""
        return default

    def grant(self, now_unix: float) -> Grant:
        """Whoever has the secret can speak for the creator."""
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

    def carriage(self, relay: PeerId, until: int, now_unix: float) -> Carriage | None:
        """Asks one relay to carry this VLAN (SPEC 15.4)."""
        message = carriage_message(relay, self.vlan_id, until)
        return Carriage(relay, until, self._secret.sign_as_grantee(message), self.grant(now_unix).body())


class GroupMembership:
    """The members of an MLS group, in the epoch and with the routing secret that hold now."""

    warning: str | None = None
    is_shown = is_sought = True

    def __init__(self, group: Group, secrets: VlanSecrets) -> None:
        self.group: Final = group
        self.secrets = secrets
        self.label: Final = group.charter.label
        self.is_public: Final = group.charter.is_public
        self.vlan_id: Final = charter_vlan_id(group.charter)
        self.aead: Final = group.charter.aead
        self._keys: tuple[object, VlanKeys] | None = None

    @property
    def keys(self) -> VlanKeys:
        """The keys of the current epoch."""
        point = (self.group.position, self.secrets.routing)
        if self._keys is None or self._keys[0] != point:
            self._keys = point, self.group.mls.keys(self.secrets.routing)
        return self._keys[1]

    def is_member(self, member: PeerId) -> bool:
        """Whoever is in the group now."""
        return public_key_of(member) in self.group.members

    def may_bridge(self, member: PeerId, *, default: bool) -> bool:
        """Whom the admins let."""
        return public_key_of(member) in self.group.charter.bridges

    def grant(self, now_unix: float) -> Grant | None:
        """Signed by the creator once; a key that all members have signs the rest."""
        return _grant(self.group, self.secrets, self.keys, now_unix)

    def carriage(self, relay: PeerId, until: int, now_unix: float) -> Carriage | None:
        """Asks one relay to carry this VLAN (SPEC 15.4)."""
        grant = self.grant(now_unix)
        if grant is None or grant.threshold != 1:
            return None
        message = carriage_message(relay, self.vlan_id, until)
        return Carriage(relay, until, StaticSecret(self.secrets.grant).sign_as_grantee(message), grant.body())


class LobbyMembership:
    """Where members find each other whatever epoch and routing secret they have (PROTOCOL 10)."""

    warning: str | None = None
    is_sought = True
    is_public = False

    def __init__(self, member: GroupMembership) -> None:
        charter = member.group.charter
        self._member = member
        self.label: Final = member.label
        self.vlan_id: Final = member.vlan_id
        self.aead: Final = member.aead
        self.keys: Final = StaticSecret(charter.lobby).keys(member.vlan_id)

    @property
    def is_shown(self) -> bool:
        """Admins are: who slept through a new routing secret finds them. Those who were removed can look here, too."""
        return self._member.group.me in self._member.group.charter.admins

    def is_member(self, member: PeerId) -> bool:
        """Members, and those who were removed: they may be told so. Others may know the secret from former days."""
        return self._member.is_member(member) or public_key_of(member) in self._member.group.charter.removed

    def may_bridge(self, member: PeerId, *, default: bool) -> bool:
        """There are no frames here."""
        return False

    def grant(self, now_unix: float) -> Grant | None:
        return _grant(self._member.group, self._member.secrets, self.keys, now_unix)


class DoorMembership:
    """Where an invite's newcomers meet the admin who gave it out.

    Args:
        inside: the VLAN, where we are the inviter; None: we are the newcomer.
    """

    warning: str | None = None
    aead = AES_256_GCM
    is_public = False

    def __init__(self, invite: Invite, inside: GroupMembership | None) -> None:
        self.label: Final = invite.label
        self.vlan_id: Final = invite.vlan_id
        self.keys: Final = StaticSecret(door_secret(invite)).keys(invite.vlan_id)
        self._inviter = invite.inviter
        self._inside = inside

    @property
    def is_shown(self) -> bool:
        """The inviter is, as long as the door is open."""
        return self._inside is not None

    @property
    def is_sought(self) -> bool:
        """The newcomer seeks the inviter."""
        return self._inside is None

    def is_member(self, member: PeerId) -> bool:
        """A newcomer hears the inviter alone."""
        return self._inside is not None or public_key_of(member) == self._inviter

    def may_bridge(self, member: PeerId, *, default: bool) -> bool:
        """There are no frames here."""
        return False

    def grant(self, now_unix: float) -> Grant | None:
        """The inviter's, which lets both ends pass a relay that wants one; a newcomer cannot make one."""
        inside = self._inside
        return None if inside is None else _grant(inside.group, inside.secrets, self.keys, now_unix)


def _grant(group: Group, secrets: VlanSecrets, keys: VlanKeys, now_unix: float) -> Grant | None:
    if secrets.expiry <= now_unix:
        return None
    charter = group.charter
    return secrets.grant_of(
        keys, tuple(sorted(charter.creators)), charter.threshold, name_hash(charter.label, charter.name_nonce)
    )
