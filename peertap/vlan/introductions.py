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

import hmac as constant_time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from peertap._core import FrameSigner, ReceiveKey, SendKey
from peertap.errors import DecodeError, PeerError
from peertap.types import Mac, MlsId, PeerId, Sid
from peertap.vlan.membership import KeySource
from peertap.vlan.names import BROADCAST, KIND_GROUP, virtual_mac
from peertap.vlan.pairing import (
    SECRET_BYTES,
    Prekey,
    open_secret_untrusted,
    pair_info,
    seal_secret,
    sealed_hash,
    setup_message,
    signed_by,
)
from peertap.wire.content import Content, Reassembler, split, unpad_untrusted
from peertap.wire.introduction import CHALLENGE_BYTES, NO_KID, Confirm, Hello, Introduction, Setup, parse_untrusted
from peertap.wire.routes import KIND_UNICAST

CHALLENGE_S: Final = 10.0  # PROTOCOL 2: a challenge is valid for 10 s
CHALLENGE_STEP_S: Final = 5.0  # ours: a new one every 5 s, so that each is offered for at least 5
ANSWER_GAP_S: Final = 1.0  # PROTOCOL 2: at most one answer per member and second
UNKNOWN_KID_GAP_S: Final = 2.0  # PROTOCOL 2: at most one Hello in 2 s for an unknown kid, doubling
UNKNOWN_KIDS_GAP_S: Final = 0.5  # ours: and for all of them together, so that junk kids silence nobody's question
MAX_UNKNOWN_KIDS: Final = 256  # ours: the oldest goes
UNKNOWN_KID_GAP_MOST_S: Final = 300.0  # PROTOCOL 2
REPEAT_FIRST_S: Final = 1.0  # ours: a Hello to the group is said again, each time four times later, for those who
REPEAT_MOST_S: Final = 300.0  # missed it; who knows us does not answer
PREKEY_S: Final = 24 * 3600.0  # PROTOCOL 2: a new prekey every 24 h
VERIFICATIONS_PER_S: Final = 64  # PROTOCOL 2
RETRY_FIRST_S: Final = 0.1  # ours: about ten round trips of a near relay
RETRY_MOST_S: Final = 2.0  # ours
CANDIDATE_TRIES: Final = 10  # ours: about 13 s; then the other side's own Hello has to come
PREVIOUS_KEY_S: Final = 5.0  # PROTOCOL 2: receivers hold the previous generation for 5 s
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
    nonce: bytes
    sealed: bytes
    after_applied: bool = False


@dataclass(slots=True)
class _PendingSetup:
    generation: int
    setup: Setup
    key: SendKey
    confirm: bytes
    due_at: float
    gap_s: float = RETRY_FIRST_S


@dataclass(slots=True)
class Peer:
    """A member whose present run (sid) is known."""

    id: int
    member: PeerId
    mac: Mac
    hello: Hello
    group_receive: dict[int, ReceiveKey]  # by generation: the present one, the next, the previous
    pair_send: SendKey | None = None
    pair_receive: list[tuple[ReceiveKey, float]] = field(default_factory=list)  # newest first; usable until
    pending: _PendingSetup | None = None
    setup_seen: Setup | None = None
    confirm: Confirm | None = None

    @property
    def sid(self) -> Sid:
        return self.hello.sid


@dataclass(slots=True)
class _Candidate:
    """A run that said Hello and has not echoed us yet."""

    hello: Hello
    due_at: float
    gap_s: float = RETRY_FIRST_S
    tries: int = 0


