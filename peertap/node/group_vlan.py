"""One VLAN with a group, on this node: its group, its letters, its doors, and the local VLANs that they need.

    main     frames, under the epoch's keys            opened once we are in
    lobby    letters only, under a secret that stays   opened once we are in
    doors    letters only, one for each open invite; or, while we wait to be let in, the one that we came to

A letter goes by whichever of them has a pair key with its addressee and a way there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from peertap.errors import ConfigError, DecodeError, PeerError
from peertap.node.actions import DropRecord, Log, SaveRecord, SendControl
from peertap.node.doors import Doors
from peertap.node.group_host import Host, Joining, Us, new_member
from peertap.node.vlan import VlanSettings
from peertap.types import PeerId, VlanIndex, peer_id_of, public_key_of
from peertap.vlan import group_actions, letters
from peertap.vlan.group import Group
from peertap.vlan.group_actions import (
    Admit,
    AskAdmins,
    Dismiss,
    EpochBegan,
    Give,
    GiveInfo,
    Gone,
    Move,
    Remind,
    Save,
    Show,
    Tell,
    ToAll,
)
from peertap.vlan.invites import End, Waiting, proof
from peertap.vlan.letters import Answer, Join, Letter, Secrets, Verdict, WelcomeIn
from peertap.vlan.membership import GroupMembership, LobbyMembership
from peertap.vlan.motions import describe
from peertap.vlan.parcels import Out, Parcels
from peertap.vlan.record import VlanRecord
from peertap.vlan.saved import SavedGroup
from peertap.vlan.secrets import VlanSecrets
from peertap.wire import parcel
from peertap.wire.invite import Invite
from peertap.wire.motion import Motion

TELL_S: Final = 60.0  # ours: where we are is told to somebody so often, in case a meeting was missed
ROTATE_AFTER_S: Final = 60.0  # PROTOCOL 4: a new routing secret after removals, together
ROTATE_RANK_S: Final = 10.0  # ours: the lower an admin's rank, the later, so that one of them does it
NAMES_WITHIN_S: Final = 5.0  # ours: new tokens are announced at a time of each member's own (PROTOCOL 4)
SHOW_AGAIN_S: Final = 15.0  # ours: an invite is shown again while nothing final is said
TIDY_S: Final = 30.0  # ours: how often invites are looked through for expired ones


class GroupVlan:
    """See above. `now` is monotonic; the time of day comes from the host."""

    def __init__(self, host: Host, us: Us, name: str, record: VlanRecord, now: float) -> None:
        """Args: name: what this node calls itself, for whoever approves newcomers."""
        self.record = record
        self.group: Group | None = None
        self.source: GroupMembership | None = None
        self.joining: Joining | None = None
        self.doors: Final = Doors(host, us.public_key, record.invites, self._log)
        self.main: VlanIndex | None = None
        self.is_over = False
        self._host = host
        self._us = us
        self._name = name
        self._lobby: VlanIndex | None = None
        self._parcels = Parcels(host.random)
        self._known: frozenset[bytes] = frozenset()  # members when the last epoch began
        self._heard_by: dict[PeerId, VlanIndex] = {}  # by which way a member's last letter came
        self._tell_at = now + TELL_S
        self._tidy_at = now + TIDY_S
        self._rotate_at = float("inf")
        self._use_at = float("inf")  # new tokens

    @property
    def label(self) -> str:
        found = self.joining.invite.label if self.joining is not None else None
        return found or self._group().charter.label

    @property
    def indexes(self) -> list[VlanIndex]:
        """The local VLANs by which letters can go, the best first."""
        return [one for one in (self.main, self._lobby, *self.doors.indexes) if one is not None]

    # Beginnings

    def restore(self, now: float) -> None:
        """Goes on from the record.

        Raises:
            DecodeError: the record is damaged.
        """
        if self.record.joining is not None:
            self._knock(self.record.joining, now)
            return
        group = Group.restore(SavedGroup.parse(self.record.group), self._us, now)
        self._take(group, self.record.secrets)
        if self.record.is_restored:
            group.come_back(now)
            self._open_lobby()
        else:
            self._open_inside()
            if self.record.is_rotation_due:
                self._rotation_due(now)
            self.doors.restore(self._source())
            self._tend_doors(now)

    def begin(self, group: Group, actions: Sequence[group_actions.Action], secrets: VlanSecrets, now: float) -> None:
        """A group that we just made."""
        self._take(group, secrets)
        self._do(actions, now)

    def begin_joining(self, invite: Invite, now: float) -> None:
        """An invite that we just got."""
        self._knock(invite, now)
        self._save()

    def _take(self, group: Group, secrets: VlanSecrets | None) -> None:
        if secrets is None:
            raise DecodeError("VLAN record: it has no secrets")
        self.group, self.source = group, GroupMembership(group, secrets)
        self._known = group.members

    def _knock(self, invite: Invite, now: float) -> None:
        unix = int(self._host.now_unix)
        member = new_member(self._us, invite.vlan_id, invite.suite, unix)
        self.joining = Joining(invite, self._name, member, member.key_package(unix))
        self.doors.open(invite, None)

    def _open_inside(self) -> None:
        source = self._source()
        settings = VlanSettings(source, bridge=self.record.port.bridge, port=self.record.port)
        self.main = self._host.open_vlan(replace(settings, mac_nonce=self.record.mac_nonce))
        if self._lobby is None:
            self._open_lobby()

    def _open_lobby(self) -> None:
        self._lobby = self._host.open_vlan(VlanSettings(LobbyMembership(self._source()), is_inside=False))

    # What happens

    def act(self, actions: Sequence[group_actions.Action], now: float) -> None:
        """Carries out what a command led to."""
        self._do(actions, now)

    def received_untrusted(self, index: VlanIndex, member: PeerId, message: bytes, now: float) -> None:
        """A member control message that is no echo."""
        try:
            part = parcel.parse_untrusted(message)
            if part is None or self._is_too_long(member, part):
                return
            self._heard_by[member] = index
            out, body = self._parcels.received(member, part, now)
            self._send(out)
            if body is not None:
                self._read(index, member, letters.parse_untrusted(body, self._us.public_key), now)
        except (DecodeError, PeerError, ConfigError) as error:
            self._log("warning", "letter refused", member=member, reason=str(error))

    def met(self, index: VlanIndex, member: PeerId, now: float) -> None:
        """Letters can go to a member again, or for the first time."""
        self._parcels.hurry(member, now)
        if self.joining is not None:
            self._show_invite(index, member, now)
        elif index in (self.main, self._lobby) and public_key_of(member) in self._group().members:
            self.doors.met_inside(public_key_of(member))
            self._tell(member, now)

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        dues: list[float | None] = [self._tidy_at, self._parcels.next_deadline(), self.doors.next_deadline()]
        if self.joining is not None:
            dues.append(self.joining.again_at)
        if self.group is not None:
            dues += [self.group.next_deadline(), self._tell_at, self._rotate_at, self._use_at]
        return min(due for due in dues if due is not None)

    def tick(self, now: float) -> None:
        self._send(self._parcels.tick(now))
        self.doors.tick(now)
        if self._tidy_at <= now:
            self._tidy_at = now + TIDY_S
            self._tidy(now)
        if self.group is None:
            self._show_again(now)
            return
        try:
            self._do(self.group.tick(now, int(self._host.now_unix)), now)
        except (DecodeError, PeerError, ConfigError) as error:  # what others wished for may be of no use; later again
            self._log("warning", "group", reason=str(error))
        if self._tell_at <= now:
            self._tell_at = now + TELL_S * (0.5 + self._us.jitter())
            self._tell_somebody(now)
        if self._use_at <= now:
            self._use_at = float("inf")
            if self.main is not None:
                self._host.use_names(self.main)
        if self._rotate_at <= now:
            self._rotate_at = float("inf")
            self._rotate(now)

    def renumber(self, index: VlanIndex, settings: VlanSettings) -> None:
        """Takes part anew with another virtual MAC: another member has ours. In the VLAN itself that is kept."""
        if index == self.main:
            self.record = replace(self.record, mac_nonce=settings.mac_nonce)
            self._save()
        self._host.close_vlan(index)
        opened = self._host.open_vlan(settings)
        self.main = opened if index == self.main else self.main
        self._lobby = opened if index == self._lobby else self._lobby
        self.doors.replace(index, opened)

    def keep(self) -> None:
        """Has the record written."""
        self._save()

    def backup(self) -> VlanRecord:
        """The record as it may be kept elsewhere: it never resumes.

        Raises:
            ConfigError: we are not in.
        """
        self._group()
        return replace(self.record, invites=(), is_restored=True)

    def give_up(self) -> None:
        """Leaves without asking."""
        self._gone()

    def close(self) -> None:
        """Shuts all doors of this node; the record stays."""
        self.doors.close()
        for index in self.indexes:
            self._host.close_vlan(index)
        self.main, self._lobby = None, None

    # Commands

    def add_invite(self, invite: Invite, now: float) -> None:
        """Gives an invite out."""
        self.doors.invites.add(invite, self._group().charter.removed)
        self._save()
        self._tend_doors(now)

    def revoke(self, name: bytes, now: float) -> None:
        self.doors.invites.revoke(name)
        self._save()
        self._tend_doors(now)

    def approve(self, identity: bytes, now: float, *, is_welcome: bool) -> bool:
        """An admin's word on somebody who waits; says whether it is done: other admins may have to agree first.

        Raises:
            ConfigError: nobody like that waits.
            PeerError: its key package is none.
        """
        waiting = self.doors.waiting(identity)
        refusal = self.doors.shut_for(waiting, self._group().charter) if is_welcome else "an admin said no"
        if refusal is None:
            return self._admit(waiting, now)
        self.doors.turn_away(identity)
        self._post(peer_id_of(identity), Answer(Verdict.REFUSED, refusal), now)
        if is_welcome:
            raise ConfigError(refusal)
        return True

    # Inside: letters

    def _read(self, index: VlanIndex, member: PeerId, letter: Letter, now: float) -> None:
        sender, unix = public_key_of(member), int(self._host.now_unix)
        if self.joining is not None:
            self._read_at_the_door(sender, letter, now)
            return
        group = self._group()
        match letter:
            case Join() if index in self.doors.indexes:
                self._asked_in(index, member, letter, now)
            case ToAll(message):
                self._do(group.received_untrusted(message, sender, now, unix), now)
            case Give(_, messages):
                self._do(group.given(messages, sender, now, unix), now)
            case Tell(_, epoch, transcript_hash):
                self._do(group.told_position(sender, epoch, transcript_hash, now), now)
            case Show():
                self._do(group.shown_untrusted(letter, sender, now), now)
            case AskAdmins():
                self._do(group.asked_by_lost(sender, letter, now), now)
            case GiveInfo():
                self._do(group.rejoin_untrusted(letter, sender, now, unix), now)
            case Remind(_, secrets):
                self._do(group.reminded_untrusted(secrets, sender), now)
            case Dismiss(_, removal):
                self._do(group.dismissed_untrusted(removal, now), now)
            case Move(motion):
                self._moved(group, motion, sender, now)
            case Secrets(secrets):
                self._told_secrets(secrets, now)
            case _:
                raise PeerError("a letter that belongs to a door")

    def _moved(self, group: Group, motion: Motion, sender: bytes, now: float) -> None:
        known = set(group.motions)
        actions = group.moved_untrusted(motion, sender, now, int(self._host.now_unix))
        for name in group.motions.keys() - known:
            for what, who in describe(motion, group.charter):
                self._log("info", "change waits for agreement", change=name, what=what, member=peer_id_of(who))
        self._do(actions, now)

    def _post(self, member: PeerId, letter: Letter, now: float) -> None:
        if member != self._us.peer_id:
            self._send(self._parcels.post(member, letters.emit(letter), now))

    def _send(self, out: Sequence[Out]) -> None:
        for one in out:
            ways = [index for index in self.indexes if self._host.reaches(index, one.member)]
            if ways:
                last = self._heard_by.get(one.member)
                ways.sort(key=lambda index: index != last)
                index = ways[one.attempt % len(ways)]
                number = self._host.vlans[index].introductions.peers[one.member].id
                self._host.say(SendControl(index, number, one.message))

    def _tell(self, member: PeerId, now: float) -> None:
        group = self._group()
        if group.is_returning:
            return
        self._post(member, Tell(public_key_of(member), *group.position), now)
        if public_key_of(member) in group.charter.admins:
            for wish in group.wishes:  # it may have been away when they were made
                self._post(member, ToAll(wish), now)
        secrets = self._source().secrets
        if secrets.number > 0:
            self._post(member, Secrets(secrets), now)

    def _tell_somebody(self, now: float) -> None:
        others = [peer_id_of(one) for one in sorted(self._known - {self._us.public_key})]
        near = [one for one in others if any(self._host.reaches(index, one) for index in self.indexes)]
        if near:
            self._tell(near[int(self._us.jitter() * len(near)) % len(near)], now)

    # Inside: doors

    def _show_invite(self, index: VlanIndex, member: PeerId, now: float) -> None:
        joining = self.joining
        if joining is None or joining.is_refused or public_key_of(member) != joining.invite.inviter:
            return
        here = self._host.vlans[index].introductions
        sid = here.peers[member].sid
        if joining.shown_to == sid and now < joining.again_at:
            return
        joining.shown_to, joining.again_at = sid, now + SHOW_AGAIN_S
        invite = joining.invite
        ends = (End(self._us.public_key, here.sid), End(invite.inviter, sid))
        shown = proof(invite.secret, invite.id, invite.vlan_id, joining.package, ends)
        self._post(member, Join(invite.id, joining.name, shown, joining.package), now)

    def _show_again(self, now: float) -> None:
        """Neither a Welcome nor an answer came for long: it may be lost, or the admin may have forgotten us."""
        if self.joining is None or now < self.joining.again_at or not self.doors.indexes:
            return
        inviter, (door, *_) = peer_id_of(self.joining.invite.inviter), self.doors.indexes
        self.joining.again_at = now + SHOW_AGAIN_S
        if self._host.reaches(door, inviter):
            self.joining.again_at = now
            self._show_invite(door, inviter, now)

    def _is_too_long(self, member: PeerId, part: parcel.Message) -> bool:
        """Whoever is no member says nothing long to one: a Join fits a parcel."""
        is_long = isinstance(part, parcel.Offer | parcel.Block)
        return is_long and self.group is not None and public_key_of(member) not in self.group.members

    def _read_at_the_door(self, sender: bytes, letter: Letter, now: float) -> None:
        joining = self.joining
        if joining is None or sender != joining.invite.inviter:
            return
        if isinstance(letter, Answer):
            joining.answer = letter
            self._log("info", "join", answer=letter.verdict.name.lower(), reason=letter.reason)
            if joining.is_refused:
                self._gone()
        elif isinstance(letter, WelcomeIn):
            self._welcomed(joining, letter, now)

    def _welcomed(self, joining: Joining, letter: WelcomeIn, now: float) -> None:
        invite, unix = joining.invite, int(self._host.now_unix)
        group, actions = Group.join(joining.member, self._us, letter.message, invite.vlan_id, now, unix)
        charter = group.charter
        if charter.label != invite.label:
            raise PeerError("welcome: the VLAN has another label than the invite")
        if not letter.secrets.is_signed(invite.vlan_id, charter.creators, charter.admins):
            raise PeerError("welcome: its secrets are signed by no admin")
        self.joining = None
        self._take(group, letter.secrets)
        self.doors.came_in(invite, now)
        self._do(actions, now)
        self._log("info", "joined", epoch=group.epoch, members=len(group.members))

    def _asked_in(self, index: VlanIndex, member: PeerId, join: Join, now: float) -> None:
        """A newcomer stands before a door of ours."""
        answer = self.doors.knock_untrusted(self._group(), index, member, join)
        if answer is not None:
            self._post(member, answer, now)
        elif not self._admit(self.doors.waiting(public_key_of(member)), now):
            reason = f"{self._group().charter.threshold} admins have to agree"
            self._post(member, Answer(Verdict.WAIT, reason), now)

    def _admit(self, waiting: Waiting, now: float) -> bool:
        """Lets somebody in who waits; False: other admins were asked to agree first."""
        group, who = self._group(), waiting.identity
        actions = group.admit([(who, waiting.package)], int(self._host.now_unix), used=self.doors.price(waiting, group))
        welcomes = [one for one in actions if isinstance(one, group_actions.Welcome)]
        for one in welcomes:
            self.doors.admitted(waiting, WelcomeIn(one.message, self._source().secrets))
        self._do(actions, now)
        return bool(welcomes)

    def _tend_doors(self, now: float) -> None:
        if self.group is not None:
            self.doors.tend(self.group.charter, self._source(), now)

    def _tidy(self, now: float) -> None:
        unix = self._host.now_unix
        if self.joining is not None and self.joining.invite.expiry <= unix and not self.joining.is_refused:
            self.joining.answer = Answer(Verdict.REFUSED, "this invite has expired; ask for a new one")
            self._gone()
        elif self.group is not None and self.doors.invites.tidy(unix):
            self._save()
            self._tend_doors(now)

    # Inside: the group

    def _do(self, actions: Sequence[group_actions.Action], now: float) -> None:
        for action in actions:
            match action:
                case Save(state):
                    self.record = replace(self.record, group=state, is_restored=self._group().is_returning)
                    self._save()
                case ToAll():
                    for identity in sorted(self._known):
                        self._post(peer_id_of(identity), action, now)
                case group_actions.Welcome(identity, message):
                    self._post(peer_id_of(identity), WelcomeIn(message, self._source().secrets), now)
                case Give(who) | Tell(who) | Show(who) | GiveInfo(who) | Remind(who) | Dismiss(who):
                    self._post(peer_id_of(who), action, now)
                case AskAdmins():
                    for identity in sorted(self._group().helpers):
                        self._post(peer_id_of(identity), action, now)
                case Move():
                    for identity in sorted(self._known.intersection(self._group().charter.admins)):
                        self._post(peer_id_of(identity), action, now)
                case Admit(identity):
                    if identity in self.doors.invites.waiting:
                        self.approve(identity, now, is_welcome=True)
                case EpochBegan(epoch, removed):
                    self._epoch_began(epoch, removed, now)
                case Gone():
                    self._log("warning" if not self._group().is_leaving else "info", "no member any more")
                    self._gone()
                    return

    def _epoch_began(self, epoch: int, removed: frozenset[bytes], now: float) -> None:
        group, source = self._group(), self._source()
        if self.main is None:
            self._open_inside()
        else:
            here = self._host.vlans[self.main].introductions
            gone = {member for member in here.peers if not source.is_member(member)}
            gone |= {peer_id_of(identity) for identity in removed}
            here.epoch_began(source.keys, gone, now)
        if removed:
            self._rotation_due(now)
        elif source.secrets.admin not in group.charter.admins and group.highest_admin == self._us.public_key:
            self._renew(source.secrets.routing, now)  # newcomers take them only from an admin
        self._known = group.members
        self._log("info", "epoch", epoch=epoch, members=len(group.members), removed=len(removed))
        self._tend_doors(now)

    def _rotate(self, now: float) -> None:
        """A new routing secret: who was removed knows the old one."""
        if self._us.public_key in self._group().charter.admins:
            self._renew(self._host.random(32), now)

    def _rotation_due(self, now: float) -> None:
        """Who was removed knows the routing secret: it is renewed in a while, also if the process ends before."""
        if not self.record.is_rotation_due:
            self.record = replace(self.record, is_rotation_due=True)
            self._save()
        admins = self._group().charter.admins
        if self._us.public_key in admins:
            wait_s = ROTATE_AFTER_S + ROTATE_RANK_S * admins.index(self._us.public_key)
            self._rotate_at = min(self._rotate_at, now + wait_s)

    def _renew(self, routing: bytes, now: float) -> None:
        """The next secrets, signed by us, with this routing secret."""
        source, us = self._source(), self._us
        fresh = source.secrets.next(routing, us.public_key)
        self._use(replace(fresh, signature=us.sign(fresh.signed(source.vlan_id))), now)
        for identity in sorted(self._known):
            self._post(peer_id_of(identity), Secrets(source.secrets), now)

    def _told_secrets(self, secrets: VlanSecrets, now: float) -> None:
        source, charter = self._source(), self._group().charter
        if secrets.follows(source.secrets) and secrets.is_signed(source.vlan_id, charter.creators, charter.admins):
            self._use(secrets, now)

    def _use(self, secrets: VlanSecrets, now: float) -> None:
        has_new_names = secrets.routing != self._source().secrets.routing
        self._source().secrets = secrets
        if has_new_names:
            self._rotate_at = float("inf")
            self.record = replace(self.record, is_rotation_due=False)
        self._use_at = now + NAMES_WITHIN_S * self._us.jitter() if has_new_names else self._use_at
        self._save()

    def _gone(self) -> None:
        self.close()
        self.is_over = True
        self._host.say(DropRecord(self.label))

    def _save(self) -> None:
        """The record must be on disk before anything that follows is done."""
        invites = tuple((one.invite, one.revoked, one.forgives) for one in self.doors.invites.open.values())
        joining = self.joining.invite if self.joining is not None else None
        secrets = self.source.secrets if self.source is not None else None
        self.record = replace(self.record, invites=invites, joining=joining, secrets=secrets)
        self._host.say(SaveRecord(self.label, self.record.emit()))

    def _group(self) -> Group:
        return self._source().group

    def _source(self) -> GroupMembership:
        if self.source is None:
            raise ConfigError("this node is not in yet", hint="peertap vlan members shows what it waits for")
        return self.source

    def _log(self, level: str, event: str, **fields: object) -> None:
        self._host.say(Log(level, event, {"vlan": self.label, **fields}))
