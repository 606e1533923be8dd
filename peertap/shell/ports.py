"""The interfaces of this node's VLANs: opened when the node says so, and closed."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from peertap.errors import DeviceError
from peertap.identity.addressing import interface_addresses
from peertap.node.vlan import LocalVlan
from peertap.observe.status import TapStatus
from peertap.shell.dataplane import DataPlane
from peertap.shell.tap import Tap, default_mtu
from peertap.types import Mac, PeerId, VlanIndex
from peertap.vlan.membership import GroupMembership
from peertap.vlan.record import Port

Addresses = tuple[IPv4Interface | IPv6Interface, ...]


class Ports:
    """One TAP for each VLAN that carries frames."""

    def __init__(self, data_plane: DataPlane, me: PeerId, underlay_mtu: int) -> None:
        self._data_plane = data_plane
        self._me = me
        self._underlay_mtu = underlay_mtu
        self._taps: Final[dict[VlanIndex, tuple[Tap, Addresses]]] = {}

    def open(self, vlan: LocalVlan, port: Port) -> tuple[Tap, Addresses]:
        """Makes the interface and gives it to the data plane.

        Raises: DeviceError, and nothing is open.
        """
        addresses = self._addresses(vlan, port)
        mtu = port.mtu or default_mtu(self._underlay_mtu)
        tap = Tap(port.interface, vlan.mac, mtu, addresses)
        self._taps[vlan.index] = tap, addresses
        self._data_plane.ports[vlan.index] = [self._data_plane.engine.add_port(tap.fileno(), tap.name)]
        return tap, addresses

    def close(self, index: VlanIndex) -> None:
        """Takes the interface away, where it is there."""
        found = self._taps.pop(index, None)
        if found is not None:
            for number in self._data_plane.ports.pop(index, []):
                self._data_plane.engine.remove_port(number)
            found[0].close()

    def close_all(self) -> None:
        """The node ends; the data plane has stopped."""
        for tap, _ in self._taps.values():
            tap.close()
        self._taps.clear()

    def masters(self) -> dict[VlanIndex, int | None]:
        """The bridge that each interface is a port of, as an interface index; None: of none.

        Raises: DeviceError, the kernel does not say.
        """
        if not self._taps:
            return {}
        try:
            with IPRoute() as netlink:
                found = {link.get("ifname"): link.get("master") for link in netlink.get_links()}
        except (OSError, NetlinkError) as error:
            raise DeviceError(f"this machine's interfaces cannot be listed: {error}") from None
        return {index: found.get(tap.name) for index, (tap, _) in self._taps.items()}

    def names(self) -> set[str]:
        """Interfaces that are ours."""
        return {tap.name for tap, _ in self._taps.values()}

    def status(self) -> dict[VlanIndex, TapStatus]:
        return {
            index: TapStatus(tap.name, tap.mtu, tuple(map(str, addresses)))
            for index, (tap, addresses) in self._taps.items()
        }

    def neighbour(self, ip: str) -> tuple[VlanIndex, Mac] | None:
        """Who has this IP address, as the kernel has resolved it on one of the interfaces."""
        for index, (tap, _) in self._taps.items():
            found = tap.neighbour(ip)
            if found is not None:
                return index, found
        return None

    def _addresses(self, vlan: LocalVlan, port: Port) -> Addresses:
        if port.addresses is not None:
            return tuple(map(ip_interface, port.addresses))
        source = vlan.source
        founders = source.group.charter.creators if isinstance(source, GroupMembership) else ()
        is_founder = len(founders) == 1 and self._me.endswith(founders[0])  # several cannot have the same address
        return interface_addresses(source.label, source.vlan_id, self._me, founder=is_founder)
