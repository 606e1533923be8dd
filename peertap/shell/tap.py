"""TAP interfaces: opened, addressed and raised here; the data plane gets a duplicate of the descriptor (DATAPATH)."""

from __future__ import annotations

import errno
import getpass
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

import pytun
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from peertap.errors import DeviceError
from peertap.types import Mac, format_mac, parse_mac

UDP_IPV6_BYTES: Final = 48  # SPEC 2.3: the largest headers below a packet
OVERHEAD_BYTES: Final = 64  # SPEC 2.3
ETHERNET_BYTES: Final = 14
VLAN_TAG_BYTES: Final = 4
MAX_TRAIN_BYTES: Final = 65507  # RFC 768 over RFC 791
MAX_SUPER_FRAME_BYTES: Final = 65536  # Linux GSO_LEGACY_MAX_SIZE
MIN_SUPER_FRAME_BYTES: Final = 16384  # ours
QUEUE_FRAMES: Final = 1000  # a TAP's default, whatever made the device: small frames need as many (docs/decisions/0014)


def default_mtu(underlay_mtu: int) -> int:
    """The TAP's MTU with which no frame needs fragments (SPEC 2.3)."""
    return underlay_mtu - UDP_IPV6_BYTES - OVERHEAD_BYTES - ETHERNET_BYTES - VLAN_TAG_BYTES


def train_bytes(mtu: int) -> int:
    """The super-frame (gso_max_size) whose segments fill one send.

    A datagram train has at most 65,507 bytes (RFC 768), so a super-frame of 64 KiB would need a second, short one. TCP
    takes 321 bytes off the device's limit (MAX_TCP_HEADER + 1) and sends whole segments, mtu - 52 bytes over IPv4 with
    timestamps.
    """
    segments = MAX_TRAIN_BYTES // (mtu + ETHERNET_BYTES + OVERHEAD_BYTES)
    return max(MIN_SUPER_FRAME_BYTES, min(segments * (mtu - 52) + 400, MAX_SUPER_FRAME_BYTES))


class Tap:
    """An open TAP device; it goes away with `close` unless it is persistent."""

    def __init__(self, name: str, mac: Mac, mtu: int, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
        """Opens (or attaches to) the device, gives it MAC, MTU and addresses, and raises it.

        Raises: DeviceError, with the command that helps.
        """
        self.name: Final = name
        self.mtu: Final = mtu
        try:
            self._device = pytun.TunTapDevice(name=name, flags=pytun.IFF_TAP | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR)
        except (pytun.Error, OSError) as error:
            raise _refused(name, "cannot be opened", error) from None
        try:
            _configure(name, mac, mtu, addresses)
        except (NetlinkError, OSError) as error:
            self._device.close()
            raise _refused(name, "cannot be configured", error, mac=mac, mtu=mtu) from None

    def fileno(self) -> int:
        return int(self._device.fileno())

    def neighbour(self, ip: str) -> Mac | None:
        """The MAC that the kernel has resolved for an IP address on this interface."""
        with IPRoute() as netlink:
            found = netlink.link_lookup(ifname=self.name)
            for entry in netlink.get_neighbours(ifindex=found[0]) if found else ():
                if entry.get("dst") == ip and entry.get("lladdr"):
                    return parse_mac(entry.get("lladdr"))
        return None

    def close(self) -> None:
        self._device.close()


def _configure(name: str, mac: Mac, mtu: int, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
    with IPRoute() as netlink:
        found = netlink.link_lookup(ifname=name)
        if not found:
            raise OSError(errno.ENODEV, "the interface is gone")
        index = found[0]
        link = netlink.get_links(index)[0]
        wanted = {"address": format_mac(mac), "mtu": mtu}
        if link.get("address") != wanted["address"] or link.get("mtu") != mtu:
            netlink.link("set", index=index, **wanted)
        with suppress(NetlinkError):  # a device that is not ours to tune works as well, a little slower
            limit = train_bytes(mtu)
            netlink.link("set", index=index, gso_max_size=limit, gso_ipv4_max_size=limit, txqlen=QUEUE_FRAMES)
        if link["state"] != "up":
            netlink.link("set", index=index, state="up")
        present = {f"{one.get('address')}/{one['prefixlen']}" for one in netlink.get_addr(index=index)}
        for address in addresses:
            if str(address) not in present:
                extra = {"flags": _NODAD} if address.version == 6 else {}
                netlink.addr("add", index=index, address=str(address.ip), mask=address.network.prefixlen, **extra)


_NODAD: Final = 0x02  # linux/if_addr.h IFA_F_NODAD: the address is derived from the node's own key


def _refused(name: str, what: str, error: Exception, *, mac: Mac | None = None, mtu: int | None = None) -> DeviceError:
    number = getattr(error, "code", None) or getattr(error, "errno", None) or (error.args[0] if error.args else None)
    if number in (errno.EPERM, errno.EACCES):
        user = getpass.getuser()
        if mac is None:
            hint = (
                f"run with CAP_NET_ADMIN (sudo, or the systemd unit), or make the interface yours: "
                f"sudo ip tuntap add dev {name} mode tap user {user}"
            )
        else:
            hint = f"sudo ip link set {name} address {format_mac(mac)} mtu {mtu} up, and add its addresses"
        return DeviceError(f"interface {name} {what}: not allowed", hint=hint)
    if number == errno.EBUSY:
        return DeviceError(f"interface {name} {what}: another program has it", hint="choose another tap.name")
    if number == errno.ENOENT:
        return DeviceError("/dev/net/tun is not there", hint="modprobe tun, or give the container /dev/net/tun")
    return DeviceError(f"interface {name} {what}: {error}")
