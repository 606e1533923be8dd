"""The Rust data plane: what Python may ask of it.

Keys and secrets are handles: their bytes never come back. Everything here is frozen and may be used from any thread.
Errors: ValueError for an argument of the wrong size or range, OSError from the system, RuntimeError after stop().
After stop() `events`, `snapshot`, `udp_port` and `event_fd` still work.
"""

from typing import Final, Literal, TypeAlias, final

__all__ = [
    "AES_256_GCM",
    "CHACHA20_POLY1305",
    "Class",
    "Engine",
    "Event",
    "FrameSigner",
    "HopReceiveKey",
    "HopSendKey",
    "Label",
    "Member",
    "MlsChange",
    "MlsError",
    "MlsGroup",
    "MlsLeaf",
    "MlsMember",
    "MlsProposal",
    "MlsSigner",
    "PairSecret",
    "Passage",
    "ReceiveKey",
    "SendKey",
    "StaticSecret",
    "Tables",
    "Trunk",
    "Vlan",
    "VlanKeys",
    "has_aes",
    "mls_credential_message",
    "mls_group_info_position",
    "mls_hpke_open",
    "mls_hpke_seal",
    "mls_key_package_owner",
    "mls_message_epoch",
    "way_of_flow",
]

AES_256_GCM: Final = 1
CHACHA20_POLY1305: Final = 2

def has_aes() -> bool:
    """Whether this processor has instructions for AES-GCM; without them ChaCha20-Poly1305 is several times as fast."""

def way_of_flow(frame: bytes, trunks: list[int]) -> int | None:
    """By which of these trunks a frame goes where flows are spread over them (SPEC 6.6)."""

@final
class FrameSigner:
    """An Ed25519 key that signs group frames; one per process and VLAN (SPEC 2.4)."""
    @staticmethod
    def generate() -> FrameSigner: ...
    @property
    def public(self) -> bytes:
        """32 bytes."""

@final
class SendKey:
    """A frame key of ours with its counter (SPEC 3.3)."""
    @property
    def kid(self) -> bytes:
        """4 bytes."""
    @property
    def next_counter(self) -> int: ...

@final
class ReceiveKey:
    """A frame key of another member with its replay window (SPEC 2.5)."""
    @property
    def kid(self) -> bytes:
        """4 bytes."""

@final
class StaticSecret:
    """A VLAN secret of static membership (SPEC 3.1)."""
    def __new__(cls, secret: bytes | bytearray) -> StaticSecret:
        """secret: 32 bytes; the handle keeps its own copy."""
    @property
    def creator_public(self) -> bytes:
        """32 bytes."""
    @property
    def grant_public(self) -> bytes:
        """32 bytes."""
    @property
    def name_nonce(self) -> bytes:
        """16 bytes."""
    def sign_as_creator(self, message: bytes) -> bytes:
        """64 bytes."""
    def sign_as_grantee(self, message: bytes) -> bytes:
        """64 bytes."""
    def keys(self, vlan_id: bytes) -> VlanKeys:
        """vlan_id: 16 bytes."""

@final
class PairSecret:
    """What two members agreed on in a Setup: each epoch's pair key comes from it and that epoch's root (SPEC 3.3)."""
    def __new__(cls, secret: bytes, info: bytes, sealed_hash: bytes, aead: int) -> PairSecret:
        """secret: 32, sealed_hash: 48 bytes; the handle keeps its own copy."""

@final
class VlanKeys:
    """The keys of one VLAN in one epoch (SPEC 3). The same interface whatever the membership is."""
    @property
    def vlan_id(self) -> bytes: ...
    @property
    def mls_id(self) -> bytes: ...
    @property
    def route_public(self) -> bytes: ...
    @property
    def circle(self) -> bytes:
        """By what members look for each other outside the VLAN (SPEC 12.1), 32 bytes."""
    def sign_route(self, message: bytes) -> bytes: ...
    def token(self, kind: int, mac: bytes) -> bytes:
        """VFT, 16 bytes (SPEC 3.2)."""
    def hello_seal(self, sid: bytes, counter: int, token: bytes, plaintext: bytes) -> bytes:
        """Inner tag 16 || sid 16 || ciphertext (SPEC 2.1 with INTRO), nonce 00000000 || counter; AES-256-GCM."""
    def hello_open(self, nonce: bytes, token: bytes, sealed: bytes) -> bytes | None:
        """The plaintext (from the content type on) of a sealed INTRO body as hello_seal gives it, or None."""
    def group_sender(self, member: bytes, sid: bytes, generation: int, aead: int, signer: FrameSigner) -> SendKey: ...
    def group_receiver(
        self, member: bytes, sid: bytes, generation: int, aead: int, signer_public: bytes, floor: int
    ) -> ReceiveKey: ...
    def pair_sender(self, pair: PairSecret) -> tuple[SendKey, bytes]:
        """The key and the 16-byte confirmation that the receiver must send."""
    def pair_receiver(self, pair: PairSecret) -> tuple[ReceiveKey, bytes]:
        """The key and the 16-byte confirmation to send."""

