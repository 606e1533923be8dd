"""The lab's own link emulator does what it is told."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from netns import emulator
from netns.emulator import EmulatedLink, Impairment
from netns.errors import require
from netns.frames import FrameSocket, Listener, marked_frame, new_marker
from netns.lab import Lab
from netns.namespace import Namespace
from netns.packets import BROADCAST
from netns.scenario import Figures, Scenario
from netns.waiting import wait_for

SOURCE_MAC = bytes.fromhex("020000000001")


@contextmanager
def emulated(
    a: Namespace, b: Namespace, there: Impairment, seed: int = 1
) -> Iterator[tuple[FrameSocket, Listener, EmulatedLink]]:
    """A link with a sender at a and a listener at b; nothing else speaks on it."""
    link = EmulatedLink(a, "ea", None, b, "eb", None, there=there, seed=seed)
    sender, listener = FrameSocket(a, "ea"), Listener(b, "eb")
    try:
        yield sender, listener, link
    finally:
        listener.stop()
        sender.close()
        link.stop()


def send(sender: FrameSocket, count: int, gap_s: float, length: int = 200) -> dict[bytes, float]:
    """Sends marked frames; returns when each left."""
    sent: dict[bytes, float] = {}
    for _ in range(count):
        marker = new_marker()
        frame = marked_frame(BROADCAST, SOURCE_MAC, marker, length)
        sent[marker] = time.monotonic()
        sender.send(frame)
        if gap_s:
            time.sleep(gap_s)
    return sent


def quiet(listener: Listener) -> None:
    """Waits until nothing has arrived for 0.3 s."""
    seen = -1
    while seen != listener.test_frames:
        seen = listener.test_frames
        time.sleep(0.3)


def delays(a: Namespace, b: Namespace, there: Impairment, count: int) -> list[float]:
    with emulated(a, b, there) as (sender, listener, _):
        sent = send(sender, count, 0.002)
        quiet(listener)
        require(list(sent) == listener.order, "frames were lost or changed their order")
        return sorted((listener.first_at[marker] - at) * 1000 for marker, at in sent.items())


def run(lab: Lab, short: bool) -> Figures:
    a, b = lab.namespace("a"), lab.namespace("b")
    for machine in (a, b):
        machine.sysctl("net.ipv6.conf.default.disable_ipv6", "1")  # no router solicitations: every draw is ours
    figures: Figures = {}
    count = 300 if short else 1000
    step = lab.report.step

    with step("delay: the median within 1 ms of the setting, the order kept"):
        for wanted in (0.0, 5.0, 50.0):
            found = statistics.median(delays(a, b, Impairment(delay_ms=wanted), count))
            figures[f"delay_{wanted:g}_ms_median"] = round(found, 3)
            require(wanted <= found <= wanted + 1.0, f"delay {wanted:g} ms: median {found:.3f} ms")
    with step("jitter: within its bounds, the order kept"):
        found_all = delays(a, b, Impairment(delay_ms=20, jitter_ms=5), count)
        # The slowest twentieth is left out: a processor that others use delays some by a tick of 4 ms.
        low, high = found_all[0], found_all[len(found_all) * 95 // 100]
        figures["jitter_20_5_ms"] = [round(low, 2), round(high, 2)]
        require(15.0 <= low < 18.0 and 21.0 < high <= 26.0, f"delay 20 ± 5 ms: {low:.2f} to {high:.2f} ms")
    with step("loss, duplication and reordering: near their probability"):
        frames = 5000 if short else 20_000
        with emulated(a, b, Impairment(loss_percent=5, duplicate_percent=3, reorder_percent=2)) as (
            sender,
            listener,
            _,
        ):
            sent = list(send(sender, frames, 0.00005))
            quiet(listener)
            lost = 100 * (1 - listener.heard(sent) / frames)
            doubled = 100 * listener.repeated(sent) / listener.heard(sent)
            place = {marker: number for number, marker in enumerate(sent)}
            numbers = [place[marker] for marker in listener.order]
            overtaken = 100 * sum(1 for x, y in pairwise(numbers) if y < x) / len(numbers)
        figures |= {
            "loss_5_percent": round(lost, 2),
            "duplicate_3_percent": round(doubled, 2),
            "reorder_2_percent": round(overtaken, 2),
        }
        # Four standard deviations of a binomial of `frames` draws; a reordering that meets another counts once.
        require(abs(lost - 5) < 400 * (0.05 * 0.95 / frames) ** 0.5, f"loss 5 %: {lost:.2f} %")
        require(abs(doubled - 3) < 400 * (0.03 * 0.97 / frames) ** 0.5, f"duplication 3 %: {doubled:.2f} %")
        require(1.0 < overtaken < 3.0, f"reordering 2 %: {overtaken:.2f} %")
    with step("rate: 10 Mbit/s is 10 Mbit/s"):
        with emulated(a, b, Impairment(rate_mbit=10, queue_ms=5000)) as (sender, listener, _):
            sent_at = send(sender, 500, 0, length=1500)
            wait_for(lambda: listener.heard(list(sent_at)) == 500, 10, "all frames arrive")
            took = max(listener.first_at.values()) - min(listener.first_at.values())
        figures["rate_10_mbit"] = rate = round(499 * 1500 * 8 / took / 1e6, 2)
        require(9.7 < rate < 10.3, f"rate 10 Mbit/s: {rate} Mbit/s")
    with step("the same seed loses the same frames, another seed others"):
        patterns = [losses(a, b, seed) for seed in (7, 7, 8)]
        require(patterns[0] == patterns[1], "seed 7 lost different frames twice")
        require(patterns[0] != patterns[2], "seeds 7 and 8 lost the same frames")
    with step("its own ceiling"):
        for row in emulator.ceiling():
            figures[f"ceiling_{row['frame_bytes']}_bytes"] = (
                f"{row['frames_per_s']} frames/s, {row['mbit_per_s']} Mbit/s"
            )
    return figures


def losses(a: Namespace, b: Namespace, seed: int) -> list[bool]:
    with emulated(a, b, Impairment(loss_percent=10), seed) as (sender, listener, _):
        sent = list(send(sender, 1000, 0.0001))
        quiet(listener)
        return [listener.count(marker) == 0 for marker in sent]


SCENARIO = Scenario(
    name="emulator",
    summary="the lab's link emulator: delay, jitter, loss, duplication, reordering, rate, seed; and its ceiling",
    run=run,
    bound_s=120,
    short_bound_s=60,
    needs_emulator=True,
)
