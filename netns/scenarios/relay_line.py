"""Two members that reach each other only through a relay, which learns nothing."""

import json

from netns.capture import Capture, find_clear_text
from netns.checks import everything, reach
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame
from netns.lab import Lab
from netns.node import Node
from netns.packets import BROADCAST
from netns.scenario import Figures, Scenario
from netns.topology import LABEL, Line, line, require_no_underlay_route, side, start_line
from netns.waiting import wait_for

MARKER = b"peertap-clear-text-mark!"  # 24 bytes, as long as every marker
MARKED_FRAMES = 50


def run(lab: Lab, short: bool) -> Figures:
    nodes = line(lab)
    require_no_underlay_route(nodes)
    captures = [Capture(nodes.relay.namespace, interface) for interface in ("ra", "rb")]  # from before the first Hello
    start_line(nodes, carrier="udp")
    a, b = side(nodes.a), side(nodes.b)
    figures: Figures = {}
    with lab.report.step("marked frames, pings and neighbour discovery, all captured on the relay's links"):
        send_marked(nodes)
        reach.ping(a, b, count=50)
        reach.neighbour_discovery(a, b)
        reach.large_broadcasts(a, b)
        needles = secrets_of(nodes)
        packets = [packet for capture in captures for packet in capture.stop()]
    with lab.report.step(f"no name, token, MAC or payload in clear among {len(packets)} packets"):
        require(len(packets) >= 4 * MARKED_FRAMES, f"only {len(packets)} packets were captured")
        found = find_clear_text(packets, needles)
        require(not found, f"in clear on the relay's links: {', '.join(found)}")
        figures |= {"captured_packets": len(packets), "searched_for": len(needles)}
    with lab.report.step("the relay holds no frame key"):
        figures["relay_frame_keys"] = relay_frame_keys(nodes.relay)
    with lab.report.step("peertap path: by the relay, which says its name, and why"):
        figures |= the_way(nodes)
    figures |= everything.functions(a, b)
    figures |= everything.volume(a, b, short=short)
    with lab.report.step("after all that: still no frame key, still on udp, still no underlay route"):
        relay_frame_keys(nodes.relay)
        nodes.a.wait_trunk(nodes.relay, carrier="udp", timeout_s=1)
        require_no_underlay_route(nodes)
    return figures


def relay_frame_keys(relay: Node) -> int:
    status = relay.status()
    require(status["vlans"] == [], f"the relay is a member of {status['vlans']}")
    require(status["frame_keys"] == 0, f"the relay holds {status['frame_keys']} frame keys")
    return int(status["frame_keys"])


def the_way(nodes: Line) -> Figures:
    """What `peertap path` says of the way to b."""
    steps = [json.loads(line) for line in nodes.a.command("path", nodes.b.peer_id, "--json").splitlines()]
    found = [(step["hop"], step["node"], step["end"]) for step in steps]
    names = [node.peer_id for node in (nodes.a, nodes.relay, nodes.b)]
    wanted = list(zip(range(3), names, ("passes", "passes", "member"), strict=True))
    require(found == wanted, f"the way is {found}, not {wanted}")
    require(steps[0]["carrier"] == steps[1]["carrier"] == "udp", f"the carriers of {steps}")
    require("no trunk to the member itself" in steps[0]["why"], f"why: {steps[0]['why']}")
    return {"path_rtt_ms": [round(1000 * step["rtt_s"], 1) for step in steps[1:]], "path_why": steps[0]["why"]}


def send_marked(nodes: Line) -> None:
    """Broadcasts and unicasts with a known payload; proves that they went through the relay."""
    a, b = side(nodes.a), side(nodes.b)
    listener, sender = Listener(b.namespace, b.interface), FrameSocket(a.namespace, a.interface)
    for _ in range(MARKED_FRAMES):
        sender.send(marked_frame(BROADCAST, a.mac, MARKER, 200))
        sender.send(marked_frame(b.mac, a.mac, MARKER, 200))
    wait_for(lambda: listener.count(MARKER) == 2 * MARKED_FRAMES, 5, "all marked frames arrive")
    sender.close()
    listener.stop()


def secrets_of(nodes: Line) -> dict[str, bytes]:
    """Everything that must not be readable on a wire, by name."""
    needles = {"payload marker": MARKER, "test frame's ethertype and marker": b"\x88\xb5" + MARKER[:6]}
    for node in (nodes.a, nodes.b):
        vlan = node.vlan(LABEL)
        needles |= {
            "VLAN-ID": bytes.fromhex(vlan["vlan_id"]),
            "VTag": bytes.fromhex(vlan["vtag"]),
            f"unicast token of {node.name}": bytes.fromhex(vlan["tokens"]["unicast"]),
            "group token": bytes.fromhex(vlan["tokens"]["group"]),
            f"MAC of {node.name}": side(node).mac,
        }
        require(len(needles["VLAN-ID"]) == 16, f"VLAN-ID {vlan['vlan_id']}")
    return needles


SCENARIO = Scenario(
    name="relay-line",
    summary="A - relay - B, no underlay route: all of `pair`; the relay has no key, its links show nothing in clear",
    run=run,
    bound_s=400,
    short_bound_s=150,
)
