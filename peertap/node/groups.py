"""The VLANs with a group on this node, and the operator's commands for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from peertap._core import StaticSecret
from peertap.errors import ConfigError
from peertap.node.actions import Met
from peertap.node.commands import (
    Agree,
    Approve,
    Bridge,
    Command,
    Create,
    Demote,
    JoinBy,
    Kick,
    LeaveVlan,
    MakeInvite,
    Promote,
    Restore,
    Revoke,
    Rotate,
)
from peertap.node.group_host import Host, Us, new_member
from peertap.node.group_vlan import GroupVlan
from peertap.node.vlan import VlanSettings
from peertap.types import PeerId, VlanIndex
from peertap.vlan import group_actions
from peertap.vlan.commits import MAX_LIFETIME_S, charter_vlan_id
from peertap.vlan.grants import grant_message
from peertap.vlan.group import Group
from peertap.vlan.invites import MAX_OPEN
from peertap.vlan.record import VlanRecord
from peertap.vlan.saved import SavedGroup
from peertap.vlan.secrets import VlanSecrets
from peertap.wire.charter import Charter
from peertap.wire.invite import Invite

GRANT_S: Final = 5 * 365 * 86_400  # ours: how long the creator's word for the grant key holds


class Groups:
    """All of them, by label."""

    def __init__(self, host: Host, us: Us, name: str) -> None:
        self.vlans: Final[dict[str, GroupVlan]] = {}
        self._host = host
        self._us = us
        self._name = name

    def restore(self, records: Iterable[VlanRecord], now: float) -> None:
        """Those of a former process.

        Raises:
            DecodeError: a record is damaged.
        """
        for record in records:
            vlan = GroupVlan(self._host, self._us, self._name, record, now)
            vlan.restore(now)
            self.vlans[vlan.label] = vlan

    def dial(self) -> list[str]:
        """Multiaddrs of nodes through which the others are found."""
        return [address for vlan in self.vlans.values() if not vlan.is_over for address in vlan.record.dial]

    # What happens

    def received_untrusted(self, index: VlanIndex, member: PeerId, message: bytes, now: float) -> None:
        """A member control message that is no echo."""
        for vlan in self._of(index):
            vlan.received_untrusted(index, member, message, now)

    def met(self, met: Met, now: float) -> None:
        """Letters can go to a member again, or for the first time."""
        for vlan in self._of(met.vlan):
            vlan.met(met.vlan, met.member, now)

    def renumber(self, index: VlanIndex, settings: VlanSettings) -> bool:
        """Takes part anew, with another MAC; says whether the VLAN is one of ours."""
        for vlan in self._of(index):
            vlan.renumber(index, settings)
            return True
        return False

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        return min((vlan.next_deadline() for vlan in self.vlans.values() if not vlan.is_over), default=float("inf"))

    def tick(self, now: float) -> None:
        for label, vlan in list(self.vlans.items()):
            if not vlan.is_over:
                vlan.tick(now)
            elif vlan.joining is None:
                del self.vlans[label]

    def _of(self, index: VlanIndex) -> list[GroupVlan]:
        return [vlan for vlan in self.vlans.values() if index in vlan.indexes]

    # Commands

    def command(self, command: Command, now: float) -> dict[str, Any]:
        """Does what the operator wants; returns what to say of it.

        Raises:
            ConfigError, PeerError: it cannot be done, and nothing has changed.
        """
        unix = int(self._host.now_unix)
        match command:
            case Create():
                return self._create(command, now, unix)
            case JoinBy(invite):
                return self._join(command, invite, now, unix)
            case Restore(record):
                return self._restore(record, now)
        vlan = self._vlan(command.label)
        if isinstance(command, MakeInvite):
            return self._invite(vlan, command, now, unix)
        actions: Sequence[group_actions.Action] = ()
        waits = False
        match command:
            case Revoke(_, name):
                found = [one for one in vlan.doors.invites.open if one.startswith(name)]
                if len(found) != 1:
                    raise ConfigError("there is no such invite", hint=f"peertap vlan invites {vlan.label}")
                vlan.revoke(found[0], now)
            case Approve(_, identity, is_welcome):
                waits = not vlan.approve(identity, now, is_welcome=is_welcome)
            case Agree(_, name, is_welcome) if is_welcome:
                actions = self._group(vlan).agree(name, now, unix)
            case Agree(_, name):
                self._group(vlan).refuse(name)
            case Kick(_, identity):
                actions = self._group(vlan).kick(identity, unix)
            case Promote(_, identity):
                actions = self._group(vlan).promote(identity, unix)
            case Demote(_, identity):
                actions = self._group(vlan).demote(identity, unix)
            case Bridge(_, identity, is_allowed):
                actions = self._group(vlan).allow_bridging(identity, unix, is_allowed=is_allowed)
            case Rotate():
                actions = self._group(vlan).rotate(unix)
            case LeaveVlan(_, at_once):
                self._leave(vlan, at_once, now, unix)
        vlan.act(actions, now)
        kinds = {type(action) for action in actions}
        waits = waits or (group_actions.Move in kinds and group_actions.EpochBegan not in kinds)
        epoch = vlan.group.epoch if vlan.group is not None else None
        return {"vlan": vlan.label, "epoch": epoch, "agreement": "waits" if waits else "done"}

    def _create(self, command: Create, now: float, unix: int) -> dict[str, Any]:
        self._require_free(command.label)
        us, random = self._us, self._host.random
        charter = Charter(
            label=command.label,
            name_nonce=random(16),
            creators=tuple(sorted((us.public_key, *command.founders))),
            threshold=command.threshold,
            aead=command.aead,
            lobby=random(32),
            admins=(us.public_key, *command.founders),
            is_public=command.is_public,
        )
        vlan_id = charter_vlan_id(charter)
        grant, expiry = random(32), unix + GRANT_S
        word = us.sign(grant_message(vlan_id, StaticSecret(grant).grant_public, expiry))
        unsigned = VlanSecrets(0, random(32), grant, expiry, word, us.public_key)
        secrets = replace(unsigned, signature=us.sign(unsigned.signed(vlan_id)))
        group, actions = Group.create(new_member(us, vlan_id, command.suite, unix), us, charter, now, unix)
        vlan = GroupVlan(self._host, us, self._name, VlanRecord(command.port), now)
        vlan.begin(group, actions, secrets, now)
        self.vlans[command.label] = vlan
        return {"vlan": command.label, "vlan_id": vlan_id.hex()}

    def _join(self, command: JoinBy, invite: Invite, now: float, unix: int) -> dict[str, Any]:
        if invite.expiry <= unix:
            raise ConfigError("this invite has expired", hint="ask for a new one")
        if invite.inviter == self._us.public_key:
            raise ConfigError("this invite is this node's own", hint="paste it on another machine")
        self._require_free(invite.label)
        if any(one.source.vlan_id == invite.vlan_id for one in self._host.vlans.values()):
            raise ConfigError("this node is in that VLAN already, under another label")
        record = VlanRecord(command.port, joining=invite, dial=invite.addresses)
        vlan = GroupVlan(self._host, self._us, self._name, record, now)
        vlan.begin_joining(invite, now)
        self.vlans[invite.label] = vlan
        return {"vlan": invite.label}

    def _restore(self, record: VlanRecord, now: float) -> dict[str, Any]:
        group = Group.restore(SavedGroup.parse(record.group), self._us, now)
        label = group.charter.label
        if self._us.public_key not in group.members:
            raise ConfigError("this backup is another node's", hint="restore that node's identity.key first")
        self._require_free(label)
        vlan = GroupVlan(self._host, self._us, self._name, replace(record, is_restored=True), now)
        vlan.restore(now)
        vlan.keep()
        self.vlans[label] = vlan
        return {"vlan": label}

    def _invite(self, vlan: GroupVlan, command: MakeInvite, now: float, unix: int) -> dict[str, Any]:
        group = self._group(vlan)
        if self._us.public_key not in group.charter.admins:
            raise ConfigError("only admins invite, and this node is none", hint="ask an admin to promote it")
        if not 0 < command.lifetime_s <= MAX_LIFETIME_S:
            raise ConfigError("an invite lives for at least a second and at most a year", key="--expires")
        vlan.doors.invites.tidy(unix)
        if len(vlan.doors.invites.open) >= MAX_OPEN:
            raise ConfigError(f"there are {MAX_OPEN} invites already", hint="peertap vlan invites --revoke ID")
        unsigned = Invite(
            vlan_id=charter_vlan_id(group.charter),
            label=vlan.label,
            secret=self._host.random(16),
            inviter=self._us.public_key,
            expiry=unix + command.lifetime_s,
            uses=command.uses,
            approve=command.approve,
            suite=group.mls.suite,
            addresses=command.addresses,
        )
        invite = replace(unsigned, signature=self._us.sign(unsigned.signed()))
        vlan.add_invite(invite, now)
        return {"vlan": vlan.label, "invite": invite}

    def _leave(self, vlan: GroupVlan, at_once: bool, now: float, unix: int) -> None:
        if vlan.joining is not None or at_once:
            vlan.give_up()
            del self.vlans[vlan.label]
            return
        vlan.act(self._group(vlan).leave(unix), now)

    def _vlan(self, label: str) -> GroupVlan:
        vlan = self.vlans.get(label)
        if vlan is None or vlan.is_over:
            known = ", ".join(sorted(name for name, one in self.vlans.items() if not one.is_over))
            hint = f"there are: {known}" if known else "peertap vlan create LABEL makes one"
            raise ConfigError(f"this node is in no VLAN {label!r} with a group", hint=hint)
        return vlan

    @staticmethod
    def _group(vlan: GroupVlan) -> Group:
        if vlan.group is None:
            raise ConfigError("this node is not in yet", hint=f"peertap vlan members {vlan.label}")
        return vlan.group

    def _require_free(self, label: str) -> None:
        former = self.vlans.get(label)
        if former is not None and former.is_over:
            del self.vlans[label]
        taken = {one.source.label for one in self._host.vlans.values() if one.is_inside}
        if label in self.vlans or label in taken:
            raise ConfigError(
                f"this node is in a VLAN {label!r} already", hint="choose another label, or leave that one"
            )
