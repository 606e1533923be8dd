"""Two VLANs on the same nodes and relay, and a stranger: nothing crosses, nobody speaks as another.

a (red, blue) ── r ── b (red, blue)
                 │
                 c (a VLAN that is also labelled "red", with another secret)
"""

import time
from dataclasses import dataclass, replace

from netns import adversary, links
from netns.checks import reach
from netns.checks.side import Side
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame, new_marker
from netns.identity import create_secret
from netns.lab import Lab
from netns.node import Node, grown, start_all
from netns.packets import BROADCAST
from netns.scenario import Figures, Scenario
from netns.topology import R_TO_A_IP, R_TO_B_IP, line, member_vlan, require_no_underlay_route, side, wait_members
from netns.waiting import wait_for

R_TO_C_IP = "10.81.3.254"
MULTICAST_MAC = bytes.fromhex("01005e4d4d4d")
SILENCE_S = 0.5  # long after anything that could arrive has arrived


@dataclass(frozen=True, slots=True)
class Network:
    """Who is where: the TAPs by VLAN."""

    a: Node
    b: Node
    c: Node
    relay: Node
    red_a: Side
    red_b: Side
    blue_a: Side
    blue_b: Side
    stranger: Side

    @property
    def sides(self) -> dict[str, Side]:
        return {
            "red a": self.red_a,
            "red b": self.red_b,
            "blue a": self.blue_a,
            "blue b": self.blue_b,
            "c": self.stranger,
        }


def build(lab: Lab) -> Network:
    nodes = line(lab)
    c_machine = lab.namespace("c")
    links.veth(c_machine, "uc", "10.81.3.3/24", nodes.relay.namespace, "rc", f"{R_TO_C_IP}/24")
    c = Node(c_machine)
    for node, host, relay_ip in ((nodes.a, 1, R_TO_A_IP), (nodes.b, 2, R_TO_B_IP)):
        red = member_vlan(lab, host, label="red", tap="red", network=1)
        blue = member_vlan(lab, host, label="blue", tap="blue", network=2)
        node.configure(peers={relay_ip: nodes.relay}, vlans=(red, blue))
    wrong = create_secret(lab.path("secret-wrong"), "red")
    c.configure(
        peers={R_TO_C_IP: nodes.relay},
        vlans=(replace(member_vlan(lab, 3, label="red", tap="red", network=1), secret_file=wrong),),
    )
    require_no_underlay_route(nodes)
    with lab.report.step("two members of red and blue, a relay of neither, a stranger with a wrong key"):
        start_all(nodes.relay, nodes.a, nodes.b, c)
        wait_members(nodes.a, nodes.b, "red")
        wait_members(nodes.a, nodes.b, "blue")
        c.wait_trunk(nodes.relay)
    return Network(
        nodes.a,
        nodes.b,
        c,
        nodes.relay,
        side(nodes.a, 0),
        side(nodes.b, 0),
        side(nodes.a, 1),
        side(nodes.b, 1),
        side(c),
    )


