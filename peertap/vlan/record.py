"""What a node keeps of one VLAN with a group: one file, replaced as a whole (SPEC 10.4).

    "PTV1" ┼ flags 1 ┼ lp32(state of the group, or nothing) ┼ 0 or 1: secrets ┼ n 1 ┼ n × invite
    ┼ lp(invite that we came with, or nothing) ┼ MAC nonce 4 ┼ port ┼ n 1 ┼ n × lp(address to dial)
    invite: revoked 1 ┼ lp(invite) ┼ n 2 ┼ n × identity that it forgives 32
    port: lp(interface) ┼ mtu 4 (0: automatic) ┼ bridge 1 ┼ n 1 (ff: derived) ┼ n × lp(address)

Flag 1: this is a restored backup: the group is joined anew before anything is sent in it. Flag 2: a new routing secret
is due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from peertap.errors import DecodeError
from peertap.vlan.saved import MAX_FIELD_BYTES
from peertap.vlan.secrets import VlanSecrets
from peertap.wire.codec import Reader, lp, lp32
from peertap.wire.invite import Invite
from peertap.wire.motion import KEY_BYTES

MAGIC: Final = b"PTV1"
MAX_TEXT_BYTES: Final = 255
DERIVED: Final = 0xFF
RESTORED: Final = 1
ROTATION_DUE: Final = 2


@dataclass(frozen=True, slots=True)
class Port:
    """The interface of a VLAN on this machine.

    Args:
        addresses: with prefix length; None: derived from VLAN-ID and identity.
        mtu: bytes; 0: what fits every path.
    """

    interface: str
    addresses: tuple[str, ...] | None = None
    mtu: int = 0
    bridge: bool = False

    def emit(self) -> bytes:
        own = bytes((DERIVED,)) if self.addresses is None else _many(self.addresses)
        return lp(self.interface.encode()) + self.mtu.to_bytes(4, "big") + bytes((self.bridge,)) + own

    @classmethod
    def read(cls, reader: Reader) -> Port:
        """Raises DecodeError."""
        interface, mtu = reader.text("interface", MAX_TEXT_BYTES), reader.uint(4, "MTU")
        bridge, count = bool(reader.uint(1, "bridge")), reader.uint(1, "addresses")
        addresses = None if count == DERIVED else _texts(reader, count)
        return cls(interface, addresses, mtu, bridge)


@dataclass(frozen=True, slots=True)
class VlanRecord:
    """Everything that must outlive the process.

    Args:
        group: SPEC 9.5; empty while we wait to be let in.
        invites: those that we gave out; whether each was revoked, and which removed ones it forgives.
        joining: the invite that we came with, until we are in.
        dial: multiaddrs of nodes through which the others are found.
        is_restored: it comes from a backup.
        is_rotation_due: somebody was removed and the routing secret is still the old one.
    """

    port: Port
    group: bytes = field(default=b"", repr=False)
    secrets: VlanSecrets | None = None
    invites: tuple[tuple[Invite, bool, frozenset[bytes]], ...] = ()
    joining: Invite | None = None
    mac_nonce: int = 0
    dial: tuple[str, ...] = ()
    is_restored: bool = False
    is_rotation_due: bool = False

    def emit(self) -> bytes:
        """Returns the file's bytes."""
        secrets = b"\0" if self.secrets is None else b"\1" + self.secrets.emit()
        invites = b"".join(
            bytes((revoked,)) + lp(invite.emit()) + len(forgives).to_bytes(2, "big") + b"".join(sorted(forgives))
            for invite, revoked, forgives in self.invites
        )
        return b"".join(
            (
                MAGIC,
                bytes(((RESTORED if self.is_restored else 0) | (ROTATION_DUE if self.is_rotation_due else 0),)),
                lp32(self.group),
                secrets,
                bytes((len(self.invites),)),
                invites,
                lp(b"" if self.joining is None else self.joining.emit()),
                self.mac_nonce.to_bytes(4, "big"),
                self.port.emit(),
                _many(self.dial),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> VlanRecord:
        """Reads the file.

        Raises:
            DecodeError: it is another one, or damaged.
        """
        reader = Reader(data, "VLAN record")
        if reader.take(len(MAGIC), "magic") != MAGIC:
            raise DecodeError("VLAN record: this is no record of a VLAN")
        flags = reader.uint(1, "flags")
        group = reader.lp32("group", MAX_FIELD_BYTES)
        secrets = VlanSecrets.read(reader) if reader.uint(1, "secrets") else None
        invites = _repeat(reader, "invites", _invite)
        joining = reader.lp("joining")
        record = cls(
            group=group,
            secrets=secrets,
            invites=invites,
            joining=Invite.parse_untrusted(joining) if joining else None,
            mac_nonce=reader.uint(4, "MAC nonce"),
            port=Port.read(reader),
            dial=_texts(reader, reader.uint(1, "addresses to dial")),
            is_restored=bool(flags & RESTORED),
            is_rotation_due=bool(flags & ROTATION_DUE),
        )
        reader.end()
        if (not record.group) == (record.joining is None) or bool(record.group) != (secrets is not None):
            raise DecodeError("VLAN record: it is neither a member's nor a newcomer's")
        return record


Item = TypeVar("Item")


def _repeat(reader: Reader, name: str, read: Callable[[Reader], Item]) -> tuple[Item, ...]:
    return tuple(read(reader) for _ in range(reader.uint(1, name)))


def _invite(reader: Reader) -> tuple[Invite, bool, frozenset[bytes]]:
    revoked, invite = bool(reader.uint(1, "revoked")), Invite.parse_untrusted(reader.lp("invite"))
    count = reader.uint(2, "forgiven ones")
    return invite, revoked, frozenset(reader.take(KEY_BYTES, "forgiven one") for _ in range(count))


def _many(texts: tuple[str, ...]) -> bytes:
    return bytes((len(texts),)) + b"".join(lp(one.encode()) for one in texts)


def _texts(reader: Reader, count: int) -> tuple[str, ...]:
    return tuple(reader.text("address", MAX_TEXT_BYTES) for _ in range(count))
