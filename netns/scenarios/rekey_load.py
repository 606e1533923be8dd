"""Keys change all the time under full load, those of the VLAN and those of the trunk: no frame is lost to that."""

import json
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from netns import clubs
from netns.checks import throughput
from netns.errors import require
from netns.lab import Lab
from netns.node import grown
from netns.scenario import Figures, Scenario

CHANGES: Final = 20  # the row: of each kind
DIP: Final = 0.05  # the row
WINDOW_S: Final = 5.5  # quiet and busy ones take turns, so that the machine's moods touch both; a trunk rests 10 s
LOST_TO_KEYS: Final = (
    "unknown_index", "hop_auth", "unknown_kid", "inner_auth", "hold_expired", "hold_full", "no_carrier", "no_route",
    "key_exhausted", "unknown_label", "hop_replay", "inner_replay", "forged", "verify_full", "revoked", "wrong_carrier",
)  # fmt: skip


def run(lab: Lab, short: bool) -> Figures:
    with lab.report.step("two members, and one TCP stream as fast as it goes"):
        a, b = clubs.founded(lab, 2)
        b.wait_trunk(a, carrier="udp")
        a.wait_trunk(b, carrier="udp")
    busy = changes = 2 if short else CHANGES
    seconds = WINDOW_S * (2 * busy + 1)
    before = {node.name: node.drops() for node in (a, b)}
    first_epoch = clubs.members(a)["epoch"]
    done = {"rotate": 0, "rekey": 0}
    with lab.report.step(f"{changes} epochs and {changes} trunk rekeys, in windows between quiet ones"):
        server = throughput.start_iperf_server(clubs.side(b))
        client = a.namespace.start(
            "iperf3-client", "iperf3", "-c", clubs.side(b).ipv4, "-C", "cubic", "-t", f"{seconds:g}", "-i", "0.5", "-J"
        )
        time.sleep(WINDOW_S)
        began = time.monotonic()
        stop = threading.Event()

        def change(what: Callable[[], object], name: str, phase: float) -> None:
            for window in range(busy):
                due = began + WINDOW_S * (2 * window) + phase
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                what()
                done[name] += 1

        threads = [
            threading.Thread(
                target=change, args=(lambda: clubs.ask(a, "vlan rotate", label=clubs.LABEL), "rotate", 0.2)
            ),
            threading.Thread(target=change, args=(lambda: [clubs.ask(node, "rekey") for node in (a, b)], "rekey", 0.6)),
        ]
        for thread in threads:
            thread.start()
        lab.at_end(stop.set)
        client.wait(seconds + 30)
        for thread in threads:
            thread.join()
        server.stop()
    intervals = json.loads(client.text())["intervals"]
    quiet, loaded = _windows(intervals, busy)
    lost = {node.name: grown(before[node.name], node.drops()) for node in (a, b)}
    to_keys = {
        name: {reason: drops[reason] for reason in drops if reason in LOST_TO_KEYS} for name, drops in lost.items()
    }
    epoch = clubs.agree(a, b)
    ratio = statistics.mean(loaded) / statistics.mean(quiet)
    figures: Figures = {
        "epochs": epoch - first_epoch,
        "trunk_rekeys": done["rekey"],
        "trunk_epoch": a.trunk(b)["epoch"],
        "lost_to_keys": to_keys,
        "other_drops": lost,
        "quiet_mbps": round(statistics.mean(quiet)),
        "loaded_mbps": round(statistics.mean(loaded)),
        "ratio": round(ratio, 3),
    }
    require(epoch - first_epoch >= changes, f"too few epochs: {figures}")
    require(figures["trunk_epoch"] >= changes, f"too few rekeys: {figures}")  # type: ignore[operator]
    require(not any(to_keys.values()), f"frames were lost to keys: {figures}")
    require(ratio >= 1 - DIP or short, f"the throughput fell by more than {DIP:.0%}: {figures}")
    return figures


def _windows(intervals: list[dict[str, Any]], busy: int) -> tuple[list[float], list[float]]:
    """Mbit/s of half seconds in quiet and in busy windows; a quiet one comes first, its beginning is left out."""
    quiet: list[float] = []
    loaded: list[float] = []
    for one in intervals:
        middle = (one["sum"]["start"] + one["sum"]["end"]) / 2
        window = int(middle // WINDOW_S)
        if window > 2 * busy or middle < 1.5:
            continue
        (loaded if window % 2 == 1 else quiet).append(one["sum"]["bits_per_second"] / 1e6)
    return quiet, loaded


SCENARIO = Scenario(
    name="rekey-load",
    summary="20 epochs and 20 trunk rekeys under full TCP load: no frame lost to keys, throughput within 5 %",
    run=run,
    bound_s=360,
    short_bound_s=150,
)