def run(lab: Lab, short: bool) -> Figures:
    network = build(lab)
    step = lab.report.step
    figures: Figures = {}
    listeners = {name: Listener(place.namespace, place.interface) for name, place in network.sides.items()}

    def heard_by(marker: bytes, among: float = SILENCE_S) -> dict[str, int]:
        time.sleep(among)
        return {name: listener.count(marker) for name, listener in listeners.items() if listener.count(marker)}

    def send(place: Side, destination: bytes, source: bytes) -> bytes:
        marker = new_marker()
        sender = FrameSocket(place.namespace, place.interface)
        sender.send(marked_frame(destination, source, marker))
        sender.close()
        return marker

    with step("broadcast, multicast and unicast of a VLAN reach its other member once, and nobody else"):
        for name, from_side, to_side in (
            ("red b", network.red_a, network.red_b), ("blue b", network.blue_a, network.blue_b),
            ("red a", network.red_b, network.red_a), ("blue a", network.blue_b, network.blue_a),
        ):  # fmt: skip
            for destination in (BROADCAST, MULTICAST_MAC, to_side.mac):
                heard = heard_by(send(from_side, destination, from_side.mac))
                require(heard == {name: 1}, f"a frame from {from_side} to {destination.hex(':')} was heard by {heard}")
    with step("a MAC of the other VLAN is not reachable by this one"):
        heard = heard_by(send(network.blue_a, network.red_b.mac, network.blue_a.mac))
        require(not heard, f"sent on blue to the red MAC of b, heard by {heard}")
    with step("a spoofed source MAC is dropped and counted"):
        spoofed = {
            "red b's on red": (network.red_a, network.red_b.mac),
            "red a's on blue": (network.blue_a, network.red_a.mac),
            "an invented one": (network.red_a, bytes.fromhex("02deadbeef01")),
        }
        for name, (place, source) in spoofed.items():
            before = network.a.drops()
            heard = heard_by(send(place, BROADCAST, source))
            counted = grown(before, network.a.drops())
            require(not heard, f"source MAC {name}: heard by {heard}")
            require(bool(counted), f"source MAC {name}: no drop was counted")
            figures[f"drops: source MAC {name}"] = counted
    with step("a node with a wrong key hears nothing and injects nothing"):
        for destination in (BROADCAST, MULTICAST_MAC, network.red_a.mac):
            heard = heard_by(send(network.stranger, destination, network.stranger.mac))
            require(not heard, f"the stranger's frame to {destination.hex(':')} was heard by {heard}")
        require(listeners["c"].test_frames == 0, f"the stranger heard {listeners['c'].test_frames} frames")
        for node in (network.a, network.b):
            members = [member["peer_id"] for member in node.vlan("red")["members"]]
            require(network.c.peer_id not in members, f"{node.name} takes the stranger for a member: {members}")
        status, _, _ = network.stranger.namespace.try_run("ping", "-nqc2", "-i0.2", "-W1", network.red_a.ipv4)
        require(status != 0, "the stranger pings a member")
    with step("a group frame forged in another member's name: dropped, counted with its trunk, silences nobody"):
        figures["forged"] = forged_group_frame(network, listeners["red b"])
    with step("after all that: both VLANs work"):
        reach.ping(network.red_a, network.red_b, count=50)
        reach.ping(network.blue_a, network.blue_b, count=50)
    return figures


def forged_group_frame(network: Network, red_b: Listener) -> object:
    """A member of red (it has red's secret) at c's machine sends group frames to b as if a had sent them."""
    before = network.b.vlan("red")["forged"]
    network.c.terminate()
    marker = new_marker()
    sent = adversary.send_forged_group_frame(
        machine=network.c.namespace,
        relay_address=R_TO_C_IP,
        relay_peer_id=network.relay.peer_id,
        state_directory=network.c.config.state_directory,
        secret_file=network.a.config.vlans[0].secret_file,
        victim_peer_id=network.a.peer_id,
        frame=marked_frame(BROADCAST, network.red_a.mac, marker),
    )

    def counted() -> object:
        after = network.b.vlan("red")["forged"]
        return after if after != before else None

    require(sent > 0, "the adversary sent nothing")
    seen = wait_for(counted, 10, f"b counts the forged frame (before: {before})", interval_s=0.2)
    time.sleep(SILENCE_S)
    require(red_b.count(marker) == 0, "the forged frame was delivered")
    genuine = new_marker()
    sender = FrameSocket(network.red_a.namespace, network.red_a.interface)
    sender.send(marked_frame(BROADCAST, network.red_a.mac, genuine))
    sender.close()
    wait_for(lambda: red_b.count(genuine) == 1, 3, "a's own broadcasts still arrive: the forgery silenced nobody")
    return seen


SCENARIO = Scenario(
    name="isolation",
    summary="two VLANs, the same nodes and relay: nothing crosses; a wrong key hears nothing; no forged frame passes",
    run=run,
    bound_s=180,
    short_bound_s=150,
)
