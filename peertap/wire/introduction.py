"""What members say to each other in INTRO packets: Hello, Setup, Confirm (SPEC 5)."""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from peertap.errors import DecodeError
from peertap.types import PEER_ID_BYTES, MlsId, PeerId, Sid, VlanId, is_peer_id
from peertap.wire.codec import Reader, lp

MLKEM768_KEY_BYTES: Final = 1184  # FIPS 203
PREKEY_BYTES: Final = MLKEM768_KEY_BYTES + 32  # ML-KEM-768 then X25519
CHALLENGE_BYTES: Final = 16
CONFIRM_BYTES: Final = 16
MAX_SETUP_BYTES: Final = 2048  # ours: a sealed setup has about 1,290 bytes
MAX_GENERATION: Final = 0xFFFFFFFE  # SPEC 3.3: the next one must exist
MAX_COUNTER: Final = 1 << 32  # SPEC 3.3: a key refuses to seal there
NO_KID: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class Hello:
    """Introduces one run (sid) of a member (SPEC 5.1).

    kind 1 | VLAN-ID 16 | MLS-ID 16 | lp(member) | MAC nonce 4 | sid 16 | serial 8 | frame-signing key 32
    | prekey 1216 | generation 4 | floor 8 | challenge 16 | echo: sid 16, challenge 16 | kid asked for 4 | signature 64
    """

    KIND: ClassVar[int] = 1
    PREFIX: ClassVar[bytes] = b"PeerTap/1 hello"

    vlan_id: VlanId
    mls_id: MlsId
    member: PeerId
    mac_nonce: int
    sid: Sid
    serial: int
    signing_key: bytes
    prekey: bytes
    generation: int
    floor: int
    challenge: bytes
    echo_sid: Sid
    echo_challenge: bytes
    asked_kid: bytes
    signature: bytes = b""

    def unsigned(self) -> bytes:
        """All fields before the signature."""
        return b"".join(
            (
                bytes((self.KIND,)),
                self.vlan_id,
                self.mls_id,
                lp(self.member),
                self.mac_nonce.to_bytes(4, "big"),
                self.sid,
                self.serial.to_bytes(8, "big"),
                self.signing_key,
                self.prekey,
                self.generation.to_bytes(4, "big"),
                self.floor.to_bytes(8, "big"),
                self.challenge,
                self.echo_sid,
                self.echo_challenge,
                self.asked_kid,
            )
        )

    def emit(self) -> bytes:
        return self.unsigned() + self.signature

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(
            vlan_id=VlanId(reader.take(16, "VLAN-ID")),
            mls_id=MlsId(reader.take(16, "MLS-ID")),
            member=_member(reader),
            mac_nonce=reader.uint(4, "MAC nonce"),
            sid=Sid(reader.take(16, "sid")),
            serial=reader.uint(8, "serial"),
            signing_key=reader.take(32, "frame-signing key"),
            prekey=reader.take(PREKEY_BYTES, "prekey"),
            generation=_at_most(reader.uint(4, "generation"), MAX_GENERATION, "generation"),
            floor=_at_most(reader.uint(8, "floor"), MAX_COUNTER, "floor"),
            challenge=reader.take(CHALLENGE_BYTES, "challenge"),
            echo_sid=Sid(reader.take(16, "echoed sid")),
            echo_challenge=reader.take(CHALLENGE_BYTES, "echoed challenge"),
            asked_kid=reader.take(4, "kid"),
            signature=reader.take(64, "signature"),
        )


@dataclass(frozen=True, slots=True)
class Setup:
    """Hands a pair key over (SPEC 5.2): kind 1 | sid of the receiver 16 | generation 4 | lp(HPKE enc, ciphertext)."""

    KIND: ClassVar[int] = 2

    to_sid: Sid
    generation: int
    sealed: bytes

    def emit(self) -> bytes:
        return bytes((self.KIND,)) + self.to_sid + self.generation.to_bytes(4, "big") + lp(self.sealed)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(
            Sid(reader.take(16, "sid")), reader.uint(4, "generation"), reader.lp("sealed setup", MAX_SETUP_BYTES)
        )


@dataclass(frozen=True, slots=True)
class Confirm:
    """The pair key works (SPEC 5.2): kind 1 | sid of the setup's sender 16 | generation 4 | confirm 16."""

    KIND: ClassVar[int] = 3

    to_sid: Sid
    generation: int
    confirm: bytes

    def emit(self) -> bytes:
        return bytes((self.KIND,)) + self.to_sid + self.generation.to_bytes(4, "big") + self.confirm

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(Sid(reader.take(16, "sid")), reader.uint(4, "generation"), reader.take(CONFIRM_BYTES, "confirm"))


def _at_most(value: int, most: int, field: str) -> int:
    if value > most:
        raise DecodeError(f"introduction: {field} {value}, at most {most} is allowed")
    return value


def _member(reader: Reader) -> PeerId:
    member = reader.lp("member", PEER_ID_BYTES)
    if not is_peer_id(member):
        raise DecodeError("introduction: the member is no Ed25519 peer ID")
    return PeerId(member)


Introduction = Hello | Setup | Confirm

_KINDS: Final[dict[int, type[Introduction]]] = {kind.KIND: kind for kind in (Hello, Setup, Confirm)}


def parse_untrusted(data: bytes) -> Introduction:
    """The message in an INTRO.

    Raises: DecodeError.
    """
    reader = Reader(data, "introduction")
    kind = reader.uint(1, "kind")
    if kind not in _KINDS:
        raise DecodeError(f"introduction of unknown kind {kind}")
    message = _KINDS[kind].read(reader)
    reader.end()
    return message
