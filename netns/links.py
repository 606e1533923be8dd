"""Cables: veth pairs, bridges, and links with impairments (emulator.py)."""

from netns.namespace import Namespace


def veth(
    a: Namespace, a_name: str, a_address: str | None, b: Namespace, b_name: str, b_address: str | None,
    *, mtu: int = 1500, offloads: bool = True,
) -> None:  # fmt: skip
    """A cable between two machines, both ends up.

    Args:
        offloads: off = every packet on it is one packet of the wire, checksums filled in (captures then show what a
            real network would carry).
    """
    a.lab.command(
        "ip", "link", "add", a_name, "netns", a.name, "mtu", str(mtu), "type", "veth",
        "peer", "name", b_name, "netns", b.name, "mtu", str(mtu),
    )  # fmt: skip
    for end, name, address in ((a, a_name, a_address), (b, b_name, b_address)):
        if not offloads:
            without_offloads(end, name)
        if address is not None:
            end.address(address, name)
        end.up(name)


def without_offloads(namespace: Namespace, interface: str) -> None:
    features = ("tx", "rx", "tso", "gso", "gro", "tx-udp-segmentation")
    namespace.run("ethtool", "-K", interface, *(word for feature in features for word in (feature, "off")))


def bridge(namespace: Namespace, name: str, ports: list[str], *, stp: bool = False) -> None:
    """A kernel bridge over interfaces that exist already."""
    namespace.run("ip", "link", "add", name, "type", "bridge", "stp_state", "1" if stp else "0")
    for port in ports:
        namespace.run("ip", "link", "set", port, "master", name)
    namespace.up(name, *ports)