@final
class HopSendKey:
    """Key of one (trunk, direction, epoch, carrier) towards the neighbour (SPEC 2.1)."""
    def __new__(cls, index: int, key: bytes, aead: int) -> HopSendKey: ...
    @property
    def next_counter(self) -> int: ...

@final
class HopReceiveKey:
    """Key of one (trunk, direction, epoch, carrier) from the neighbour (SPEC 2.1)."""
    def __new__(cls, index: int, key: bytes, aead: int) -> HopReceiveKey: ...
    @property
    def index(self) -> int: ...

@final
class Trunk:
    """One trunk session as the data plane sees it. `id` is never used again in a process.

    carrier: which one sends. On "udp" `remote` is the validated address (plain IPv4 or IPv6).
    max_payload: the largest packet, 256 to 65,507 bytes; larger ones are dropped.
    in_doubt: its udp path went and nothing was heard since; where there is a backup, packets take that.
    """
    def __new__(
        cls,
        id: int,
        *,
        carrier: Literal["udp", "stream", "none"],
        remote: tuple[str, int] | None,
        send_udp: HopSendKey | None,
        send_stream: HopSendKey | None,
        receive: list[HopReceiveKey],
        max_payload: int,
        in_doubt: bool = False,
    ) -> Trunk: ...

@final
class Member:
    """Another member of a VLAN; other MACs may be behind it with `bridge`.

    `hop` is (trunk id, label) of its unicast token, None while there is no route; `backup` another one, taken without
    asking while the trunk of `hop` is down. spread: other ways over which flows are spread beside `hop`; duplicate:
    each packet goes by `hop` and `backup` (SPEC 6.6). max_payload: what fits all of them.
    """
    def __new__(
        cls,
        id: int,
        *,
        mac: bytes,
        token: bytes,
        hop: tuple[int, int] | None,
        max_payload: int,
        pair_send: SendKey | None,
        pair_receive: list[ReceiveKey],
        group_receive: list[ReceiveKey],
        bridge: bool = False,
        backup: tuple[int, int] | None = None,
        spread: list[tuple[int, int]] = ...,
        duplicate: bool = False,
    ) -> Member: ...

@final
class Passage:
    """What passes a VLAN's ports.

    forwards: False = nothing, but loop probes are sent and heard. probing: VLANs' keys, handle 8, run 8, seconds
    between probes (0: they are only heard). answers: ARP and neighbour solicitations are answered where the answer is
    known. bpdus: frames that bridges keep to themselves pass. limits: broadcasts, multicasts and frames to unknown MACs
    a second, per port and member; 0 = no limit.
    """
    def __new__(
        cls,
        *,
        forwards: bool,
        probing: tuple[list[VlanKeys], bytes, bytes, float] | None,
        answers: bool,
        bpdus: bool,
        limits: tuple[int, int, int],
    ) -> Passage: ...

@final
class Vlan:
    """One VLAN of this node.

    ports: ids from Engine.add_port. group_edges: (trunk id, label) of every tree edge of the broadcast token. groups,
    rest: those to the listeners of a group, by its token, and of all other groups; group_keys make tokens (SPEC 13).
    """
    def __new__(
        cls,
        id: int,
        *,
        keys: VlanKeys,
        mac: bytes,
        token: bytes,
        group_token: bytes,
        ports: list[int],
        bridge: bool,
        group_send: SendKey | None,
        group_edges: list[tuple[int, int]],
        members: list[Member],
        passage: Passage | None = None,
        group_keys: VlanKeys | None = None,
        groups: list[tuple[bytes, list[tuple[int, int]]]] = ...,
        rest: list[tuple[int, int]] = ...,
        has_router: bool = False,
    ) -> Vlan: ...

