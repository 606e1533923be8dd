"""What a node wants done, in the imperative."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from peertap.node.tables import Address, Hop, TableSet
from peertap.types import PeerId, TrunkId, VlanIndex
from peertap.wire.control import CloseCode, Message
from peertap.wire.macs import Host


@dataclass(frozen=True, slots=True)
class Send:
    """Send a control message as a record of the trunk."""

    trunk: TrunkId
    message: Message


@dataclass(frozen=True, slots=True)
class CloseTrunk:
    """End a trunk, telling the neighbour why."""

    trunk: TrunkId
    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class Choose:
    """These relays are dialled and kept up, where nobody else wants them; those chosen before and not now are not."""

    relays: Mapping[PeerId, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Apply:
    """Give the tables to the data plane; TablesApplied(version) is owed."""

    version: int
    tables: TableSet


@dataclass(frozen=True, slots=True)
class SendIntro:
    """Send an INTRO body by each of these hops."""

    hops: tuple[Hop, ...]
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class SendControl:
    """Send member control under the pair key: by this hop, or as a frame would go."""

    vlan: VlanIndex
    member: int
    message: bytes
    by: Hop | None = None


@dataclass(frozen=True, slots=True)
class SendGroupControl:
    """Send member control to all, under the group key."""

    vlan: VlanIndex
    message: bytes


@dataclass(frozen=True, slots=True)
class PlaceHosts:
    """Frames for these hosts go to these members; None: nobody is known to have one."""

    vlan: VlanIndex
    places: tuple[tuple[Host, int | None], ...]


@dataclass(frozen=True, slots=True)
class ForgetHosts:
    """These hosts are not at our port; `refused`: and it may not have them."""

    vlan: VlanIndex
    hosts: tuple[Host, ...]
    refused: bool


@dataclass(frozen=True, slots=True)
class WriteFrame:
    """Write a frame of our own to the VLAN's ports."""

    vlan: VlanIndex
    frame: bytes


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send a frame of our own to the members that want every group."""

    vlan: VlanIndex
    frame: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """Probe an address with the trunk's udp key."""

    trunk: TrunkId
    address: Address


@dataclass(frozen=True, slots=True)
class ReportPing:
    """A ping came back (or cannot be sent: None)."""

    id: int
    rtt_s: float | None


@dataclass(frozen=True, slots=True)
class PathStep:
    """One node of the way to a member.

    Args:
        hop: 0 is this node.
        node: None: it does not say.
        end: as in PathAnswer: it passes frames on, owns the token, or knows no way.
        transport, carrier, link_s: of its trunk to the next node, None where it does not say.
        rtt_s: how long after the question its answer came, None for this node.
    """

    hop: int
    node: PeerId | None
    end: int
    transport: str | None = None
    carrier: str | None = None
    link_s: float | None = None
    why: str = ""
    rtt_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReportPath:
    """A node of the way that the operator asked for."""

    id: int
    step: PathStep


@dataclass(frozen=True, slots=True)
class SaveRecord:
    """Keep this on disk for the VLAN, instead of what is there; what follows relies on it."""

    label: str
    record: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropRecord:
    """Nothing of the VLAN is kept."""

    label: str


@dataclass(frozen=True, slots=True)
class SaveRelayState:
    """Keep this on disk before anything after it is done: rules made while the node ran (SPEC 15.3)."""

    state: bytes


@dataclass(frozen=True, slots=True)
class Met:
    """Letters can go to a member: for the node itself, which says it once the tables have its key."""

    vlan: VlanIndex
    member: PeerId


@dataclass(frozen=True, slots=True)
class Renumber:
    """Another member has our virtual MAC: for the node itself, which takes another one."""

    vlan: VlanIndex


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The member that had our virtual MAC took another one: for the node itself, which announces its token anew."""

    vlan: VlanIndex


@dataclass(frozen=True, slots=True)
class OpenPort:
    """Make the VLAN's interface."""

    vlan: VlanIndex


@dataclass(frozen=True, slots=True)
class ClosePort:
    """Take the VLAN's interface away."""

    vlan: VlanIndex


@dataclass(frozen=True, slots=True)
class Log:
    """Something changed that a person may want to know."""

    level: str
    event: str
    fields: dict[str, object] = field(default_factory=dict)


Action = (
    Send | CloseTrunk | Apply | SendIntro | SendControl | SendGroupControl | PlaceHosts | ForgetHosts | WriteFrame
    | SendFrame | Probe | ReportPing | ReportPath | SaveRecord | DropRecord | SaveRelayState | OpenPort | ClosePort
    | Choose | Met | Renumber | Reclaim | Log
)  # fmt: skip
