"""What happens to a node, in the past tense."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, get_args

from peertap._core import HopReceiveKey, HopSendKey
from peertap.mesh.policy import Mode
from peertap.node.tables import NO_LIMITS, Address, RelayLimits
from peertap.types import Mac, PeerId, TrunkId, VlanIndex
from peertap.wire.control import Message
from peertap.wire.macs import Host


class EpochKeys(Protocol):
    """The hop keys of one trunk epoch, as handles (SPEC 4.2)."""

    @property
    def epoch(self) -> int: ...

    @property
    def udp_index(self) -> int: ...

    @property
    def stream_index(self) -> int: ...

    @property
    def receive(self) -> tuple[HopReceiveKey, ...]:
        """For the udp and the stream carrier."""

    def send(self, udp_index: int, stream_index: int) -> tuple[HopSendKey, HopSendKey]:
        """Keys towards the neighbour, under the indexes that it chose: udp, stream."""


@dataclass(frozen=True, slots=True)
class TrunkOpened:
    """A handshake ended well.

    Args:
        host: the neighbour's IP address as the connection shows it.
        is_wanted: the operator or a VLAN's record names the neighbour.
    """

    trunk: TrunkId
    peer: PeerId
    transport: str
    dialled: bool
    host: str | None
    carries_frames: bool
    keys: EpochKeys
    aead: int
    is_wanted: bool = False


@dataclass(frozen=True, slots=True)
class TrunkClosed:
    """A trunk is gone, whatever the reason."""

    trunk: TrunkId
    reason: str


@dataclass(frozen=True, slots=True)
class TrunkRekeyed:
    """A new epoch's keys are agreed."""

    trunk: TrunkId
    keys: EpochKeys


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A control message came in."""

    trunk: TrunkId
    message: Message


@dataclass(frozen=True, slots=True)
class TablesApplied:
    """The data plane uses this version of the tables."""

    version: int


@dataclass(frozen=True, slots=True)
class IntroReceived:
    """An INTRO for a local VLAN."""

    vlan: VlanIndex
    token: bytes
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class UnknownKidSeen:
    """A frame under a key that nobody introduced."""

    vlan: VlanIndex
    kid: bytes


@dataclass(frozen=True, slots=True)
class SpoofSeen:
    """A member said that it is another one; `what`: "mac", or "address" in ARP or neighbour discovery."""

    vlan: VlanIndex
    member: int
    what: str


@dataclass(frozen=True, slots=True)
class MulticastHeard:
    """A host or router said something about multicast groups; `is_local`: behind our ports, not another member's."""

    vlan: VlanIndex
    is_local: bool
    frame: bytes


@dataclass(frozen=True, slots=True)
class ForgerySeen:
    """A group frame under a member's key that this member did not sign."""

    vlan: VlanIndex
    kid: bytes
    trunk: TrunkId


@dataclass(frozen=True, slots=True)
class StormSeen:
    """More frames for all than are allowed: of a member, or at our own port (None); `kind` says of which."""

    vlan: VlanIndex
    member: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class PortAttached:
    """The VLAN's interface became a port of another bridge, or of none."""

    vlan: VlanIndex


@dataclass(frozen=True, slots=True)
class HostSeen:
    """A host spoke at our port, which did not know it."""

    vlan: VlanIndex
    host: Host


@dataclass(frozen=True, slots=True)
class HostGone:
    """A host at our port was silent for long."""

    vlan: VlanIndex
    host: Host


@dataclass(frozen=True, slots=True)
class HostsListed:
    """Events were lost: these hosts are at our port."""

    vlan: VlanIndex
    hosts: tuple[Host, ...]


@dataclass(frozen=True, slots=True)
class LoopProbeHeard:
    """A loop probe of this VLAN came in at our port: another's, or one of our own that was sent just now."""

    vlan: VlanIndex
    handle: bytes
    run: bytes
    number: int
    forwards: bool
    is_own: bool


@dataclass(frozen=True, slots=True)
class GroupControlReceived:
    """Member control for all, signed by its sender."""

    vlan: VlanIndex
    member: int
    message: bytes


@dataclass(frozen=True, slots=True)
class KeySpent:
    """A sending key reached its number of packets."""

    vlan: VlanIndex
    kid: bytes


@dataclass(frozen=True, slots=True)
class PathFound:
    """A probe of ours came back from this address."""

    trunk: TrunkId
    address: Address
    rtt_s: float


@dataclass(frozen=True, slots=True)
class PathLost:
    """The udp carrier is silent though we sent."""

    trunk: TrunkId


@dataclass(frozen=True, slots=True)
class SourceSeen:
    """Authentic packets come from another address than the one in use."""

    trunk: TrunkId
    address: Address


@dataclass(frozen=True, slots=True)
class Traffic:
    """Frames were sent to a member since the last report; `heard`: and some came from it."""

    vlan: VlanIndex
    member: int
    heard: bool


@dataclass(frozen=True, slots=True)
class TrafficSeen:
    """The members that frames were sent to, those with the most, at most 64; each 0.5 s while there are some."""

    members: tuple[Traffic, ...]


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """Member control under a pair key."""

    vlan: VlanIndex
    member: int
    message: bytes


@dataclass(frozen=True, slots=True)
class PingAsked:
    """The operator pings a member (by its MAC in a VLAN) or a neighbour."""

    id: int
    target: tuple[VlanIndex, Mac] | TrunkId


@dataclass(frozen=True, slots=True)
class PathAsked:
    """The operator wants to know the way to a member, by its MAC in a VLAN."""

    id: int
    vlan: VlanIndex
    mac: Mac


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The operator changed whom this node relays for."""

    mode: Mode
    patterns: tuple[str, ...]
    names_itself: bool = False
    controllers: frozenset[PeerId] = frozenset()
    limits: RelayLimits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class LoadMeasured:
    """How busy the data plane was of late.

    Args:
        load: share of one core that its busiest thread took, 0 to 1.
        losses: share of packets that trunks lost, 0 to 1.
    """

    load: float
    losses: Mapping[TrunkId, float]


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline came; `late_s`: how long ago that was, for this machine may have no time for us."""

    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The operator ends the node."""


BridgeEvent = (
    PortAttached | HostSeen | HostGone | HostsListed | LoopProbeHeard | StormSeen | GroupControlReceived
)  # fmt: skip
Event = (
    TrunkOpened | TrunkClosed | TrunkRekeyed | MessageReceived | TablesApplied | IntroReceived | UnknownKidSeen
    | BridgeEvent | MulticastHeard
    | KeySpent | SpoofSeen | ForgerySeen | PathFound | PathLost | SourceSeen | ControlReceived | PingAsked | PathAsked
    | PolicyChanged | LoadMeasured | TrafficSeen | TimePassed | StopAsked
)  # fmt: skip

FROM_OTHERS: Final = (
    MessageReceived, IntroReceived, UnknownKidSeen, ControlReceived, SourceSeen, PathFound, KeySpent, TrafficSeen,
    *get_args(BridgeEvent),
)  # fmt: skip
"""What neighbours, members and hosts can bring about: a bug that one of them finds ends no node."""