@final
class Label:
    """What a label on packets from a trunk means.

    Deliver to that local VLAN, and/or send on by every (trunk, label) of `out` but the incoming trunk.
    group: False = unicast (deliver, or one out). backup: as a Member's, for the one out of a unicast label.
    group: False = unicast (deliver, or one out). carried: the class under which what is sent on is counted and limited.
    """
    def __new__(
        cls,
        trunk: int,
        label: int,
        *,
        token: bytes,
        group: bool,
        deliver: int | None,
        out: list[tuple[int, int]],
        backup: tuple[int, int] | None = None,
        carried: int | None = None,
    ) -> Label: ...

@final
class Class:
    """A VTag under which packets are carried; its id is never used again. limited: the limits of Tables are for it."""
    def __new__(cls, id: int, *, limited: bool) -> Class: ...

@final
class Tables:
    """One immutable set. Ids are unique; what refers to a trunk or VLAN that is not there is dropped and counted.

    limits: bytes/s that are carried at most: in all, from each trunk, of each class; 0 = as much as comes.
    """
    def __new__(
        cls,
        *,
        trunks: list[Trunk],
        vlans: list[Vlan],
        labels: list[Label],
        classes: list[Class] = ...,
        limits: tuple[int, int, int] = ...,
    ) -> Tables: ...

# Events, tuples whose first item is the kind. They coalesce by (kind, subject); the queue is bounded per kind, and on
# overflow ("resync",) comes first.
#   ("applied", generation)                                       every loop uses this generation, or a later one
#   ("intro", vlan id, trunk id, token 16, nonce 12, sealed)      for a local VLAN; at most 256 wait, 192 by a trunk
#   ("unknown_kid", vlan id, kid 4, trunk id)                     a frame under a key that nobody introduced
#   ("forged", vlan id, kid 4, trunk id)                          a group frame with a right tag and a wrong signature
#   ("spoofed", vlan id, member id, "mac" | "address")            a member said that it is another one
#   ("control", vlan id, member id, message)                      member control, reassembled; at most 64 wait
#   ("group_control", vlan id, member id, message)                member control for all; at most 256 wait
#   ("mac_seen", vlan id, mac 6, vid | None)                      a host spoke at a port that did not know it
#   ("mac_gone", vlan id, mac 6, vid | None)                      a host was silent for mac_age_s, or made room
#   ("probed", vlan id, handle 8, run 8, number, forwards, own)   a loop probe came in at a port
#   ("storm", vlan id, member id | None, class)                   too many frames for all; None: at our own ports
#   ("multicast", vlan id, member id | None, frame)              IGMP, MLD or a router's hello from a port (None) or a
#                                                                 member; at most 64 a second and VLAN, <= 9,216 bytes
#   ("generation", vlan id, kid 4)                                a send key reached 2^30
#   ("path", trunk id, (host, port), rtt seconds)                 a probe of ours came back: the address is valid
#   ("source", trunk id, (host, port))                            the newest packets come from elsewhere than `remote`
#   ("path_down", trunk id)                                       the udp carrier is silent; the stream takes over
#   ("offload", trunk id, text)                                   the system refused a train of datagrams; what now
#   ("stream", trunk id)                                          stream_take has something; take until None
#   ("trace", monotonic seconds, vlan id, step, text)
#   ("panic", message)                                            forwarding has stopped, as after stop()
Event: TypeAlias = tuple[object, ...]

