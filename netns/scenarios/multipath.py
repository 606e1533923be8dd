"""Two members, two relays, three VLANs: frames go by the best way, flows are spread, or each frame takes both ways.

       r1                10.88.1.0/24 a ─ r1, 10.88.2.0/24 b ─ r1
a ──<      >── b         10.88.3.0/24 a ─ r2, 10.88.4.0/24 b ─ r2
       r2                nobody forwards IP; cables delay by 5 ms, each relay's to b carries 40 Mbit/s

The relay that `best` uses swallows frames to b, while it is alive in every other way; and a cable loses a fifth.
"""

import time
from itertools import pairwise, product
from typing import Any, Final

from netns import rules
from netns.checks import throughput
from netns.emulator import EmulatedLink, Impairment
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame
from netns.lab import Lab
from netns.node import Node, start_all
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.topology import member_vlan, side, wait_members
from netns.waiting import wait_for

BEST, SPREAD, TWICE = 0, 1, 2  # places of the VLANs
LABELS: Final = ("lab", "wide", "twin")
CABLE: Final = Impairment(delay_ms=5)
NARROW: Final = Impairment(delay_ms=5, rate_mbit=40)
FLOWS: Final = 16  # that all hash to one relay is one in 2^15
LEAST_SHARE = 0.25
LEAST_RATIO = 1.6  # both relays against one
ONE_FLOW_SHARE = 0.97  # iperf3's control connection is a flow of its own
LOSS_PERCENT = 20
MOST_LOST = 0.01
FRAMES: Final = 300
TARGETS: Final = 8  # addresses of b, so that pings are several flows
SWALLOWED_S = 5.0  # SPEC 7.1
MENDED_S = 20.0  # first try after 10 s
STAYS_S = 5.0
MARKERS: Final = [b"peertap-multipath-%06d" % number for number in range(FRAMES)]

# What goes on to b and is longer than a probe's reply (SPEC 2.2: 54 bytes, and 8 of UDP) is a frame.
SWALLOW: Final = """table inet swallow {
    chain leaving { type filter hook output priority 0; oifname "to-b" meta l4proto udp udp length > 63 counter drop; }
}"""


def run(lab: Lab, short: bool) -> Figures:
    a, b, relays = _mesh(lab)
    figures: Figures = _spread(a, b, relays, seconds=3.0 if short else 8.0)
    figures |= _swallowed(a, b, relays)
    figures |= _twice(a, b, relays[0])
    return figures


def _mesh(lab: Lab) -> tuple[Node, Node, list[Node]]:
    machines = {name: lab.namespace(name) for name in ("a", "b", "r1", "r2")}
    nodes = {name: Node(machine) for name, machine in machines.items()}
    peers: dict[str, dict[str, Node]] = {"a": {}, "b": {}}
    for number, (member, name) in enumerate((m, r) for r in ("r1", "r2") for m in ("a", "b")):
        network = f"10.88.{number + 1}"
        EmulatedLink(
            machines[member], f"to-{name}", f"{network}.1/24", machines[name], f"to-{member}", f"{network}.2/24",
            there=CABLE, back=NARROW if member == "b" else CABLE,
        )  # fmt: skip
        peers[member][f"{network}.2"] = nodes[name]
    a, b, relays = nodes["a"], nodes["b"], [nodes["r1"], nodes["r2"]]
    with lab.report.step("two members, two relays, three VLANs: best, spread, duplicate"):
        for relay in relays:
            relay.configure(relay_mode="open")
        for host, name in enumerate(("a", "b"), 1):
            vlans = tuple(
                member_vlan(lab, host, label=label, tap=f"ptap{number}", network=number + 1)
                for number, label in enumerate(LABELS)
            )
            nodes[name].configure(peers=peers[name], vlans=vlans, spread=(LABELS[SPREAD],), duplicate=(LABELS[TWICE],))
        start_all(*nodes.values())
        for label in LABELS:
            wait_members(a, b, label)
        for end, to in product((a, b), relays):
            end.wait_trunk(to, carrier="udp")
        for end, label in product((a, b), LABELS[SPREAD:]):
            wait_for(lambda end=end, label=label: len(_member(end, label)["ways"]) == 2, 40, f"{label}: two ways")  # type: ignore[misc]
    return a, b, relays


