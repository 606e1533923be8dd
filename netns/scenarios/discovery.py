"""Nodes that know no address, or only old ones, find their network: on the LAN, by the rendezvous, from the cache.

lan          n1 … n6                      on a switch    10.87.0.N
internet     a b (members) d (serves)      on a router    10.88.N.2, the router is 10.88.N.1
"""

import json
import time
from dataclasses import dataclass

from netns import clubs, links, rules
from netns.capture import Capture
from netns.checks.side import Side
from netns.errors import require
from netns.lab import Lab
from netns.namespace import Namespace
from netns.node import Node, start_all
from netns.nodeconfig import peer_address
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.topology import LABEL, member_vlan, side
from netns.waiting import wait_for
from peertap.identity.node import parse_peer_id

LAN_S = 5.0  # the row: members on one LAN find each other
HEAL_S = 3.0  # the row: the first trunk after a partition
FIND_S = 10.0  # ours: by the rendezvous, from the start of the process
PARTITION_S = 60.0
SHORT_PARTITION_S = 8.0


@dataclass(frozen=True, slots=True)
class Internet:
    """Networks behind one router."""

    router: Namespace
    machines: dict[str, Namespace]

    def ip(self, name: str) -> str:
        return f"10.88.{list(self.machines).index(name) + 1}.2"

    def move(self, name: str) -> str:
        """The machine gets another address in its network; the old one is gone."""
        number = list(self.machines).index(name) + 1
        machine = self.machines[name]
        move(machine, f"10.88.{number}.3/24")
        machine.route("default", f"10.88.{number}.1")
        return f"10.88.{number}.3"


def internet(lab: Lab, *names: str) -> Internet:
    router = lab.namespace("router")
    router.sysctl("net.ipv4.ip_forward", "1")
    machines = {}
    for number, name in enumerate(names, 1):
        machine = machines[name] = lab.namespace(name)
        links.veth(router, f"r{number}", f"10.88.{number}.1/24", machine, "up0", f"10.88.{number}.2/24")
        machine.route("default", f"10.88.{number}.1")
    return Internet(router, machines)


def first_ping(a: Side, b: Side, began: float, within_s: float, what: str) -> float:
    """When the first ping through the VLAN was answered, seconds after `began`."""
    probe = PingProbe(a.namespace, b.ipv4, interface=a.interface)
    answered = probe.wait_for_reply(began, max(0.1, began + within_s - time.monotonic()), what)
    probe.stop()
    return round(answered - began, 2)


def trunk_after(node: Node, peer: Node, began: float, within_s: float, what: str) -> float:
    """When the trunk was there, seconds after `began`; looked for in the log, which costs the nodes nothing."""
    wanted, before = f"peer={peer.peer_id}", node.log().count("trunk up")

    def there() -> float | None:
        lines = [line for line in node.log().splitlines() if "trunk up" in line]
        fresh = [line for line in lines[before:] if wanted in line or peer.peer_id in line]
        return time.monotonic() if fresh else None

    return round(wait_for(there, max(0.1, began + within_s - time.monotonic()), what, interval_s=0.02) - began, 2)


def lan(lab: Lab, count: int) -> list[Node]:
    """Machines on one switch, each with a node that uses multicast DNS; none is started."""
    switch, nodes = lab.namespace("switch"), []
    for number in range(1, count + 1):
        machine = lab.namespace(f"n{number}")
        links.veth(switch, f"s{number}", None, machine, "up0", f"10.87.0.{number}/24")
        nodes.append(Node(machine).configure(mdns=True))
    links.bridge(switch, "br0", [f"s{number}" for number in range(1, count + 1)])
    return nodes


def members_on_the_lan(lab: Lab, one: Node, two: Node, stranger: Node) -> Figures:
    one.configure(vlans=(member_vlan(lab, 1),))
    two.configure(vlans=(member_vlan(lab, 2),))
    stranger.configure(vlans=(member_vlan(lab, 3, label="other"),))
    with lab.report.step("two members and a stranger on one LAN; nobody knows an address"):
        capture = Capture(stranger.namespace, "up0")
        start_all(one, stranger)
        two.start()
        began = two.wait_ready()
        found_s = first_ping(side(two), side(one), began, LAN_S, "the two members find each other")
    with lab.report.step("the stranger was not linked to, and its capture says nothing"):
        require(stranger.status()["trunks"] == [], "a member linked to a stranger")
        packets = [packet for packet in capture.stop() if b"_peertap" in packet.data]
        require(len(packets) > 0, "the stranger saw no announcement: the check means nothing")
        vlan_id = bytes.fromhex(one.vlan(LABEL)["vlan_id"])
        needles = {"VLAN-ID": vlan_id, "VLAN-ID in hexadecimal": vlan_id.hex().encode()}
        for node in (one, two):
            needles[f"peer ID of {node.name}"] = node.peer_id.encode()
            needles[f"public key of {node.name}"] = parse_peer_id(node.peer_id)[-32:]
        seen = [name for name, needle in needles.items() if any(needle in packet.data for packet in packets)]
        require(not seen, f"an announcement shows {seen}")
    for node in (one, two, stranger):
        node.terminate()
    return {"lan_found_s": found_s, "lan_announcements": len(packets)}


