"""All that an Ethernet must carry, in one call: the first two rows of "what must hold"."""

from netns.checks import reach, services, throughput
from netns.checks.side import Side

GIB = 1 << 30
MIB = 1 << 20


def functions(a: Side, b: Side) -> dict[str, object]:
    """Ping 500 of 500, ARP, IPv6 ND, multicast, broadcasts of any size, DHCP, mDNS."""
    step = a.namespace.lab.report.step
    figures: dict[str, object] = {}
    with step("ping: 500 of 500"):
        figures |= reach.ping(a, b)
    with step("ARP both ways"):
        reach.arp(a, b)
        reach.arp(b, a)
    with step("IPv6: neighbour discovery both ways, ping"):
        reach.neighbour_discovery(a, b)
        reach.neighbour_discovery(b, a)
        reach.ipv6_ping(a, b)
    with step("multicast both ways"):
        reach.multicast(a, b)
        reach.multicast(b, a)
    with step("broadcasts larger than the path"):
        figures |= reach.large_broadcasts(a, b)
    with step("DHCP: dnsmasq leases to a real client"):
        figures["dhcp_leased"] = services.dhcp(a, b)
    with step("mDNS: avahi finds a service of the other side"):
        figures["mdns"] = services.mdns(a, b)
    return figures


def volume(a: Side, b: Side, *, short: bool) -> dict[str, object]:
    """TCP and UDP iperf3, and 1 GiB (short: 64 MiB) with equal hash."""
    step = a.namespace.lab.report.step
    figures: dict[str, object] = {}
    with step("TCP by iperf3"):
        figures |= throughput.tcp(a, b, seconds=1.5 if short else 8, runs=1 if short else 3)
    with step("UDP by iperf3"):
        figures |= throughput.udp(a, b, seconds=1.5 if short else 3)
    total = 64 * MIB if short else GIB
    with step(f"{total // MIB} MiB over TCP, equal hash"):
        figures |= throughput.transfer(a, b, total)
    return figures
