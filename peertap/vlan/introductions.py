"""How members of a VLAN get to know each other, and get pair keys (SPEC 5).

    A                                                B
    │ Hello to the group (challenge a) ─────────────▶ │
    │ ◀─── Hello to A (echo a, challenge b, asks A)   │   a valid echo makes a sid known:
    │ Hello to B (echo b) ──────────────────────────▶ │   A knows B here, B knows A here
    │ Setup ────────────────────────────────────────▶ │
    │ ◀────────────────────────────────────── Confirm │   A sends pair frames from here
    │ ◀───────────────────────────────────────  Setup │   and the same the other way

Whatever is lost is repeated by the side that lacks something: a Hello until its answer makes the other known, a Setup
until its Confirm. Nothing recorded before a restart of either end is ever accepted.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Protocol

from peertap._core import FrameSigner, ReceiveKey, SendKey, VlanKeys
from peertap.errors import DecodeError, PeerError
from peertap.types import Mac, MlsId, PeerId, Sid, Token, public_key_of
from peertap.vlan.challenges import Challenges
from peertap.vlan.epochs import Epoch, Epochs
from peertap.vlan.membership import KeySource
from peertap.vlan.names import virtual_mac
from peertap.vlan.pair_keys import PairKeys
from peertap.vlan.peer import RETRY_FIRST_S, Candidate, Peer
from peertap.vlan.unknown_keys import UnknownKeys
from peertap.wire.content import Content, Reassembler, split, unpad_untrusted
from peertap.wire.introduction import (
    CHALLENGE_BYTES,
    MAX_COUNTER,
    NO_KID,
    Confirm,
    Hello,
    Introduction,
    Setup,
    parse_untrusted,
)
from peertap.wire.routes import signed_by

ANSWER_GAP_S: Final = 1.0  # PROTOCOL 2: at most one answer per member and second
REPEAT_FIRST_S: Final = 1.0  # ours: a Hello to the group is said again, each time four times later, for those who
REPEAT_MOST_S: Final = 300.0  # missed it; who knows us does not answer
PREKEY_S: Final = 24 * 3600.0  # PROTOCOL 2: a new prekey every 24 h
VERIFICATIONS_PER_S: Final = 64  # PROTOCOL 2
CANDIDATE_TRIES: Final = 10  # ours: about 13 s; then the other side's own Hello has to come
MAX_MEMBERS: Final = 4096  # ours: bounds the table against a member that invents identities
MAX_DEPARTED: Final = 4096  # ours: runs of members that are gone for the moment
MAX_NUMBERED: Final = 65_536  # ours: members that one process ever met
MAX_CANDIDATES: Final = 256  # ours: the oldest goes
INTRO_BYTES: Final = 1232 - 62 - 16  # SPEC 2.1, 2.3: what a group packet leaves for an INTRO's plaintext


class Identity(Protocol):
    """This node, as far as a VLAN needs it."""

    @property
    def peer_id(self) -> PeerId: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SendIntro:
    """A sealed INTRO to send to a token: `mac` is the member's, or None for the group."""

    mac: Mac | None
    token: Token
    nonce: bytes
    sealed: bytes
    after_applied: bool = False


