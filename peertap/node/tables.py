"""What the data plane is told to do: one immutable set, built anew at each change (SPEC 2, 6.3)."""

from dataclasses import dataclass
from typing import Final

from peertap._core import HopReceiveKey, HopSendKey, ReceiveKey, SendKey, VlanKeys
from peertap.types import Mac, Token, TrunkId, VlanIndex

Address = tuple[str, int]
Hop = tuple[TrunkId, int]  # trunk and label


@dataclass(frozen=True, slots=True)
class TrunkTable:
    """One trunk session: how to send on it, and what its packets are opened with."""

    id: TrunkId
    carrier: str
    remote: Address | None
    send_udp: HopSendKey | None
    send_stream: HopSendKey | None
    receive: tuple[HopReceiveKey, ...]
    max_payload: int
    in_doubt: bool  # its udp path went, and nothing was heard since


@dataclass(frozen=True, slots=True)
class MemberTable:
    """Another member: its keys and where its token goes."""

    id: int
    mac: Mac
    token: Token
    hop: Hop | None
    backup: Hop | None  # for while that trunk is down
    spread: tuple[Hop, ...]  # flows are spread over the hop and these
    duplicate: bool  # each packet goes by hop and backup
    max_payload: int
    pair_send: SendKey | None
    pair_receive: tuple[ReceiveKey, ...]
    group_receive: tuple[ReceiveKey, ...]
    bridge: bool


@dataclass(frozen=True, slots=True)
class Probing:
    """How loops are looked for on the LAN behind a port: under which keys, who we are, how often (0: only heard)."""

    keys: tuple[VlanKeys, ...]
    handle: bytes
    run: bytes
    gap_s: float


@dataclass(frozen=True, slots=True)
class Passage:
    """What passes a VLAN's port.

    Args:
        limits: broadcasts, multicasts and frames to unknown MACs a second, per port and per member; 0: no limit.
    """

    forwards: bool
    probing: Probing | None
    answers: bool
    bpdus: bool
    limits: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class VlanTable:
    """One VLAN of this node."""

    id: VlanIndex
    keys: VlanKeys
    mac: Mac
    token: Token
    group_token: Token
    bridge: bool
    group_send: SendKey
    group_edges: tuple[Hop, ...]
    passage: Passage
    members: tuple[MemberTable, ...]
    listening: "ListeningTable"


@dataclass(frozen=True, slots=True)
class ListeningTable:
    """Where a VLAN's own multicast frames go, and whether a router is behind its ports (SPEC 13)."""

    keys: VlanKeys  # that make a group's token
    groups: tuple[tuple[Token, tuple[Hop, ...]], ...]
    rest: tuple[Hop, ...]  # frames of all other groups, and reports
    has_router: bool


@dataclass(frozen=True, slots=True)
class LabelTable:
    """What a label on packets from a trunk means."""

    trunk: TrunkId
    label: int
    token: Token
    group: bool
    deliver: VlanIndex | None
    out: tuple[Hop, ...]
    backup: Hop | None = None  # unicast: for while the trunk of the one way out is down
    carried: int | None = None  # the number under which what is sent on is counted


@dataclass(frozen=True, slots=True)
class ClassTable:
    """A number under which packets are carried; `limited`: the limits are for it."""

    number: int
    limited: bool


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What is carried for others at most, bytes/s; 0: as much as comes."""

    all: int = 0
    per_trunk: int = 0
    per_vlan: int = 0


NO_LIMITS: Final = RelayLimits()


@dataclass(frozen=True, slots=True)
class TableSet:
    """Everything."""

    trunks: tuple[TrunkTable, ...]
    vlans: tuple[VlanTable, ...]
    labels: tuple[LabelTable, ...]
    classes: tuple[ClassTable, ...] = ()
    limits: RelayLimits = NO_LIMITS
