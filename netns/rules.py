"""What a network does to packets, as nftables rules. Each returns a whole table; load it with Namespace.nft.

Table names say what they do, so that `remove` takes one away without touching the others.
"""

from collections.abc import Iterable

from netns.namespace import Namespace


def drop_udp() -> str:
    """A firewall at this machine that lets no UDP through, in or out."""
    return _both_ways("drop_udp", "meta l4proto udp drop")


def drop_tcp_port(port: int) -> str:
    """A firewall at this machine that lets nothing to or from a TCP port through."""
    return _both_ways(f"drop_tcp_{port}", f"tcp dport {port} drop", f"tcp sport {port} drop")


def lose_percent(percent: int) -> str:
    """Random loss of what arrives here, forwarded or not."""
    return f"""table inet lose {{
        chain arriving {{ type filter hook prerouting priority -300; numgen random mod 100 < {percent} drop; }}
    }}"""


def cut_cable(device: str) -> str:
    """Nothing comes in by this interface, of any protocol; the other end needs the same."""
    return f"""table netdev cut {{
        chain arriving {{ type filter hook ingress device "{device}" priority 0; drop; }}
    }}"""


def drop_sources(addresses: Iterable[str]) -> str:
    """Nothing from these IPv4 addresses is heard here."""
    return f"""table inet cut {{
        chain arriving {{ type filter hook input priority 0; ip saddr {{ {", ".join(addresses)} }} drop; }}
    }}"""


def forward_nothing() -> str:
    """A router that has lost its networks."""
    return """table inet cut {
        chain passing { type filter hook forward priority 0; policy drop; }
    }"""


def mtu_black_hole(mtu: int) -> str:
    """A router that forwards nothing longer than `mtu` and says nothing about it."""
    return f"""table inet black_hole {{
        chain passing {{ type filter hook forward priority 0; meta length > {mtu} drop; }}
    }}"""


def nat(kind: str, *, wan: str, wan_address: str, inner_address: str) -> str:
    """A home router: `kind` is port_restricted, symmetric, full_cone or address_restricted.

    Args:
        wan: its outer interface. wan_address: the address there. inner_address: the one machine behind it.
    """
    to_inner = f"meta l4proto udp dnat to {inner_address}"
    prerouting, forward = "", ""
    match kind:
        case "port_restricted":
            postrouting = f'oifname "{wan}" masquerade'
        case "symmetric":
            postrouting = f'oifname "{wan}" meta l4proto udp masquerade random,fully-random; oifname "{wan}" masquerade'
        case "full_cone":
            postrouting = f'oifname "{wan}" snat to {wan_address}'
            prerouting = f'iifname "{wan}" {to_inner}'
        case "address_restricted":
            postrouting = f'oifname "{wan}" snat to {wan_address}'
            prerouting = f'iifname "{wan}" ip saddr @seen {to_inner}'
            forward = f'oifname "{wan}" update @seen {{ ip daddr }}'
        case _:
            raise ValueError(f"unknown kind of NAT {kind!r}")
    # Unsolicited input is dropped: a stale conntrack entry of the router itself would block hole punching.
    return f"""table ip nat {{
        set seen {{ type ipv4_addr; flags dynamic,timeout; timeout 60s; }}
        chain before {{ type nat hook prerouting priority -100; {prerouting}; }}
        chain after {{ type nat hook postrouting priority 100; {postrouting}; }}
        chain passing {{ type filter hook forward priority 0; {forward}; }}
        chain arriving {{ type filter hook input priority 0; iifname "{wan}" ct state new drop; }}
    }}"""


def remove(namespace: Namespace, table: str, family: str = "inet") -> None:
    """Takes a table away, by the name that it has above."""
    namespace.run("nft", "delete", "table", family, table)


def _both_ways(table: str, *rules: str) -> str:
    body = "; ".join(rules)
    return f"""table inet {table} {{
        chain arriving {{ type filter hook input priority 0; {body}; }}
        chain leaving {{ type filter hook output priority 0; {body}; }}
    }}"""