class Introductions:
    """The introductions of one VLAN on this node.

    Every method returns what to send. `changed` says that keys changed since the caller last cleared it.
    """

    def __init__(
        self,
        source: KeySource,
        identity: Identity,
        *,
        sid: Sid,
        random: Callable[[int], bytes],
        token_to: Callable[[Mac | None], Token],
        mac_nonce: int = 0,
    ) -> None:
        """Args: token_to: the token by which a member is reached now; for None, all of them."""
        self.source: Final = source
        self.epochs: Final = Epochs(source.keys)
        self.sid: Final = sid
        self.mac_nonce: Final = mac_nonce
        self.me: Final = identity.peer_id
        self.mac: Final = virtual_mac(self.me, source.vlan_id, mac_nonce)
        self.peers: dict[PeerId, Peer] = {}
        self.changed = True
        self.must_renumber = False  # another member has our virtual MAC, and keeps it
        self.must_reclaim = False  # another member had it, and took another one
        self.rejected = 0
        self.pairs: Final = PairKeys(source, self.epochs, (self.me, sid), identity.sign, random)
        self._identity = identity
        self._token_to = token_to
        self._signer = FrameSigner.generate()
        self._prekey_until: float | None = None
        self._generation = 0
        self.group_send = self._group_sender()
        self._ids: dict[PeerId, int] = {}
        self._numbered: list[PeerId] = []
        self._by_sid: defaultdict[Sid, dict[PeerId, Peer]] = defaultdict(dict)  # anybody may say any sid
        self._departed: OrderedDict[tuple[PeerId, Sid], Peer] = OrderedDict()
        self._candidates: OrderedDict[tuple[PeerId, Sid], Candidate] = OrderedDict()
        self._challenges = Challenges(random)
        self._answered: OrderedDict[tuple[PeerId, bytes], float] = OrderedDict()
        self._verified: deque[float] = deque(maxlen=VERIFICATIONS_PER_S)
        self._reassembler: Reassembler[Sid] = Reassembler()
        self._serial = 0
        self._intros = 0
        self._messages = 0
        self._unknown = UnknownKeys()
        self._repeat_gap_s = REPEAT_FIRST_S
        self._repeat_at: float | None = None

    # What happens

    def edge_up(self, now: float) -> list[SendIntro]:
        """An own tree edge came up: introduce ourselves to the group, and again, in case that is lost."""
        self._repeat_gap_s = REPEAT_FIRST_S
        self._repeat_at = now + self._repeat_gap_s
        self._prekey_until = self._prekey_until or now + PREKEY_S
        return self._to_group(self._hello(now))

    def unknown_kid(self, kid: bytes, now: float) -> list[SendIntro]:
        """A frame came under a key that nobody introduced: of those that are due, the one seen most is asked for."""
        asked = self._unknown.seen(kid, now)
        return [] if asked is None else self._to_group(self._hello(now, asked_kid=asked))

    def generation_spent(self, kid: bytes, now: float) -> list[SendIntro]:
        """A sending key of ours came to 2^30 packets: step its generation (SPEC 3.3)."""
        if kid == self.group_send.kid:
            self._generation += 1
            self.group_send = self._group_sender()
            self.changed = True
            return self._to_group(self._hello(now))
        for peer in self.peers.values():
            if peer.pair_send is not None and peer.pair_send.kid == kid and peer.pending is None:
                return self._offer(peer, now)
        return []

    def received_untrusted(self, token: bytes, nonce: bytes, sealed: bytes, now: float) -> list[SendIntro]:
        """An INTRO reached us. Whatever is wrong with it is counted in `rejected`."""
        opened, epoch = self._open(nonce, token, sealed)
        if opened is None:
            self.rejected += 1
            return []
        sid = Sid(sealed[16:32])
        try:
            kind, content = unpad_untrusted(opened)
            if kind == Content.CONTROL_FRAGMENT:
                whole = self._reassembler.add_untrusted(sid, content, now)
                if whole is None:
                    return []
                content = whole
            elif kind != Content.CONTROL:
                raise DecodeError(f"introduction of content type {kind}")
            return self._received(sid, parse_untrusted(content), epoch, now)
        except (DecodeError, PeerError):
            self.rejected += 1
            return []

    def epoch_began(self, keys: VlanKeys, removed: Set[PeerId], now: float) -> None:
        """The VLAN's keys are others from now on; `removed` are no members any more, and are not heard again."""
        for member in removed:
            self.forget(member)
            for runs in (self._departed, self._candidates):
                for run in [run for run in runs if run[0] == member]:
                    del runs[run]
        epoch = self.epochs.begin(keys, now, removal=bool(removed), at_once=not self.peers)
        for peer in (*self.peers.values(), *self._departed.values()):
            peer.group_receive |= self._group_receivers(peer.hello, epoch, floor=0)
            peer.epoch_began(keys)
        self.changed = True

    def forget(self, member: PeerId) -> None:
        """A member is gone. Its run is kept aside: if it comes back, its keys have kept their windows."""
        peer = self.peers.pop(member, None)
        if peer is None:
            return
        self._end_run(peer)
        self._departed[member, peer.sid] = peer
        self.changed = True
        if len(self._departed) > MAX_DEPARTED:
            self._departed.popitem(last=False)
            self._repeat_gap_s, self._repeat_at = REPEAT_FIRST_S, 0.0  # say so now
            self.pairs.forget_prekeys()

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        dues = [at for at in (self._repeat_at, self._prekey_until) if at is not None]
        dues += [candidate.due_at for candidate in self._candidates.values()]
        dues += [peer.next_deadline() for peer in self.peers.values()]
        due = min(min(dues, default=inf), self.epochs.next_deadline())
        return None if due == inf else due

    def tick(self, now: float) -> list[SendIntro]:
        """Repeats what has not been answered, and drops keys whose time is over."""
        out = self._follow_epochs(now)
        if self._repeat_at is not None and self._repeat_at <= now:
            self._repeat_gap_s = min(4 * self._repeat_gap_s, REPEAT_MOST_S)
            self._repeat_at = now + self._repeat_gap_s
            out += self._to_group(self._hello(now))
        if self._prekey_until is not None and self._prekey_until <= now:
            self.pairs.renew_prekey()
            self._prekey_until = now + PREKEY_S
            out += self._to_group(self._hello(now))
        for run, candidate in list(self._candidates.items()):
            if candidate.due_at <= now:
                candidate.tries += 1
                if candidate.tries > CANDIDATE_TRIES:
                    del self._candidates[run]
                    continue
                candidate.said(now)
                out += self._answer(candidate.hello, candidate.epoch, now)
        for peer in self.peers.values():
            if peer.pending is not None and peer.pending.due_at <= now:
                pending = self.pairs.offer_again(peer, peer.pending, now)
                out += self._to_member(peer.mac, pending.setup, pending.epoch)
            self.changed |= peer.drop_former(now)
        return out

    def macs(self) -> set[Mac]:
        """Virtual MACs of members and of those about to become known."""
        return {self._mac_of(one.hello) for one in self._candidates.values()} | {one.mac for one in self.peers.values()}

    def ask_now(self, mac: Mac, now: float) -> None:
        """A route to this member came up: what waits for it need not wait for its turn."""
        for candidate in self._candidates.values():
            if self._mac_of(candidate.hello) == mac:
                candidate.due_at = now
        for peer in self.peers.values():
            if peer.mac == mac and peer.pending is not None:
                peer.pending.due_at = now

    # Epochs

    def _follow_epochs(self, now: float) -> list[SendIntro]:
        """Seals under another epoch once its time has come, and drops the keys of one that is over."""
        switched, ended = self.epochs.tick(now)
        out: list[SendIntro] = []
        if switched:
            self.group_send = self._group_sender()
            if not self.peers:  # who was away knows nobody, and nobody heard it in an epoch that is over
                out += self.edge_up(now)
            for peer in (*self.peers.values(), *self._departed.values()):
                self.pairs.follow(peer)
        if ended:
            live = {one.id for one in self.epochs.live}
            for peer in (*self.peers.values(), *self._departed.values()):
                peer.group_receive = {name: key for name, key in peer.group_receive.items() if name[0] in live}
                peer.pair_receive = [one for one in peer.pair_receive if one.epoch in live]
        self.changed |= switched or ended
        return out

    def _heard_in(self, peer: Peer, epoch: Epoch) -> None:
        """A member has this epoch: what is for it alone can be sealed there at once."""
        if epoch.number > peer.epoch.number:
            peer.epoch = epoch
            self.changed |= self.pairs.follow(peer)

    def _open(self, nonce: bytes, token: bytes, sealed: bytes) -> tuple[bytes | None, Epoch]:
        """An INTRO's plaintext and the epoch that it was sealed in."""
        for epoch in self.epochs.live:
            opened = epoch.keys.hello_open(nonce, token, sealed)
            if opened is not None:
                return opened, epoch
        return None, self.epochs.newest

    def peer_of(self, number: int) -> Peer | None:
        """The known member with this number in the data plane."""
        return self.peers.get(self._numbered[number - 1]) if 0 < number <= len(self._numbered) else None

    # Messages

    def _received(self, sid: Sid, message: Introduction, epoch: Epoch, now: float) -> list[SendIntro]:
        if isinstance(message, Hello):
            return self._received_hello(sid, message, epoch, now)
        if sid not in self._by_sid or message.to_sid != self.sid:
            raise PeerError("introduction for or from another run")
        if isinstance(message, Confirm):
            return self._received_confirm(sid, message, epoch)
        failure = PeerError("setup: no such run")
        for peer in self._by_sid[sid].values():  # one, unless a member says another's sid
            try:
                return self._received_setup(peer, message, epoch, now)
            except PeerError as error:
                failure = error
        raise failure

    def _received_hello(self, sid: Sid, hello: Hello, epoch: Epoch, now: float) -> list[SendIntro]:
        if hello.member == self.me:
            return []
        if hello.sid != sid or hello.vlan_id != self.source.vlan_id or hello.mls_id != epoch.id:
            raise PeerError("hello for another VLAN, epoch or run")
        if not self.source.is_member(hello.member):
            raise PeerError("hello of somebody who is no member")
        if self._is_old(hello, now):
            return []
        self._spend_verification(now)
        if not signed_by(public_key_of(hello.member), hello.signature, Hello.PREFIX + hello.unsigned()):
            raise PeerError("hello: the signature does not match")
        if self._mac_of(hello) == self.mac:
            self.must_renumber = self.me > hello.member
            return [] if self.must_renumber else self._keep_mac(hello, epoch, now)
        if hello.mac_nonce and virtual_mac(hello.member, hello.vlan_id, hello.mac_nonce - 1) == self.mac:
            self.must_reclaim = True
        peer = self._known(hello.member, sid)
        was_pending = peer is not None and peer.pending is not None
        if peer is not None:
            self._refresh(peer, hello, epoch)
        elif hello.echo_sid == self.sid and self._challenges.is_ours(hello.echo_challenge, now):
            overtaken_by = self._candidates.get((hello.member, sid))
            peer = self._accept(hello, epoch)
            if overtaken_by is not None:
                self._refresh(peer, overtaken_by.hello, overtaken_by.epoch)
        known = peer is not None
        out: list[SendIntro] = []
        if not known:
            self._remember_candidate(hello, epoch, now)
        lost_ours = peer is not None and peer.pair_send is not None and hello.asked_kid == peer.pair_send.kid
        asks = not known or lost_ours or hello.asked_kid == self.group_send.kid
        if asks and self._may_answer(hello, epoch, now):
            out += self._answer(hello, epoch, now)
        if peer is not None and peer.pending is None and (peer.pair_send is None or lost_ours or was_pending):
            out += self._offer(peer, now)
        return out

    def _is_old(self, hello: Hello, now: float) -> bool:
        """Whether we had this Hello, or a later one of the run that is no overtaken answer: a replay costs nothing."""
        candidate = self._candidates.get((hello.member, hello.sid))
        known = self._known(hello.member, hello.sid)
        if known is not None:
            return hello.serial <= known.hello.serial
        if candidate is None or hello.serial > candidate.hello.serial:
            return False
        return hello.echo_sid != self.sid or not self._challenges.is_ours(hello.echo_challenge, now)

    def _keep_mac(self, hello: Hello, epoch: Epoch, now: float) -> list[SendIntro]:
        """Tells who has our virtual MAC that it is ours: by the group, for its unicast token is ours as well."""
        if not self._may_answer(hello, epoch, now):
            return []
        self._note_answer(hello, epoch, now)
        return self._to_group(self._hello(now))

    def _accept(self, hello: Hello, epoch: Epoch) -> Peer:
        old = self.peers.get(hello.member)
        if old is None and len(self.peers) >= MAX_MEMBERS:
            raise PeerError(f"hello: more than {MAX_MEMBERS} members")
        if old is not None:
            self._end_run(old)  # a replaced sid takes its keys along
        mac = self._mac_of(hello)
        if mac == self.mac or any(one.mac == mac and one is not old for one in self.peers.values()):
            raise PeerError("hello: the virtual MAC is another member's")
        peer = self._departed.pop((hello.member, hello.sid), None)
        if peer is not None:
            self._refresh(peer, hello, epoch)
        else:
            receivers = self._group_receivers(hello, epoch, floor=hello.floor)
            for later in self.epochs.later_than(epoch):
                receivers |= self._group_receivers(hello, later, floor=0)  # it seals nothing there yet
            peer = Peer(self._number(hello.member), hello.member, mac, hello, receivers, epoch)
        self.peers[hello.member] = peer
        self._by_sid[hello.sid][hello.member] = peer
        self._candidates.pop((hello.member, hello.sid), None)
        self._unknown.clear()
        self.changed = True
        return peer

    def _known(self, member: PeerId, sid: Sid) -> Peer | None:
        """The member, if this is its present run."""
        peer = self.peers.get(member)
        return peer if peer is not None and peer.sid == sid else None

    def _end_run(self, peer: Peer) -> None:
        runs = self._by_sid[peer.sid]
        runs.pop(peer.member, None)
        if not runs:
            del self._by_sid[peer.sid]

    def _number(self, member: PeerId) -> int:
        """The member's number in the data plane, the same for as long as the process runs."""
        if len(self._ids) >= MAX_NUMBERED and member not in self._ids:
            raise PeerError(f"hello: more than {MAX_NUMBERED} members over time")
        if member not in self._ids:
            self._numbered.append(member)
            self._ids[member] = len(self._numbered)
        return self._ids[member]

    def _refresh(self, peer: Peer, hello: Hello, epoch: Epoch) -> None:
        """A later Hello of a known sid: new prekey or generation."""
        if hello.serial <= peer.hello.serial:
            return
        self._heard_in(peer, epoch)
        if hello.generation > peer.hello.generation:
            fresh: dict[tuple[bytes, int], ReceiveKey] = {}
            for one in (epoch, *self.epochs.later_than(epoch)):
                fresh |= self._group_receivers(hello, one, floor=0)
            known = {name: key for name, key in peer.group_receive.items() if name[1] >= hello.generation - 1}
            peer.group_receive = fresh | known  # a key that we have keeps its window
            self.changed = True
        self.pairs.met_again(peer, hello)
        peer.hello = hello

    def _received_setup(self, peer: Peer, setup: Setup, came_in: Epoch, now: float) -> list[SendIntro]:
        confirm = peer.confirm_again(setup)
        if confirm is not None:
            self._heard_in(peer, came_in)
            return self._to_member(peer.mac, confirm, peer.epoch)
        self._spend_verification(now)
        confirm, epoch = self.pairs.take_untrusted(peer, setup, now)
        self._heard_in(peer, came_in)
        self.changed = True
        return self._to_member(peer.mac, confirm, epoch, after_applied=True)

    def _received_confirm(self, sid: Sid, confirm: Confirm, came_in: Epoch) -> list[SendIntro]:
        for peer in self._by_sid[sid].values():
            if self.pairs.confirmed(peer, confirm):
                self._heard_in(peer, came_in)
                self.changed = True
        return []

    def _offer(self, peer: Peer, now: float) -> list[SendIntro]:
        pending = self.pairs.offer(peer, now)
        return self._to_member(peer.mac, pending.setup, pending.epoch)

    # Hellos

    def _hello(
        self, now: float, *, echo: Hello | None = None, asked_kid: bytes = NO_KID, epoch: Epoch | None = None
    ) -> Hello:
        """In the epoch under which we seal, or in that of whom we answer."""
        epoch = epoch or self.epochs.sending
        self._serial += 1
        hello = Hello(
            vlan_id=self.source.vlan_id,
            mls_id=MlsId(epoch.id),
            member=self.me,
            mac_nonce=self.mac_nonce,
            sid=self.sid,
            serial=self._serial,
            signing_key=self._signer.public,
            prekey=self.pairs.prekey,
            generation=self._generation,
            floor=self._floor(epoch),
            challenge=self._challenges.offered(now),
            echo_sid=echo.sid if echo else Sid(bytes(16)),
            echo_challenge=echo.challenge if echo else bytes(CHALLENGE_BYTES),
            asked_kid=asked_kid,
        )
        return replace(hello, signature=self._identity.sign(Hello.PREFIX + hello.unsigned()))

    def _answer(self, hello: Hello, epoch: Epoch, now: float) -> list[SendIntro]:
        """Our own Hello to its sender, echoing it; asks for an answer while its sender is not known."""
        self._note_answer(hello, epoch, now)
        epoch = epoch if epoch in self.epochs.live else self.epochs.sending
        asked = NO_KID
        if self._known(hello.member, hello.sid) is None:
            asked = self._group_receivers(hello, epoch, floor=0)[epoch.id, hello.generation].kid
        return self._to_member(self._mac_of(hello), self._hello(now, echo=hello, asked_kid=asked, epoch=epoch), epoch)

    def _may_answer(self, hello: Hello, epoch: Epoch, now: float) -> bool:
        return now >= self._answered.get((hello.member, epoch.id), -inf) + ANSWER_GAP_S

    def _note_answer(self, hello: Hello, epoch: Epoch, now: float) -> None:
        self._answered[hello.member, epoch.id] = now
        self._answered.move_to_end((hello.member, epoch.id))
        while len(self._answered) > MAX_MEMBERS:
            self._answered.popitem(last=False)

    def _floor(self, epoch: Epoch) -> int:
        """The next counter of our group key: none was used in a later epoch, none will be in an earlier one."""
        if epoch is self.epochs.sending:
            return self.group_send.next_counter
        return 0 if epoch.number > self.epochs.sending.number else MAX_COUNTER

    def _remember_candidate(self, hello: Hello, epoch: Epoch, now: float) -> None:
        known = self._candidates.get((hello.member, hello.sid))
        if known is None:
            self._candidates[hello.member, hello.sid] = Candidate(now + RETRY_FIRST_S, hello, epoch)
            if len(self._candidates) > MAX_CANDIDATES:
                self._candidates.popitem(last=False)
        elif hello.serial > known.hello.serial:
            known.hello, known.epoch = hello, epoch

    def _spend_verification(self, now: float) -> None:
        if len(self._verified) == VERIFICATIONS_PER_S and self._verified[0] > now - 1:
            raise PeerError(f"more than {VERIFICATIONS_PER_S} introductions a second")
        self._verified.append(now)

    # Keys and packets

    def _group_sender(self) -> SendKey:
        keys = self.epochs.sending.keys
        return keys.group_sender(self.me, self.sid, self._generation, self.source.aead, self._signer)

    def _group_receivers(self, hello: Hello, epoch: Epoch, *, floor: int) -> dict[tuple[bytes, int], ReceiveKey]:
        """Keys of the present generation, from its floor on, and the next."""
        aead, public = self.source.aead, hello.signing_key
        return {
            (epoch.id, number): epoch.keys.group_receiver(hello.member, hello.sid, number, aead, public, least)
            for number, least in ((hello.generation, floor), (hello.generation + 1, 0))
        }

    def _mac_of(self, hello: Hello) -> Mac:
        return virtual_mac(hello.member, self.source.vlan_id, hello.mac_nonce)

    def _to_group(self, message: Introduction) -> list[SendIntro]:
        return self._sealed(None, message, self.epochs.sending, after_applied=False)

    def _to_member(
        self, mac: Mac, message: Introduction, epoch: Epoch, *, after_applied: bool = False
    ) -> list[SendIntro]:
        return self._sealed(mac, message, epoch, after_applied=after_applied)

    def _sealed(self, mac: Mac | None, message: Introduction, epoch: Epoch, *, after_applied: bool) -> list[SendIntro]:
        self._messages += 1
        token, out = self._token_to(mac), []
        for part in split(Content.CONTROL, message.emit(), self._messages & 0xFFFFFFFF, INTRO_BYTES):
            nonce = bytes(4) + self._intros.to_bytes(8, "big")
            sealed = epoch.keys.hello_seal(self.sid, self._intros, token, part)
            self._intros += 1
            out.append(SendIntro(mac, token, nonce, sealed, after_applied))
        return out