class Introductions:
    """The introductions of one VLAN on this node.

    Every method returns what to send. `changed` says that keys changed since the caller last cleared it.
    """

    def __init__(
        self, source: KeySource, identity: Identity, *, sid: Sid, random: Callable[[int], bytes], mac_nonce: int = 0
    ) -> None:
        self.source = source
        self.sid: Final = sid
        self.mac_nonce: Final = mac_nonce
        self.me: Final = identity.peer_id
        self.mac: Final = virtual_mac(self.me, source.vlan_id, mac_nonce)
        self.peers: dict[PeerId, Peer] = {}
        self.changed = True
        self.rejected = 0
        self._identity = identity
        self._random = random
        self._signer = FrameSigner.generate()
        self._prekeys = [Prekey()]  # ours, and the former one
        self._prekey_until: float | None = None
        self._generation = 0
        self.group_send = self._group_sender()
        self._ids: dict[PeerId, int] = {}
        self._by_sid: dict[Sid, Peer] = {}
        self._departed: OrderedDict[Sid, Peer] = OrderedDict()
        self._setups = 0
        self._candidates: OrderedDict[Sid, _Candidate] = OrderedDict()
        self._challenges: deque[tuple[bytes, float]] = deque(maxlen=3)
        self._answered: OrderedDict[PeerId, float] = OrderedDict()
        self._verified: deque[float] = deque(maxlen=VERIFICATIONS_PER_S)
        self._reassembler: Reassembler[Sid] = Reassembler()
        self._serial = 0
        self._intros = 0
        self._messages = 0
        self._unknown: OrderedDict[bytes, tuple[float, float, int]] = OrderedDict()  # asked again from, gap, seen
        self._asked_at = float("-inf")
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
        from_at, gap_s, seen = self._unknown.pop(kid, (now, UNKNOWN_KID_GAP_S, 0))
        self._unknown[kid] = (from_at, gap_s, seen + 1)
        while len(self._unknown) > MAX_UNKNOWN_KIDS:
            self._unknown.popitem(last=False)
        due = [one for one, (at, _, _) in self._unknown.items() if at <= now]
        if not due or now < self._asked_at + UNKNOWN_KIDS_GAP_S:
            return []
        kid = max(due, key=lambda one: self._unknown[one][2])
        _, gap_s, _ = self._unknown[kid]
        self._asked_at = now
        self._unknown[kid] = (now + gap_s, min(2 * gap_s, UNKNOWN_KID_GAP_MOST_S), 0)
        return self._to_group(self._hello(now, asked_kid=kid))

    def generation_spent(self, kid: bytes, now: float) -> list[SendIntro]:
        """A sending key of ours came to 2^30 packets: step its generation (SPEC 3.3)."""
        if kid == self.group_send.kid:
            self._generation += 1
            self.group_send = self._group_sender()
            self.changed = True
            return self._to_group(self._hello(now))
        for peer in self.peers.values():
            if peer.pair_send is not None and peer.pair_send.kid == kid and peer.pending is None:
                return self._start_setup(peer, now)
        return []

    def received_untrusted(self, token: bytes, nonce: bytes, sealed: bytes, now: float) -> list[SendIntro]:
        """An INTRO reached us. Whatever is wrong with it is counted in `rejected`."""
        opened = self.source.keys.hello_open(nonce, token, sealed)
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
            return self._received(sid, parse_untrusted(content), now)
        except (DecodeError, PeerError):
            self.rejected += 1
            return []

    def forget(self, member: PeerId) -> None:
        """A member is gone. Its run is kept aside: if it comes back, its keys have kept their windows."""
        peer = self.peers.pop(member, None)
        if peer is None:
            return
        self._by_sid.pop(peer.sid, None)
        self._departed[peer.sid] = peer
        self.changed = True
        if len(self._departed) > MAX_DEPARTED:
            self._departed.popitem(last=False)
            self._repeat_gap_s, self._repeat_at = REPEAT_FIRST_S, 0.0  # say so now
            self._prekeys = [Prekey()]  # what it once sealed for us opens no more, so that it cannot be replayed

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        dues = [at for at in (self._repeat_at, self._prekey_until) if at is not None]
        dues += [candidate.due_at for candidate in self._candidates.values()]
        dues += [peer.pending.due_at for peer in self.peers.values() if peer.pending is not None]
        dues += [until for peer in self.peers.values() for _, until in peer.pair_receive[1:]]
        return min(dues, default=None)

    def tick(self, now: float) -> list[SendIntro]:
        """Repeats what has not been answered, and drops keys whose time is over."""
        out: list[SendIntro] = []
        if self._repeat_at is not None and self._repeat_at <= now:
            self._repeat_gap_s = min(4 * self._repeat_gap_s, REPEAT_MOST_S)
            self._repeat_at = now + self._repeat_gap_s
            out += self._to_group(self._hello(now))
        if self._prekey_until is not None and self._prekey_until <= now:
            self._prekeys = [Prekey(), self._prekeys[0]]
            self._prekey_until = now + PREKEY_S
            out += self._to_group(self._hello(now))
        for sid, candidate in list(self._candidates.items()):
            if candidate.due_at <= now:
                candidate.tries += 1
                if candidate.tries > CANDIDATE_TRIES:
                    del self._candidates[sid]
                    continue
                candidate.gap_s = min(2 * candidate.gap_s, RETRY_MOST_S)
                candidate.due_at = now + candidate.gap_s
                out += self._answer(candidate.hello, now)
        for peer in self.peers.values():
            if peer.pending is not None and peer.pending.due_at <= now:
                peer.pending.gap_s = min(2 * peer.pending.gap_s, RETRY_MOST_S)
                peer.pending.due_at = now + peer.pending.gap_s
                out += self._to_member(peer.mac, peer.pending.setup)
            usable = [(key, until) for key, until in peer.pair_receive if until > now]
            if len(usable) != len(peer.pair_receive):
                peer.pair_receive = usable
                self.changed = True
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

    # Messages

    def _received(self, sid: Sid, message: Introduction, now: float) -> list[SendIntro]:
        if isinstance(message, Hello):
            return self._received_hello(sid, message, now)
        peer = self._by_sid.get(sid)
        if peer is None or message.to_sid != self.sid:
            raise PeerError("introduction for or from another run")
        if isinstance(message, Setup):
            return self._received_setup(peer, message, now)
        return self._received_confirm(peer, message)

    def _received_hello(self, sid: Sid, hello: Hello, now: float) -> list[SendIntro]:
        keys = self.source.keys
        if hello.member == self.me:
            return []
        if hello.sid != sid or hello.vlan_id != keys.vlan_id or hello.mls_id != keys.mls_id:
            raise PeerError("hello for another VLAN, epoch or run")
        if self._is_old(hello):
            return []
        self._spend_verification(now)
        if not signed_by(hello.member, hello.signature, Hello.PREFIX + hello.unsigned()):
            raise PeerError("hello: the signature does not match")
        peer = self._by_sid.get(sid)
        if peer is not None and peer.member != hello.member:
            raise PeerError("hello: a sid of another member")
        was_pending = peer is not None and peer.pending is not None
        if peer is not None:
            self._refresh(peer, hello)
        elif hello.echo_sid == self.sid and self._is_own_challenge(hello.echo_challenge, now):
            peer = self._accept(hello)
        known = peer is not None
        out: list[SendIntro] = []
        if not known:
            self._remember_candidate(hello, now)
        lost_ours = peer is not None and peer.pair_send is not None and hello.asked_kid == peer.pair_send.kid
        asks = not known or lost_ours or hello.asked_kid == self.group_send.kid
        if asks and now >= self._answered.get(hello.member, float("-inf")) + ANSWER_GAP_S:
            out += self._answer(hello, now)
        if peer is not None and peer.pending is None and (peer.pair_send is None or lost_ours or was_pending):
            out += self._start_setup(peer, now)
        return out

    def _is_old(self, hello: Hello) -> bool:
        """Whether we had this Hello, or a later one of the same run: a replay costs no verification."""
        candidate = self._candidates.get(hello.sid)
        known = self._by_sid.get(hello.sid)
        if known is not None:
            return hello.serial <= known.hello.serial
        return candidate is not None and hello.serial <= candidate.hello.serial

    def _accept(self, hello: Hello) -> Peer:
        old = self.peers.get(hello.member)
        if old is None and len(self.peers) >= MAX_MEMBERS:
            raise PeerError(f"hello: more than {MAX_MEMBERS} members")
        if old is not None:
            self._by_sid.pop(old.sid, None)  # a replaced sid takes its keys along
        mac = self._mac_of(hello)
        if mac == self.mac or any(one.mac == mac and one is not old for one in self.peers.values()):
            raise PeerError("hello: the virtual MAC is another member's")
        peer = self._departed.pop(hello.sid, None)
        if peer is not None and peer.member == hello.member:
            self._refresh(peer, hello)
        else:
            peer = Peer(self._number(hello.member), hello.member, mac, hello, self._group_receivers(hello))
        self.peers[hello.member] = peer
        self._by_sid[hello.sid] = peer
        self._candidates.pop(hello.sid, None)
        self._unknown.clear()
        self.changed = True
        return peer

    def _number(self, member: PeerId) -> int:
        """The member's number in the data plane, the same for as long as the process runs."""
        if len(self._ids) >= MAX_NUMBERED and member not in self._ids:
            raise PeerError(f"hello: more than {MAX_NUMBERED} members over time")
        return self._ids.setdefault(member, len(self._ids) + 1)

    def _refresh(self, peer: Peer, hello: Hello) -> None:
        """A later Hello of a known sid: new prekey or generation."""
        if hello.serial <= peer.hello.serial:
            return
        if hello.generation > peer.hello.generation:
            fresh = self._group_receivers(replace(hello, floor=0))
            known = {number: key for number, key in peer.group_receive.items() if number >= hello.generation - 1}
            peer.group_receive = fresh | known  # a key that we have keeps its window
            self.changed = True
        if hello.prekey != peer.hello.prekey:
            peer.pending = None
        peer.hello = hello

    def _received_setup(self, peer: Peer, setup: Setup, now: float) -> list[SendIntro]:
        if peer.setup_seen is not None and setup.generation <= peer.setup_seen.generation:
            if setup == peer.setup_seen and peer.confirm is not None:  # our Confirm was lost
                return self._to_member(peer.mac, peer.confirm)
            raise PeerError(f"setup: generation {setup.generation} again")
        keys = self.source.keys
        self._spend_verification(now)
        secret, info = self._open_setup(peer, setup)
        key, confirm = keys.pair_receiver(secret, info, sealed_hash(setup.sealed), self.source.aead)
        previous = [(old, now + PREVIOUS_KEY_S) for old, _ in peer.pair_receive[:1]]
        peer.pair_receive = [(key, float("inf")), *previous]
        peer.setup_seen = setup
        peer.confirm = Confirm(peer.sid, setup.generation, confirm)
        self.changed = True
        return self._to_member(peer.mac, peer.confirm, after_applied=True)

    def _open_setup(self, peer: Peer, setup: Setup) -> tuple[bytes, bytes]:
        """The pair secret and its info, under our prekey or the former one."""
        failure = PeerError("setup: no prekey")
        for prekey in self._prekeys:
            info = pair_info(
                self.source.vlan_id, MlsId(self.source.keys.mls_id), (peer.member, peer.sid), (self.me, self.sid),
                prekey.public,
            )  # fmt: skip
            try:
                return open_secret_untrusted(prekey, setup.sealed, info, setup.generation, peer.member), info
            except PeerError as error:
                failure = error
        raise failure

    def _received_confirm(self, peer: Peer, confirm: Confirm) -> list[SendIntro]:
        pending = peer.pending
        if pending is None or confirm.generation != pending.generation:
            return []
        if not constant_time.compare_digest(confirm.confirm, pending.confirm):
            raise PeerError("confirm does not match")
        peer.pair_send = pending.key
        peer.pending = None
        self.changed = True
        return []

    def _start_setup(self, peer: Peer, now: float) -> list[SendIntro]:
        keys = self.source.keys
        self._setups += 1  # of the process: rises for every receiver, whatever it forgot
        info = pair_info(
            self.source.vlan_id, MlsId(keys.mls_id), (self.me, self.sid), (peer.member, peer.sid), peer.hello.prekey
        )
        secret = self._random(SECRET_BYTES)
        signature = self._identity.sign(setup_message(info, secret, self._setups))
        sealed = seal_secret(peer.hello.prekey, info, secret, self._setups, signature)
        key, confirm = keys.pair_sender(secret, info, sealed_hash(sealed), self.source.aead)
        setup = Setup(peer.sid, self._setups, sealed)
        peer.pending = _PendingSetup(self._setups, setup, key, confirm, now + RETRY_FIRST_S)
        return self._to_member(peer.mac, setup)

    # Hellos

    def _hello(self, now: float, *, echo: Hello | None = None, asked_kid: bytes = NO_KID) -> Hello:
        self._serial += 1
        hello = Hello(
            vlan_id=self.source.vlan_id,
            mls_id=MlsId(self.source.keys.mls_id),
            member=self.me,
            mac_nonce=self.mac_nonce,
            sid=self.sid,
            serial=self._serial,
            signing_key=self._signer.public,
            prekey=self._prekeys[0].public,
            generation=self._generation,
            floor=self.group_send.next_counter,
            challenge=self._challenge(now),
            echo_sid=echo.sid if echo else Sid(bytes(16)),
            echo_challenge=echo.challenge if echo else bytes(CHALLENGE_BYTES),
            asked_kid=asked_kid,
        )
        return replace(hello, signature=self._identity.sign(Hello.PREFIX + hello.unsigned()))

    def _answer(self, hello: Hello, now: float) -> list[SendIntro]:
        """Our own Hello to its sender, echoing it; asks for an answer while its sender is not known."""
        self._answered[hello.member] = now
        self._answered.move_to_end(hello.member)
        while len(self._answered) > MAX_MEMBERS:
            self._answered.popitem(last=False)
        asked = NO_KID if hello.sid in self._by_sid else self._group_receivers(hello)[hello.generation].kid
        return self._to_member(self._mac_of(hello), self._hello(now, echo=hello, asked_kid=asked))

    def _remember_candidate(self, hello: Hello, now: float) -> None:
        known = self._candidates.get(hello.sid)
        if known is None:
            self._candidates[hello.sid] = _Candidate(hello, now + RETRY_FIRST_S)
            if len(self._candidates) > MAX_CANDIDATES:
                self._candidates.popitem(last=False)
        elif hello.serial > known.hello.serial:
            known.hello = hello

    def _challenge(self, now: float) -> bytes:
        if not self._challenges or self._challenges[-1][1] + CHALLENGE_STEP_S < now:
            self._challenges.append((self._random(CHALLENGE_BYTES), now))
        return self._challenges[-1][0]

    def _is_own_challenge(self, echoed: bytes, now: float) -> bool:
        return any(
            constant_time.compare_digest(echoed, challenge) and now <= made + CHALLENGE_S + CHALLENGE_STEP_S
            for challenge, made in self._challenges
        )

    def _spend_verification(self, now: float) -> None:
        if len(self._verified) == VERIFICATIONS_PER_S and self._verified[0] > now - 1:
            raise PeerError(f"more than {VERIFICATIONS_PER_S} introductions a second")
        self._verified.append(now)

    # Keys and packets

    def _group_sender(self) -> SendKey:
        return self.source.keys.group_sender(self.me, self.sid, self._generation, self.source.aead, self._signer)

    def _group_receivers(self, hello: Hello) -> dict[int, ReceiveKey]:
        """Keys of the present generation and the next."""
        keys, aead = self.source.keys, self.source.aead
        return {
            generation: keys.group_receiver(hello.member, hello.sid, generation, aead, hello.signing_key, floor)
            for generation, floor in ((hello.generation, hello.floor), (hello.generation + 1, 0))
        }

    def _mac_of(self, hello: Hello) -> Mac:
        return virtual_mac(hello.member, self.source.vlan_id, hello.mac_nonce)

    def _to_group(self, message: Introduction) -> list[SendIntro]:
        return self._sealed(None, self.source.keys.token(KIND_GROUP, BROADCAST), message, after_applied=False)

    def _to_member(self, mac: Mac, message: Introduction, *, after_applied: bool = False) -> list[SendIntro]:
        return self._sealed(mac, self.source.keys.token(KIND_UNICAST, mac), message, after_applied=after_applied)

    def _sealed(self, mac: Mac | None, token: bytes, message: Introduction, *, after_applied: bool) -> list[SendIntro]:
        self._messages += 1
        out = []
        for part in split(Content.CONTROL, message.emit(), self._messages & 0xFFFFFFFF, INTRO_BYTES):
            nonce = bytes(4) + self._intros.to_bytes(8, "big")
            sealed = self.source.keys.hello_seal(self.sid, self._intros, token, part)
            self._intros += 1
            out.append(SendIntro(mac, nonce, sealed, after_applied))
        return out
