"""Reading and writing of length-prefixed, big-endian fields (SPEC 1)."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from peertap.errors import DecodeError

MAX_LP_BYTES: Final = 0xFFFF  # SPEC 1: the length of lp() is a u16


def lp(data: bytes) -> bytes:
    """Length (u16) and data (SPEC 1)."""
    if len(data) > MAX_LP_BYTES:
        raise DecodeError(f"field of {len(data)} bytes is longer than {MAX_LP_BYTES}")
    return len(data).to_bytes(2, "big") + data


def lp32(data: bytes) -> bytes:
    """Length (u32) and data (SPEC 9.5)."""
    return len(data).to_bytes(4, "big") + data


def packed_ip(text: str) -> bytes:
    """An IP address as 16 bytes: IPv6, or IPv4 mapped into it (RFC 4291 2.5.5.2)."""
    address = ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def unpacked_ip(packed: bytes) -> IPv4Address | IPv6Address:
    """The IP address in 16 bytes."""
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


class Reader:
    """Takes fields off untrusted bytes; every shortage is a DecodeError that names the field."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, size: int, field: str) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise DecodeError(f"{self._what}: {field} wants {size} bytes, {len(self._data) - self._at} are left")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def uint(self, size: int, field: str) -> int:
        return int.from_bytes(self.take(size, field), "big")

    def lp(self, field: str, most: int = MAX_LP_BYTES) -> bytes:
        size = self.uint(2, field)
        if size > most:
            raise DecodeError(f"{self._what}: {field} has {size} bytes, at most {most} are allowed")
        return self.take(size, field)

    def lp32(self, field: str, most: int) -> bytes:
        size = self.uint(4, field)
        if size > most:
            raise DecodeError(f"{self._what}: {field} has {size} bytes, at most {most} are allowed")
        return self.take(size, field)

    def text(self, field: str, most: int) -> str:
        try:
            return self.lp(field, most).decode("utf-8")
        except UnicodeDecodeError:
            raise DecodeError(f"{self._what}: {field} is not UTF-8") from None

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at, "rest")

    def end(self) -> None:
        if self._at != len(self._data):
            raise DecodeError(f"{self._what}: {len(self._data) - self._at} bytes too many")