def _spread(a: Node, b: Node, relays: list[Node], seconds: float) -> Figures:
    step = a.lab.report.step
    with step(f"best: {FLOWS} TCP flows go by one relay at a time"):
        one_mbps = throughput.many_tcp(side(a, BEST), side(b, BEST), FLOWS, seconds)
    with step(f"spread: {FLOWS} TCP flows use both relays"):
        before = _from(a, relays)
        both_mbps = throughput.many_tcp(side(a, SPREAD), side(b, SPREAD), FLOWS, seconds)
        after = _from(a, relays)
        shares = _shares(before, after)
        require(min(shares) >= LEAST_SHARE, f"spread: shares of the relays {shares}")
    with step("spread: one flow stays on one relay"):
        before_one = _from(a, relays)
        throughput.many_tcp(side(a, SPREAD), side(b, SPREAD), 1, 1.0)
        by_flow = _shares(before_one, _from(a, relays))
        require(max(by_flow) >= ONE_FLOW_SHARE, f"one flow: shares of the relays {by_flow}")
    figures: Figures = {
        "one_relay_mbps": one_mbps, "both_relays_mbps": both_mbps, "spread_ratio": round(both_mbps / one_mbps, 2),
        "spread_bytes": [late - early for early, late in zip(before, after, strict=True)],
        "one_flow_shares": by_flow,
    }  # fmt: skip
    require(both_mbps >= LEAST_RATIO * one_mbps, f"both relays carry too little: {figures}")
    return figures