@final
class Engine:
    """The data plane: loops on threads of their own, none of which ever attaches to Python (SPEC 2)."""
    def __new__(cls, *, udp_port: int, mac_age_s: float = 300.0, without: list[str] = ...) -> Engine:
        """udp_port: 0 lets the system choose. without: offloads not to use, of checksum, tso, uso, coalesce (TAP), gso,
        gro and mmsg (UDP)."""
    @property
    def udp_port(self) -> int: ...
    @property
    def event_fd(self) -> int:
        """Readable while events wait."""
    def add_port(self, fd: int, name: str) -> int:
        """Takes a duplicate of a TAP descriptor opened with IFF_NO_PI, or of one end of a SOCK_SEQPACKET pair. The file
        becomes non-blocking, the original too. A TAP opened with IFF_VNET_HDR is told which offloads to use."""
    def remove_port(self, port: int) -> None: ...
    def apply(self, tables: Tables) -> int:
        """Publishes; returns the generation. ("applied", generation) comes when every loop uses it."""
    def probe(self, trunk: int, address: tuple[str, int]) -> None: ...
    def send_intro(self, hops: list[tuple[int, int]], nonce: bytes, sealed: bytes) -> None:
        """Sends an INTRO body (as from hello_seal) by each (trunk id, label)."""
    def send_control(self, vlan: int, member: int, message: bytes, by: tuple[int, int] | None = None) -> None:
        """A member control message under the pair key (SPEC 5.4), by this (trunk id, label) or as a frame would go;
        without key or route it is dropped and counted."""
    def send_group_control(self, vlan: int, message: bytes) -> None:
        """Member control for all, <= 1,006 bytes (SPEC 5.4); without key or edge it is dropped and counted."""
    def place_macs(self, vlan: int, places: list[tuple[tuple[bytes, int | None], int | None]]) -> None:
        """Behind which member hosts (MAC, 802.1Q VLAN) are; None: nobody knows."""
    def forget_local_macs(self, vlan: int, hosts: list[tuple[bytes, int | None]], refused: bool) -> None:
        """Hosts are not at our ports; refused: their frames are dropped there until they are forgotten or age."""
    def send_frame(self, vlan: int, frame: bytes) -> None:
        """A group frame of our own, to the members that want every group."""
    def write_frame(self, vlan: int, frame: bytes) -> None:
        """A frame of our own, to the VLAN's ports."""
    def stream_take(self, trunk: int) -> bytes | None:
        """The next batch for the trunk's stream carrier, <= 65,536 bytes; None when nothing waits."""
    def stream_put(self, trunk: int, batch: bytes) -> None:
        """A batch from the trunk's stream; what is malformed or too much is dropped and counted."""
    def events(self) -> list[Event]: ...
    def snapshot(self) -> dict[str, object]: ...
    def traffic(self) -> list[tuple[int, int, int, int]]:
        """Members that frames were sent to since the last call, at most the 64 with the most: VLAN id, member id,
        frames sent, frames delivered from it."""
    def trace(self, seconds: float, mac: bytes | None) -> None:
        """Trace events (at most 1000) for frames from or to mac, or all; 0 seconds ends it."""
    def stop(self) -> None:
        """Ends the threads; a second call does nothing."""

class MlsError(Exception):
    """A message, record or credential was refused; nothing has changed."""

def mls_credential_message(vlan_id: bytes, identity: bytes, suite: int, not_after: int, key: bytes) -> bytes:
    """What an identity signs to make a credential (SPEC 9.2).

    Args:
        identity: Ed25519 public key, 32 bytes.
        suite: 0xf1a1 (hybrid), 1 or 3.
        not_after: Unix time in seconds.
        key: an MlsSigner's public key.
    """

def mls_group_info_position(group_info: bytes) -> tuple[int, bytes] | None:
    """Epoch and transcript hash that a GroupInfo speaks of; None: it is none."""

def mls_key_package_owner(package: bytes) -> tuple[bytes, bytes] | None:
    """Identity and MLS signature key of whoever made a key package; None: it is none. Neither is looked at."""

def mls_message_epoch(message: bytes) -> int | None:
    """The epoch that an MLS message was made in; None for one that belongs to none, or is no MLS message."""