def with_an_invite(lab: Lab, inviter: Node, second: Node, third: Node) -> Figures:
    nodes = (inviter, second, third)
    with lab.report.step("an invite whose address is wrong by now: the inviter is found on the LAN"):
        start_all(*nodes)
        clubs.create(inviter)
        lines = [clubs.invite(inviter), clubs.invite(inviter)]
        move(inviter.namespace, "10.87.0.101/24")
        joined_s = clubs.join(second, lines[0])
        clubs.join(third, lines[1])
        clubs.agree(*nodes)
    with lab.report.step("the inviter is gone for ever, another member has moved: `up` finds the network"):
        for node in nodes:
            node.terminate()
        move(second.namespace, "10.87.0.102/24")
        second.start()
        second.wait_ready()
        third.start()
        began = third.wait_ready()
        found_s = first_ping(clubs.side(third), clubs.side(second), began, LAN_S, "the members find each other")
    for node in (second, third):
        node.terminate()
    return {"joined_by_lan_s": round(joined_s, 2), "without_inviter_s": found_s}


def move(machine: Namespace, address: str) -> None:
    """The machine has another address from now on."""
    machine.run("ip", "address", "flush", "dev", "up0", "scope", "global")
    machine.address(address, "up0")


def run(lab: Lab, short: bool) -> Figures:
    nodes = lan(lab, 6)
    figures = members_on_the_lan(lab, *nodes[:3])
    figures |= with_an_invite(lab, *nodes[3:])
    net = internet(lab, "a", "b", "d")
    a, b, d = (Node(machine) for machine in net.machines.values())
    a.configure(vlans=(member_vlan(lab, 1),), dht="client", bootstrap=(peer_address(net.ip("d"), d.peer_id),))
    b.configure(vlans=(member_vlan(lab, 2),), dht="client", bootstrap=(peer_address(net.ip("d"), d.peer_id),))
    d.configure(vlans=(member_vlan(lab, 9, label="other"),), dht="server")
    with lab.report.step("two members in different networks, and a node that serves both: they find each other"):
        start_all(d, a)
        b.start()
        began = b.wait_ready()
        figures["rendezvous_found_s"] = first_ping(side(b), side(a), began, FIND_S, "the members find each other")
        require(a.trunk(b)["state"] == "up", "there is no trunk between them")
    with lab.report.step("the node that serves knows neither the VLAN nor who its members are"):
        kept = d.status()["discovery"]["records"]
        require(kept >= 2, f"{kept} records are kept")
        require(not [one for one in d.status()["vlans"] if one["label"] == LABEL], "it is in the VLAN")
    figures |= {"records_kept": kept}
    with lab.report.step("the underlay is cut for a while; the first trunk after it"):
        before = time.monotonic()
        net.router.nft(rules.forward_nothing())
        wait_for(lambda: not [one for one in a.status()["trunks"] if one["state"] == "up"], 30, "the trunk is given up")
        time.sleep(max(0.0, (SHORT_PARTITION_S if short else PARTITION_S) - (time.monotonic() - before)))
        healed = time.monotonic()
        rules.remove(net.router, "cut")
        figures["healed_s"] = trunk_after(a, b, healed, HEAL_S, "there is a trunk again")
    with lab.report.step("a member restarts with no address in its configuration: the cache has one"):
        b.terminate()
        cache = b.config.state_directory / "peers.cache"
        remembered = [one for peer in json.loads(cache.read_text())["peers"] for one in peer["addresses"]]
        require(any(a.peer_id in one for one in remembered), f"the neighbour is not in the cache: {remembered}")
        require(cache.stat().st_mode & 0o777 == 0o600, "others can read the cache")
        b.configure(bootstrap=())  # no address at all in its configuration
        b.start()
        began = b.wait_ready()
        figures["cache_found_s"] = first_ping(side(b), side(a), began, FIND_S, "the cache leads to the neighbour")
    with lab.report.step("both restart, and the one that was remembered has another address: the rendezvous knows it"):
        b.terminate()
        a.terminate()
        moved = net.move("a")
        a.start()
        a.wait_ready()
        b.start()
        began = b.wait_ready()
        figures["moved_found_s"] = first_ping(side(b), side(a), began, 3 * FIND_S, f"the neighbour is found at {moved}")
    with lab.report.step("a damaged cache is ignored with a warning"):
        b.terminate()
        cache.write_bytes(cache.read_bytes()[:-40])
        b.start()
        b.wait_ready()
        wait_for(lambda: "cached peers ignored" in b.log(), 5, "it says so")
    return figures


SCENARIO = Scenario(
    name="discovery",
    summary="members without addresses find each other: on the LAN, by the rendezvous, from the cache; after a cut",
    run=run,
    bound_s=240,
    short_bound_s=150,
)
