"""Which hosts are behind whom, as members tell each other (SPEC 14.3).

Add       ├ 16 ┼ serial 4 ┼ n × host ┤                to all; without hosts it says which serial holds
Withdraw  ├ 17 ┼ serial 4 ┼ n × host ┤                to all
Ask       ├ 18 ┤                                      to one: what is behind you?
Hosts     ├ 19 ┼ serial 4 ┼ n × host ┤                to one: all of them
    host: ├ MAC 6 ┼ VID 2 (ffff: untagged) ┼ moves 4 ┤
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from peertap.errors import DecodeError
from peertap.types import Mac
from peertap.wire.codec import Reader

HOST_BYTES: Final = 12
MAX_VID: Final = 4094  # IEEE 802.1Q-2022, 9.6
UNTAGGED: Final = 0xFFFF
MAX_MOVES: Final = 0xFFFFFFFF  # SPEC 14.3: who gets there counts no further
MAX_HOSTS: Final = 1024  # ours: behind one member, as its port learns
MAX_TOLD: Final = 80  # SPEC 2.3: 965 of the 1,006 bytes that a group packet holds beside its trailer


@dataclass(frozen=True, slots=True, order=True)
class Host:
    """A host on a LAN: its MAC, within an 802.1Q VLAN of that LAN (None: untagged)."""

    mac: Mac
    vid: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A host, and how often it has moved so far."""

    host: Host
    moves: int

    def emit(self) -> bytes:
        vid = UNTAGGED if self.host.vid is None else self.host.vid
        return self.host.mac + vid.to_bytes(2, "big") + self.moves.to_bytes(4, "big")

    @classmethod
    def read(cls, reader: Reader) -> Placed:
        """Raises: DecodeError."""
        mac, vid = Mac(reader.take(6, "MAC")), reader.uint(2, "VID")
        if mac[0] & 1 or not any(mac):
            raise DecodeError("hosts: a group address is no host")
        if vid != UNTAGGED and not 0 < vid <= MAX_VID:
            raise DecodeError(f"hosts: there is no VLAN {vid}")
        return cls(Host(mac, None if vid == UNTAGGED else vid), reader.uint(4, "moves"))


@dataclass(frozen=True, slots=True)
class Add:
    """These hosts are behind the sender, too."""

    KIND: ClassVar[int] = 16
    serial: int
    hosts: tuple[Placed, ...] = ()

    def emit(self) -> bytes:
        return _emit(self)


@dataclass(frozen=True, slots=True)
class Withdraw:
    """These hosts are behind the sender no longer."""

    KIND: ClassVar[int] = 17
    serial: int
    hosts: tuple[Placed, ...]

    def emit(self) -> bytes:
        return _emit(self)


@dataclass(frozen=True, slots=True)
class Ask:
    """Something was missed."""

    KIND: ClassVar[int] = 18

    def emit(self) -> bytes:
        return bytes((self.KIND,))


@dataclass(frozen=True, slots=True)
class Hosts:
    """All that is behind the sender."""

    KIND: ClassVar[int] = 19
    serial: int
    hosts: tuple[Placed, ...]

    def emit(self) -> bytes:
        return _emit(self)


Message = Add | Withdraw | Ask | Hosts


def parse_untrusted(data: bytes) -> Message | None:
    """The message; None where it is of another kind.

    Raises: DecodeError.
    """
    if not data or not Add.KIND <= data[0] <= Hosts.KIND:
        return None
    reader = Reader(data, "hosts")
    kind = reader.uint(1, "kind")
    if kind == Ask.KIND:
        reader.end()
        return Ask()
    serial = reader.uint(4, "serial")
    count, left = divmod(len(data) - 5, HOST_BYTES)
    if left or count > MAX_HOSTS:
        raise DecodeError(f"hosts: {len(data)} bytes are no list of at most {MAX_HOSTS}")
    found = tuple(Placed.read(reader) for _ in range(count))
    if kind == Add.KIND:
        return Add(serial, found)
    return Withdraw(serial, found) if kind == Withdraw.KIND else Hosts(serial, found)


def _emit(message: Add | Withdraw | Hosts) -> bytes:
    head = bytes((message.KIND,)) + message.serial.to_bytes(4, "big")
    return head + b"".join(one.emit() for one in message.hosts)
