"""Members on the same LAN, by multicast DNS (RFC 6762, RFC 6763; SPEC 12.2). The library is zeroconf, in its threads.

py-libp2p's own mDNS announces the peer ID in clear, on all interfaces, and looks through blocking calls:
docs/decisions/0020.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import trio

from peertap.errors import DeviceError
from peertap.shell.interfaces import LocalAddress
from peertap.vlan.circles import MAX_SLOTS, SALT_BYTES, SLOT_BYTES

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

SERVICE: Final = "_peertap._tcp.local."
TTL_S: Final = 120  # RFC 6762 section 10: for what changes with the network
SLOTS_PER_STRING: Final = 2  # a TXT string has at most 255 bytes (RFC 1035)
WAIT_MS: Final = 2000  # ours: for the rest of an announcement
OPEN_S: Final = 10.0  # ours: to open the sockets, or announce
CLOSE_S: Final = 0.5  # ours: to say goodbye
RATE_S: Final = 10.0  # ours
MAX_HEARD: Final = 64  # ours: announcements in RATE_S; a LAN with more finds each other more slowly
MAX_NOTED: Final = 256  # ours: announcements that are kept for later; the oldest goes
MAX_RELAY_CHARS: Final = 64
_SALT, _RELAY, _SLOTS = b"s", b"relay", (b"0", b"1", b"2", b"3")


@dataclass(frozen=True, slots=True)
class Heard:
    """An announcement: anybody can have made it.

    Args:
        slots: one of them may be for us.
        relay: peer ID of an open relay, or "".
        port: TCP, of the relay.
        addresses: of the relay.
    """

    salt: bytes
    slots: tuple[bytes, ...]
    relay: str
    port: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announcement:
    """What we announce.

    Args:
        slots: one for each circle in which we show ourselves, and random ones.
        relay: our peer ID if we relay for all, else "".
        port: TCP.
    """

    salt: bytes
    slots: tuple[bytes, ...]
    relay: str
    port: int


class Lan:
    """Announces, and listens, on these addresses of this machine until it is closed."""

    def __init__(self, underlay: Sequence[LocalAddress], heard: Callable[[Heard], None]) -> None:
        """Args: heard: called in trio's thread."""
        self.underlay: Final = tuple(underlay)
        self._tell = heard
        self._heard: dict[str, Heard] = {}  # by name, at most MAX_NOTED
        self._token = trio.lowlevel.current_trio_token()
        self._zeroconf: Zeroconf | None = None
        self._info: ServiceInfo | None = None
        self._rate_since, self._rate = float("-inf"), 0

    async def open(self) -> None:
        """Raises DeviceError where multicast DNS is not to be had."""
        await self._do(self._open)

    async def announce(self, announcement: Announcement | None) -> None:
        """Says this from now on instead of what was said before; None: nothing.

        Raises: DeviceError.
        """
        await self._do(lambda: self._announce(announcement))

    def repeat(self) -> None:
        """Tells once more what is announced now: somebody may be of use to us since then."""
        for one in list(self._heard.values()):
            self._tell(one)

    async def close(self) -> None:
        """Says goodbye, if that can be done in time."""
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S):
            await _in_thread(self._close)

    @staticmethod
    async def _do(work: Callable[[], None]) -> None:
        try:
            with trio.fail_after(OPEN_S):
                await _in_thread(work)
        except trio.TooSlowError:
            raise DeviceError("multicast DNS: it takes too long") from None
        except Exception as error:  # zeroconf and the kernel raise many kinds
            raise DeviceError(f"multicast DNS: {type(error).__name__}: {error}") from None

    # In threads

    def _open(self) -> None:
        from zeroconf import ServiceBrowser, Zeroconf  # 70 ms, and only where it is used

        logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # what the network does to it is no news
        self._zeroconf = Zeroconf(interfaces=[str(one.address.ip) for one in self.underlay])
        ServiceBrowser(self._zeroconf, SERVICE, handlers=[self._changed])

    def _announce(self, announcement: Announcement | None) -> None:
        from zeroconf import ServiceInfo

        zeroconf = self._zeroconf
        if zeroconf is None:
            return
        if self._info is not None:
            zeroconf.unregister_service(self._info)
            self._info = None
        if announcement is None:
            return
        name = os.urandom(8).hex()  # a new one each time: nothing joins it with the one before
        strings = zip(_SLOTS, range(0, MAX_SLOTS, SLOTS_PER_STRING), strict=True)
        slots = {key: b"".join(announcement.slots[at : at + SLOTS_PER_STRING]) for key, at in strings}
        properties: dict[Any, Any] = {_SALT: announcement.salt, **{key: value for key, value in slots.items() if value}}
        addresses: list[str] = []
        if announcement.relay:
            properties[_RELAY] = announcement.relay.encode()
            addresses = [str(one.address.ip) for one in self.underlay]
        self._info = ServiceInfo(
            SERVICE, f"{name}.{SERVICE}", port=announcement.port, properties=properties, server=f"{name}.local.",
            parsed_addresses=addresses, host_ttl=TTL_S, other_ttl=TTL_S,
        )  # fmt: skip
        zeroconf.register_service(self._info, cooperating_responders=True)  # nobody else has that name: no probing

    def _close(self) -> None:
        if self._zeroconf is not None:
            self._zeroconf.close()

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: object) -> None:
        """Zeroconf's thread: a name came, changed or went."""
        from zeroconf import ServiceInfo, ServiceStateChange

        if self._info is not None and name == self._info.name:
            return
        if state_change is ServiceStateChange.Removed:
            self._post(name, None)
            return
        now = time.monotonic()
        if now >= self._rate_since + RATE_S:
            self._rate_since, self._rate = now, 0
        self._rate += 1
        if self._rate > MAX_HEARD:
            return
        info = ServiceInfo(service_type, name)
        if not info.load_from_cache(zeroconf) and not info.text:
            info.request(zeroconf, WAIT_MS)
        found = read_untrusted(info.properties, info.port or 0, info.parsed_addresses())
        if found is not None:
            self._post(name, found)

    def _post(self, name: str, heard: Heard | None) -> None:
        try:
            self._token.run_sync_soon(self._note, name, heard)
        except trio.RunFinishedError:
            pass

    # In trio's thread again

    def _note(self, name: str, heard: Heard | None) -> None:
        self._heard.pop(name, None)
        if heard is not None:
            if len(self._heard) >= MAX_NOTED:
                del self._heard[next(iter(self._heard))]
            self._heard[name] = heard
            self._tell(heard)


async def _in_thread(work: Callable[[], None]) -> None:
    await trio.to_thread.run_sync(work, abandon_on_cancel=True)  # type: ignore[call-arg]  # other stubs are older


def read_untrusted(properties: Any, port: int, addresses: Sequence[str]) -> Heard | None:
    """An announcement from its TXT record; None: it is none of ours."""
    salt, relay = properties.get(_SALT) or b"", properties.get(_RELAY) or b""
    joined = b"".join(properties.get(key) or b"" for key in _SLOTS)
    if len(salt) != SALT_BYTES or len(joined) % SLOT_BYTES or len(joined) > MAX_SLOTS * SLOT_BYTES:
        return None
    try:
        text = relay.decode("ascii") if len(relay) <= MAX_RELAY_CHARS else ""
    except UnicodeDecodeError:
        text = ""
    slots = tuple(joined[at : at + SLOT_BYTES] for at in range(0, len(joined), SLOT_BYTES))
    return Heard(salt, slots, text, port, tuple(addresses[:4]))


def is_on_link(address: str, underlay: Sequence[LocalAddress]) -> bool:
    """Whether an IP address is of a network that this machine is in: nobody is sent elsewhere by a LAN."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in one.address.network and found != one.address.ip for one in underlay)