def _twice(a: Node, b: Node, lossy: Node) -> Figures:
    """Loss on one relay's cable costs no frame, and none comes twice."""
    step = a.lab.report.step
    near, far = side(a, TWICE), side(b, TWICE)
    with step(f"duplicate: {LOSS_PERCENT} % of what a's cable brings to {lossy.name} is lost"):
        replayed = b.drops().get("inner_replay", 0)
        lossy.namespace.nft(
            'table inet lose { chain arriving { type filter hook prerouting priority -300; iifname "to-a" '
            f"numgen random mod 100 < {LOSS_PERCENT} counter drop; }}; }}"
        )
        listener, sender = Listener(far.namespace, far.interface), FrameSocket(near.namespace, near.interface)
        destination, source = far.mac, near.mac
        probe = PingProbe(near.namespace, far.ipv4, 0.01)
        for marker in MARKERS:
            sender.send(marked_frame(destination, source, marker, 200))
            time.sleep(0.01)
        ended = time.monotonic()
        time.sleep(0.3)
        probe.stop()
        sender.close()
        listener.stop()
        sent = sum(at < ended for at in probe.sent_at)
        lost = 1 - sum(at < ended + 0.2 for at in probe.reply_at) / sent
        delivered, repeated = listener.heard(MARKERS), listener.repeated(MARKERS)
        dropped = _counted(lossy, "lose")
        rules.remove(lossy.namespace, "lose")
        second = b.drops().get("inner_replay", 0) - replayed
    figures: Figures = {
        "twice_lost": round(max(0.0, lost), 4), "twice_frames": [FRAMES, delivered, repeated],
        "twice_second_copies": second, "twice_lost_on_cable": dropped,
    }  # fmt: skip
    require(lost <= MOST_LOST and delivered >= (1 - MOST_LOST) * FRAMES, f"frames are lost: {figures}")
    require(len(probe.reply_at) <= len(probe.sent_at) and repeated == 0, f"frames came twice: {figures}")
    require(second >= FRAMES // 2 and dropped >= FRAMES // 10, f"not each frame went twice: {figures}")
    return figures


def _swallowed(a: Node, b: Node, relays: list[Node]) -> Figures:
    step = a.lab.report.step
    far = side(b, SPREAD)
    targets = [f"10.99.{SPREAD + 1}.{100 + number}" for number in range(TARGETS)]
    for target in targets:
        far.namespace.address(f"{target}/32", far.interface)
    used = wait_for(lambda: _relay_in_use(a, relays), 10, "a way")
    other = next(relay for relay in relays if relay is not used)
    probes = [PingProbe(a.namespace, target) for target in (side(b, BEST).ipv4, *targets)]
    time.sleep(1.0)
    with step(f"{used.name} swallows frames to b: both VLANs go by {other.name}"):
        used.namespace.nft(SWALLOW)
        began = time.monotonic()
        for probe in probes:
            probe.wait_for_reply(began + 0.2, SWALLOWED_S + 3, f"pings to {probe.target}")
        for label in (LABELS[BEST], LABELS[SPREAD]):
            wait_for(lambda label=label: _named(a, label) == [used.peer_id], SWALLOWED_S + 3, f"{label}: it is named")  # type: ignore[misc]
        silences = [round(probe.longest_silence(began, time.monotonic()), 2) for probe in probes]
        hit = [silence for silence in silences if silence > 0.5]
        require(max(silences) <= SWALLOWED_S, f"silences {silences}")
        require(silences[0] in hit and len(hit) >= 2, f"nothing was swallowed: {silences}")
        a.wait_trunk(used, carrier="udp", timeout_s=1)  # alive all the while
        text = a.command("status")
        require("swallows frames to" in text, f"status does not say so: {text}")
        require("swallows frames" in a.log(), "the log does not say so")
        swallowed = _counted(used, "swallow")
    with step(f"{used.name} is mended: flows use it again, and stay"):
        rules.remove(used.namespace, "swallow")
        mended = time.monotonic()
        wait_for(lambda: len(_member(a, LABELS[SPREAD])["ways"]) == 2, MENDED_S, "both ways", interval_s=0.1)
        back_s = round(time.monotonic() - mended, 1)
        before, since = _from(a, relays), time.monotonic()
        seen = []
        while time.monotonic() < since + STAYS_S:
            require(not _named(a, LABELS[SPREAD]), f"{used.name} is named again")
            seen.append(frozenset(_member(a, LABELS[SPREAD])["ways"]))
            time.sleep(0.5)
        changes = sum(one != other for one, other in pairwise(seen))
        require(changes <= 2 and len(seen[-1]) == 2, f"it flaps: {seen}")  # a trunk may be replaced meanwhile
        shares = _shares(before, _from(a, relays))
        require(min(shares) > 0.05, f"flows do not use it again: {shares}")
        longest = round(max(probe.longest_silence(since, time.monotonic()) for probe in probes), 2)
    for probe in probes:
        probe.stop()
    return {
        "swallowed_silences_s": silences, "swallowed_packets": swallowed, "mended_after_s": back_s,
        "mended_shares": shares, "mended_changes": changes, "longest_silence_after_s": longest,
    }  # fmt: skip


def _member(a: Node, label: str) -> dict[str, Any]:
    vlans = {vlan["label"]: vlan for vlan in a.ask("status")["vlans"]}
    (member,) = vlans[label]["members"]
    return dict(member)


def _named(a: Node, label: str) -> list[str]:
    """The relays that swallow frames, as a's status has them."""
    return [one["peer_id"] for one in _member(a, label)["swallowed_by"]]


def _relay_in_use(a: Node, relays: list[Node]) -> Node | None:
    hop = _member(a, LABELS[BEST])["next_hop"]
    return next((relay for relay in relays if relay.peer_id == hop), None)


def _from(a: Node, relays: list[Node]) -> list[int]:
    """Bytes that came by each relay's cable from a: a trunk may be replaced meanwhile."""
    links = [relay.namespace.ip_json("-s", "link", "show", "dev", f"to-{a.name}")[0] for relay in relays]
    return [int(link["stats64"]["rx"]["bytes"]) for link in links]


def _shares(before: list[int], after: list[int]) -> list[float]:
    grown = [late - early for early, late in zip(before, after, strict=True)]
    return [round(one / max(1, sum(grown)), 3) for one in grown]


def _counted(node: Node, table: str) -> int:
    """Packets that the one rule of a table dropped."""
    listed = node.namespace.run("nft", "list", "table", "inet", table).split()
    return int(listed[listed.index("packets") + 1])


SCENARIO = Scenario(
    name="multipath",
    summary="two relays: flows spread (1.6 times one), frames doubled (20 % loss costs none), one that swallows: 5 s",
    run=run,
    bound_s=120,
    short_bound_s=110,
    needs_emulator=True,
)
