"""What members of a group write to each other, as bytes (SPEC 10.2). They travel as parcels under pair keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from peertap.errors import DecodeError
from peertap.vlan.commits import MAX_COMMITS, Step
from peertap.vlan.group_actions import AskAdmins, Dismiss, Give, GiveInfo, Move, Remind, Show, Tell, ToAll
from peertap.vlan.secrets import VlanSecrets
from peertap.wire.codec import Reader, lp, lp32
from peertap.wire.invite import ID_BYTES
from peertap.wire.motion import Removal, emit_motion, read_motion
from peertap.wire.parcel import MAX_BODY_BYTES

MAX_MESSAGES: Final = 1024  # ours: those of 64 steps with their wishes
MAX_HASH_BYTES: Final = 64
MAX_NAME_BYTES: Final = 32
MAX_REASON_BYTES: Final = 200
PROOF_BYTES: Final = 48  # HMAC-SHA-384
NONCE_BYTES: Final = 16
MAX_MOTIONS: Final = 2048  # ours: in the steps of one letter


class Kind(IntEnum):
    """Kinds of letters (SPEC 10.2)."""

    MESSAGE = 1
    GIVE = 2
    POSITION = 3
    BRANCH = 4
    LOST = 5
    INFO = 6
    REMINDER = 7
    SECRETS = 8
    JOIN = 9
    WELCOME = 10
    ANSWER = 11
    DISMISSAL = 12
    MOTION = 13


class Verdict(IntEnum):
    """What becomes of a wish to join (SPEC 10.2)."""

    WAIT = 1  # an admin has to approve it
    REFUSED = 2


@dataclass(frozen=True, slots=True)
class Secrets:
    """The VLAN's secrets, for a member."""

    secrets: VlanSecrets


@dataclass(frozen=True, slots=True)
class Join:
    """A newcomer's wish, with the proof that it holds the invite.

    Args:
        name: what it calls itself, for whoever approves it.
        package: its MLS key package.
    """

    invite: bytes
    name: str
    proof: bytes
    package: bytes


@dataclass(frozen=True, slots=True)
class WelcomeIn:
    """The door is open: an MLS Welcome and the VLAN's secrets."""

    message: bytes
    secrets: VlanSecrets


@dataclass(frozen=True, slots=True)
class Answer:
    """Not yet, or no."""

    verdict: Verdict
    reason: str


InGroup = ToAll | Give | Tell | Show | AskAdmins | GiveInfo | Remind | Dismiss | Move
Letter = InGroup | Secrets | Join | WelcomeIn | Answer


def emit(letter: Letter) -> bytes:
    """The letter's bytes."""
    match letter:
        case ToAll(message):
            return _kind(Kind.MESSAGE) + message
        case Give(_, messages):
            return _kind(Kind.GIVE) + len(messages).to_bytes(2, "big") + b"".join(map(lp32, messages))
        case Tell(_, epoch, transcript_hash):
            return _kind(Kind.POSITION) + epoch.to_bytes(8, "big") + lp(transcript_hash)
        case Show(_, steps, signature):
            return _kind(Kind.BRANCH) + _steps(steps) + signature
        case AskAdmins(steps, nonce):
            return _kind(Kind.LOST) + _steps(steps) + nonce
        case GiveInfo(_, group_info, steps, signature):
            return _kind(Kind.INFO) + lp32(group_info) + _steps(steps) + signature
        case Remind(_, secrets):
            return _kind(Kind.REMINDER) + secrets
        case Dismiss(_, removal):
            return _kind(Kind.DISMISSAL) + removal.emit()
        case Move(motion):
            return _kind(Kind.MOTION) + emit_motion(motion)
        case Secrets(secrets):
            return _kind(Kind.SECRETS) + secrets.emit()
        case Join(invite, name, proof, package):
            return _kind(Kind.JOIN) + invite + lp(_cut(name, MAX_NAME_BYTES)) + proof + package
        case WelcomeIn(message, secrets):
            return _kind(Kind.WELCOME) + secrets.emit() + message
        case Answer(verdict, reason):
            return _kind(Kind.ANSWER) + bytes((verdict,)) + lp(_cut(reason, MAX_REASON_BYTES))


def parse_untrusted(data: bytes, me: bytes) -> Letter:
    """Reads a letter to the identity `me`.

    Raises:
        DecodeError: it is none.
    """
    reader = Reader(data, "letter")
    number = reader.uint(1, "kind")
    if number not in Kind._value2member_map_:
        raise DecodeError(f"letter: kind {number} is not known")
    letter = _read(Kind(number), reader, me)
    reader.end()
    return letter


def _read(kind: Kind, reader: Reader, me: bytes) -> Letter:
    match kind:
        case Kind.MESSAGE:
            return ToAll(reader.rest())
        case Kind.GIVE:
            count = reader.uint(2, "messages")
            if count > MAX_MESSAGES:
                raise DecodeError(f"letter: {count} messages, at most {MAX_MESSAGES}")
            return Give(me, tuple(reader.lp32("message", MAX_BODY_BYTES) for _ in range(count)))
        case Kind.POSITION:
            return Tell(me, reader.uint(8, "epoch"), reader.lp("transcript hash", MAX_HASH_BYTES))
        case Kind.BRANCH:
            return Show(me, _read_steps(reader), reader.take(64, "signature"))
        case Kind.LOST:
            return AskAdmins(_read_steps(reader), reader.take(NONCE_BYTES, "nonce"))
        case Kind.INFO:
            group_info = reader.lp32("GroupInfo", MAX_BODY_BYTES)
            return GiveInfo(me, group_info, _read_steps(reader), reader.take(64, "signature"))
        case Kind.REMINDER:
            return Remind(me, reader.rest())
        case Kind.DISMISSAL:
            return Dismiss(me, Removal.read(reader))
        case Kind.MOTION:
            return Move(read_motion(reader))
        case Kind.SECRETS:
            return Secrets(VlanSecrets.read(reader))
        case Kind.JOIN:
            invite, name = reader.take(ID_BYTES, "invite"), reader.text("name", MAX_NAME_BYTES)
            return Join(invite, _printable(name), reader.take(PROOF_BYTES, "proof"), reader.rest())
        case Kind.WELCOME:
            secrets = VlanSecrets.read(reader)
            return WelcomeIn(reader.rest(), secrets)
        case Kind.ANSWER:
            verdict = reader.uint(1, "verdict")
            if verdict not in Verdict._value2member_map_:
                raise DecodeError(f"letter: verdict {verdict} is not known")
            return Answer(Verdict(verdict), _printable(reader.text("reason", MAX_REASON_BYTES)))


def _cut(text: str, most: int) -> bytes:
    return text.encode()[:most].decode(errors="ignore").encode()


def _printable(text: str) -> str:
    """What others wrote goes to terminals and logs."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _kind(kind: Kind) -> bytes:
    return bytes((kind,))


def _steps(steps: Sequence[Step]) -> bytes:
    return bytes((len(steps),)) + b"".join(one.emit() for one in steps)


def _read_steps(reader: Reader) -> tuple[Step, ...]:
    count = reader.uint(1, "steps")
    if count > MAX_COMMITS:
        raise DecodeError(f"letter: {count} steps, at most {MAX_COMMITS}")
    steps = tuple(Step.read(reader) for _ in range(count))
    if sum(len(one.motions) for one in steps) > MAX_MOTIONS:
        raise DecodeError(f"letter: more than {MAX_MOTIONS} changes")
    return steps
