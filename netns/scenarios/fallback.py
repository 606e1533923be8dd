"""UDP blocked, then TCP too, then UDP free again: the Ethernet stays."""

import time

from netns import rules
from netns.checks import throughput
from netns.errors import require
from netns.lab import Lab
from netns.namespace import Interface
from netns.node import Node
from netns.probe import PingProbe
from netns.scenario import Figures, Scenario
from netns.topology import Pair, pair, side, start_pair
from netns.waiting import wait_for

TCP_PORT = 4511
STREAM_WITHIN_S = 3.0  # the row
WEBSOCKET_WITHIN_S = 15.0  # ours: a blackholed neighbour is noticed within 5 s, then it must be dialled again
UDP_AGAIN_WITHIN_S = 60.0  # ours: the upgrade is tried again and again, but not hastily
STEADY_S = 1.0


def run(lab: Lab, short: bool) -> Figures:
    nodes = pair(lab)
    start_pair(nodes, carrier="udp")
    watchers = [
        node.namespace.start(f"ip-monitor-{node.name}", "ip", "-o", "monitor", "link") for node in (nodes.a, nodes.b)
    ]
    before = interfaces(nodes)
    a, b = side(nodes.a), side(nodes.b)
    probe = PingProbe(a.namespace, b.ipv4)
    figures: Figures = {}

    def settled(since: float, within_s: float, what: str) -> float:
        """Waits until pings are answered steadily; returns the longest silence."""
        wait_for(lambda: steady(probe), within_s + STEADY_S, what, interval_s=0.02)
        silence = probe.longest_silence(since, time.monotonic())
        require(silence <= within_s, f"{what}: silent for {silence:.2f} s, more than {within_s:g}")
        return round(silence, 3)

    wait_for(lambda: steady(probe), 5, "pings are answered")
    with lab.report.step(f"UDP blocked: traffic goes on within {STREAM_WITHIN_S:g} s, over TCP"):
        since = time.monotonic()
        nodes.b.namespace.nft(rules.drop_udp())
        time.sleep(STEADY_S)
        figures["silence_udp_blocked_s"] = settled(since, STREAM_WITHIN_S, "UDP is blocked")
        nodes.a.wait_trunk(nodes.b, carrier="stream", transport="tcp")
        figures |= {
            f"stream_{key}": value for key, value in throughput.tcp(a, b, seconds=2).items() if key == "tcp_mbps"
        }
    with lab.report.step("TCP blocked too: traffic goes on over WebSocket"):
        since = time.monotonic()
        nodes.b.namespace.nft(rules.drop_tcp_port(TCP_PORT))
        time.sleep(STEADY_S)
        figures["silence_tcp_blocked_s"] = settled(since, WEBSOCKET_WITHIN_S, "TCP is blocked")
        nodes.a.wait_trunk(nodes.b, carrier="stream", transport="ws")
    with lab.report.step("UDP free again: back on udp, without a gap"):
        since = time.monotonic()
        rules.remove(nodes.b.namespace, "drop_udp")
        nodes.a.wait_trunk(nodes.b, carrier="udp", timeout_s=UDP_AGAIN_WITHIN_S)
        nodes.b.wait_trunk(nodes.a, carrier="udp", timeout_s=UDP_AGAIN_WITHIN_S)
        figures["back_on_udp_after_s"] = round(time.monotonic() - since, 1)
        figures["silence_back_on_udp_s"] = settled(since, STREAM_WITHIN_S, "UDP is free again")
    probe.stop()
    with lab.report.step("no interface went down or was made anew"):
        require(interfaces(nodes) == before, f"interfaces changed: {before} -> {interfaces(nodes)}")
        for watcher in watchers:
            seen = [line for line in watcher.text().splitlines() if side(nodes.a).interface in line]
            require(not any("DOWN" in line or "Deleted" in line for line in seen), f"{watcher.name}: {seen}")
    return figures


def steady(probe: PingProbe) -> bool:
    """The last second brought answers to nearly all pings."""
    now = time.monotonic()
    answered = sum(1 for at in probe.reply_at[-100:] if at > now - 1.0)
    return answered >= 0.7 / probe.interval_s


def interfaces(nodes: Pair) -> list[Interface]:
    def of(node: Node) -> Interface:
        return node.namespace.interface(side(node).interface)

    return [of(nodes.a), of(nodes.b)]


SCENARIO = Scenario(
    name="fallback",
    summary="UDP blocked: over TCP within 3 s; TCP too: over WebSocket; UDP free: back on udp; no TAP goes down",
    run=run,
    bound_s=180,
    short_bound_s=150,
)
