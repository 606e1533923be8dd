"""This machine's own addresses: those that others may reach it at, the likeliest first."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Final

import trio

from peertap.errors import DeviceError

if TYPE_CHECKING:
    from pyroute2 import IPRoute

SETTLE_S: Final = 0.5  # ours: a machine that moves loses and gets several addresses
_ADDRESS_GROUPS: Final = 0x10 | 0x100  # linux/rtnetlink.h: RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_RT_TABLE_MAIN: Final = 254  # linux/rtnetlink.h
_UNUSABLE_FLAGS: Final = 0x01 | 0x08 | 0x20 | 0x40  # linux/if_addr.h: temporary, DAD failed, deprecated, tentative


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of this machine.

    Args:
        interface: Name of its interface.
        address: Address with prefix length; never loopback or link-local.
        has_default_route: A default route leaves by this interface.
    """

    interface: str
    address: IPv4Interface | IPv6Interface
    has_default_route: bool

    @property
    def multiaddr(self) -> str:
        """The address as the start of a multiaddr: "/ip4/192.0.2.1"."""
        return f"/ip{self.address.version}/{self.address.ip}"


def local_addresses(*, without: Collection[str] | None = None) -> list[LocalAddress]:
    """Returns the addresses of the interfaces that are up.

    Args:
        without: Names of interfaces to leave out; None: all TAP and TUN devices.

    Raises:
        DeviceError: The kernel does not say.

    Order: interfaces with a default route first, then public before private, then IPv4 before IPv6.
    """
    from pyroute2 import IPRoute, NetlinkError  # 170 ms, only needed here

    try:
        with IPRoute() as netlink:
            found = list(_usable(netlink, without))
    except (OSError, NetlinkError) as error:
        raise DeviceError(f"this machine's addresses cannot be listed: {error}") from None
    return sorted(found, key=lambda one: (not one.has_default_route, one.address.is_private, one.address.version))


def _usable(netlink: IPRoute, without: Collection[str] | None) -> Iterator[LocalAddress]:
    names: dict[int, str] = {}
    for link in netlink.get_links():
        name = link.get("ifname")
        left_out = link.get(("linkinfo", "kind")) == "tun" if without is None else name in without
        if link["state"] == "up" and not left_out:
            names[link["index"]] = name
    routed = {route.get("oif") for route in netlink.get_routes(table=_RT_TABLE_MAIN) if route["dst_len"] == 0}
    for entry in netlink.get_addr():
        name = names.get(entry["index"])
        # IFA_LOCAL is this end, IFA_ADDRESS the other one on a point-to-point link
        text = entry.get("local") or entry.get("address")
        if name is None or text is None or entry["family"] not in (socket.AF_INET, socket.AF_INET6):
            continue
        address = ip_interface(f"{text}/{entry['prefixlen']}")
        if (entry.get("flags") or 0) & _UNUSABLE_FLAGS or address.is_loopback or address.is_link_local:
            continue
        yield LocalAddress(name, address, entry["index"] in routed)


async def address_changes() -> AsyncGenerator[None, None]:
    """Yields when addresses or links of this machine have changed; what changes together is one.

    Raises: DeviceError.
    """
    try:
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    except OSError as error:
        raise DeviceError(f"changes of addresses cannot be watched: {error.strerror}") from None
    with listener:
        listener.bind((0, _ADDRESS_GROUPS))
        while True:
            await trio.lowlevel.wait_readable(listener.fileno())
            await trio.sleep(SETTLE_S)
            try:
                while listener.recv(65_536):
                    pass
            except OSError:  # nothing is left, or more came than the kernel could keep
                pass
            yield


def port_is_free(kind: socket.SocketKind, port: int) -> bool:
    """Says whether nobody listens on a TCP (SOCK_STREAM) or UDP (SOCK_DGRAM) port of this machine right now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is no listener
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  the bind is all that happens
        except OSError:
            return False
    return True