def mls_hpke_seal(suite: int, public: bytes, info: bytes, aad: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
    """HPKE (RFC 9180), base mode, with the suite's algorithms: encapsulated key and ciphertext."""

def mls_hpke_open(suite: int, seed: bytes, encapsulated: bytes, info: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    """The plaintext.

    Args:
        seed: keying material of the receiver's key pair, as HPKE's DeriveKeyPair takes it.

    Raises: MlsError.
    """

@final
class MlsSigner:
    """A new MLS signature key of one VLAN."""
    def __new__(cls, suite: int) -> MlsSigner: ...
    @property
    def public(self) -> bytes:
        """32 bytes."""

@final
class MlsLeaf:
    """A leaf of a group's tree."""
    @property
    def index(self) -> int:
        """Its place; another member may get it later."""
    @property
    def identity(self) -> bytes:
        """The Ed25519 key behind the peer ID, 32 bytes."""
    @property
    def key(self) -> bytes:
        """Its MLS signature key."""
    @property
    def not_after(self) -> int:
        """Until when its credential may be taken up, Unix seconds."""

@final
class MlsChange:
    """What a commit of another member changed."""
    @property
    def committer(self) -> MlsLeaf | None: ...
    @property
    def is_external(self) -> bool:
        """Whether its sender came back by it."""
    @property
    def added(self) -> list[MlsLeaf]:
        """Those that were let in, also anew."""
    @property
    def removed(self) -> list[MlsLeaf]:
        """Identities that are gone."""
    @property
    def removed_us(self) -> bool:
        """Whether we are gone; the group is of no more use then."""

@final
class MlsProposal:
    """A wish of a member, to be taken up by the next commit."""
    @property
    def sender(self) -> int:
        """Its leaf's place."""
    @property
    def wish(self) -> Literal["update", "leave"]: ...
    @property
    def word(self) -> bytes:
        """What came with it."""

@final
class MlsMember:
    """Us in one VLAN, with a credential: identity key 32, not-after 8, signature 64 (SPEC 9.2).

    Raises: ValueError when the credential is not signed for this key, suite and VLAN.
    """
    def __new__(cls, signer: MlsSigner, vlan_id: bytes, credential: bytes) -> MlsMember: ...
    def key_package(self, now: int) -> bytes:
        """A message that lets an admin add us; its secrets stay here until `join`. `now` is Unix time in seconds."""
    def create(self, context: bytes, now: int) -> MlsGroup:
        """A new group with us alone. `context`: what the members agree on."""
    def join(self, welcome: bytes, now: int) -> MlsGroup:
        """Raises: MlsError."""

@final
class MlsGroup:
    """A group that we are in. Steps are tentative until `keep`; `drop_step` goes back to what was kept last.

    Raises: MlsError for what others sent; the group is as before then.
    """
    @staticmethod
    def restore(record: bytes) -> MlsGroup: ...
    @property
    def suite(self) -> int: ...
    @property
    def vlan_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def own_index(self) -> int: ...
    @property
    def context(self) -> bytes: ...
    @property
    def transcript_hash(self) -> bytes:
        """The same in every member of this branch (RFC 9420, 8.2)."""
    @property
    def leaves(self) -> list[MlsLeaf]:
        """By place."""
    def keys(self, routing: bytes) -> VlanKeys:
        """The VLAN's keys in this epoch, with the routing secret of 32 bytes."""
    def commit(
        self, now: int, *, adds: list[bytes] = ..., removes: list[int] = ..., context: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """The commit for the members, and the Welcome for those who are added (empty when nobody is).

        Args:
            adds: key packages.
            removes: places of leaves.
            context: what the members agree on from now on; None: as before.
        """
    def forget_wishes(self) -> None:
        """All wishes of this epoch; they were of no use to a commit."""
    def propose_update(self) -> bytes: ...
    def propose_leave(self, word: bytes) -> bytes:
        """A wish to go, with something that all can read."""
    def group_info(self) -> bytes:
        """What a member who was away needs to come back, and nobody else gets."""
    def rejoin_secrets(self) -> bytes:
        """For a member that came back and lacks those of the epochs between (SPEC 9.3)."""
    def take_rejoin_secrets(self, secrets: bytes) -> None:
        """Takes those that another member gives; what we have stays."""
    def process(self, message: bytes, now: int) -> MlsChange | MlsProposal:
        """Takes a commit or a wish of another member; anything else is refused and leaves nothing behind."""
    def rejoin(self, group_info: bytes, shared: int, now: int) -> tuple[MlsGroup, bytes]:
        """Back into a group that went on without us: it as it is now, and the commit that says so to the others.

        Args:
            shared: the last epoch that we and the others were in.
        """
    def keep(self) -> bytes:
        """The record, which must be on disk before anything of this step is sent or used."""
    def drop_step(self) -> None: ...
