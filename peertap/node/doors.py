"""The doors of a VLAN with a group, on the node of an admin: invites of ours, and who stands before them (SPEC 10.1).

A door is a static VLAN of the invite's secret. It is open while the invite lets somebody in, and a while longer for who
came in by it and lost that by a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from peertap._core import mls_key_package_owner
from peertap.errors import ConfigError
from peertap.node.group_host import Host
from peertap.node.vlan import VlanSettings
from peertap.types import PeerId, VlanIndex, public_key_of
from peertap.vlan.group import Group
from peertap.vlan.invites import End, Invites, Waiting
from peertap.vlan.letters import Answer, Join, Letter, Verdict, WelcomeIn
from peertap.vlan.membership import DoorMembership, GroupMembership
from peertap.wire.charter import Charter, SpentInvite
from peertap.wire.invite import Invite

STAYS_S: Final = 300.0  # ours: a door that lets nobody else in, for who came in and lost it by a crash
LAST_ANSWER_S: Final = 20.0  # ours: the door by which we came in, until our answer is there


class Doors:
    """Those of one VLAN. `now` is monotonic; the time of day comes from the host."""

    def __init__(
        self,
        host: Host,
        me: bytes,
        invites: Iterable[tuple[Invite, bool, frozenset[bytes]]],
        log: Callable[..., None],
    ) -> None:
        """Args: me: our identity; invites: with whether they are revoked, and whom they forgive; log: see GroupVlan."""
        self.invites: Final = Invites()
        self._host = host
        self._me = me
        self._log = log
        self._open: dict[bytes, VlanIndex] = {}  # by the invite's id
        self._shut_at: dict[bytes, float] = {}
        self._expected: dict[bytes, bytes] = {}  # who was let in and not met inside yet, by which invite
        self._welcomes: dict[bytes, tuple[bytes, WelcomeIn]] = {}  # what they were sent, for which key package
        for invite, revoked, forgives in invites:
            self.invites.add(invite, forgives)
            self.invites.open[invite.id].revoked = revoked

    @property
    def indexes(self) -> tuple[VlanIndex, ...]:
        """The local VLANs that they are."""
        return tuple(self._open.values())

    # Open and shut

    def restore(self, source: GroupMembership) -> None:
        """Opens those of all invites that are good: who was let in may not have heard of it."""
        for name, one in self.invites.open.items():
            if not one.revoked and one.invite.expiry > self._host.now_unix:
                self.open(one.invite, source, name)

    def open(self, invite: Invite, source: GroupMembership | None, name: bytes | None = None) -> None:
        """Opens one; without a source it is another node's, and we stand before it."""
        settings = VlanSettings(DoorMembership(invite, source), is_inside=False)
        self._open[name or invite.id] = self._host.open_vlan(settings)

    def tend(self, charter: Charter, source: GroupMembership, now: float) -> None:
        """Opens a door for each invite that still lets somebody in, and shuts the others a little later."""
        wanted = self.invites.doors(charter, self._host.now_unix) if self._me in charter.admins else {}
        for name, invite in wanted.items():
            self._shut_at.pop(name, None)
            if name not in self._open:
                self.open(invite, source)
        for name in self._open:
            if name not in wanted:
                self._shut_at.setdefault(name, now + STAYS_S)

    def came_in(self, invite: Invite, now: float) -> None:
        """We are in: the door that we came by is shut once our answer is there."""
        self._shut_at[invite.id] = now + LAST_ANSWER_S

    def replace(self, index: VlanIndex, by: VlanIndex) -> None:
        """A door is another local VLAN from now on."""
        self._open = {name: by if one == index else one for name, one in self._open.items()}

    def close(self) -> None:
        """Shuts all at once; the invites stay."""
        for index in self._open.values():
            self._host.close_vlan(index)
        self._open, self._shut_at = {}, {}

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        return min(self._shut_at.values(), default=float("inf"))

    def tick(self, now: float) -> None:
        for name in [name for name, at in self._shut_at.items() if at <= now]:
            if name in self._expected.values():
                self._shut_at[name] = now + STAYS_S
                continue
            del self._shut_at[name]
            self._host.close_vlan(self._open.pop(name))

    # Who stands before them

    def knock_untrusted(self, group: Group, index: VlanIndex, member: PeerId, join: Join) -> Letter | None:
        """A newcomer shows an invite: the answer; None: it may be admitted, and waits for that."""
        here, identity = self._host.vlans[index].introductions, public_key_of(member)
        ends = (End(identity, here.peers[member].sid), End(self._me, here.sid))
        is_member = identity in group.members
        package, welcome = self._welcomes.get(identity, (b"", None))
        if is_member and welcome is not None and package == join.package:
            return welcome  # it did not arrive
        refusal = self.invites.refusal(join, ends, group.charter, self._host.now_unix, is_member=is_member)
        if refusal is None and self._me not in group.charter.admins:
            refusal = "its inviter is no admin any more; ask another one"
        if refusal is not None:
            self._log("warning", "newcomer refused", newcomer=member, reason=refusal)
            return Answer(Verdict.REFUSED, refusal)
        key = group.roster.get(identity)
        if group.charter.threshold > 1 and mls_key_package_owner(join.package) == (identity, key):
            return Answer(Verdict.REFUSED, "this node is in already, and has lost that; join again")
        self.invites.wait(join, identity)
        if self.invites.open[join.invite].invite.approve and not is_member:
            self._log("info", "newcomer waits for approval", newcomer=member, name=join.name)
            return Answer(Verdict.WAIT, "an admin has to approve it")
        return None

    def waiting(self, identity: bytes) -> Waiting:
        """Somebody who waits. Raises ConfigError: nobody like that does."""
        if identity not in self.invites.waiting:
            raise ConfigError("nobody like that waits", hint="peertap vlan members")
        return self.invites.waiting[identity]

    def turn_away(self, identity: bytes) -> None:
        """Somebody waits no more."""
        del self.invites.waiting[identity]

    def shut_for(self, waiting: Waiting, charter: Charter) -> str | None:
        """Why somebody who waits cannot come in any more; None: it can."""
        return self.invites.shut(self.invites.open[waiting.invite], charter, self._host.now_unix)

    def price(self, waiting: Waiting, group: Group) -> SpentInvite | None:
        """What its admission costs its invite; nothing for who was in already."""
        invite = self.invites.open[waiting.invite].invite
        return None if waiting.identity in group.members else self.invites.spent(invite, group.charter)

    def admitted(self, waiting: Waiting, welcome: WelcomeIn) -> None:
        """Somebody who waited is in: it may ask again for its Welcome until it is met inside."""
        del self.invites.waiting[waiting.identity]
        self._expected[waiting.identity] = waiting.invite
        self._welcomes[waiting.identity] = waiting.package, welcome

    def met_inside(self, identity: bytes) -> None:
        """It came in."""
        self._expected.pop(identity, None)
        self._welcomes.pop(identity, None)
