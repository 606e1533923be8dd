"""`python -m tools.bench membership`: what a change of members costs in groups of 2 to 1,000, in time and bytes.

A fresh tree is one whose creator added everybody at once: its inner nodes are blank. A full one is that after every
member has made a commit. Members who only count are not kept: a newcomer joins, commits once, and is forgotten.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peertap._core import MlsGroup, MlsMember, MlsSigner, mls_credential_message

SIZES: Final = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
SUITES: Final = {"hybrid": 0xF1A1, "classical": 1}
TRIES: Final = 5
VLAN_ID: Final = bytes(range(16))
NOW: Final = 1_800_000_000
NOT_AFTER: Final = NOW + 365 * 86_400
COPIES: Final = 8  # of a member, to see what one takes
GROWTH: Final = """
import sys
from peertap._core import MlsGroup
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
record, copies = sys.stdin.buffer.read(), int(sys.argv[1])
kept = [MlsGroup.restore(record)]
before = resident()
kept += [MlsGroup.restore(record) for _ in range(copies)]
print((resident() - before) // copies)
"""


class Stopwatch:
    """Medians of what is done under each name, in milliseconds."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._times.setdefault(what, []).append((time.perf_counter() - began) * 1000)

    def median(self, what: str) -> float:
        return round(statistics.median(self._times[what]), 3)


@dataclass(frozen=True, slots=True)
class Row:
    """One suite, size and state of the tree. Times are medians in milliseconds, sizes are bytes."""

    suite: str
    members: int
    tree: str
    add_ms: float
    join_ms: float
    process_ms: float
    remove_ms: float
    update_ms: float
    add_bytes: int
    welcome_bytes: int
    remove_bytes: int
    update_bytes: int
    record_bytes: int
    memory_bytes: int


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench membership", description=__doc__)
    parser.add_argument("--sizes", metavar="N,N", type=_sizes, default=SIZES, help="members (default 2 to 1000)")
    parser.add_argument("--json", action="store_true", help="the last line of stdout is one JSON object")
    options = parser.parse_args(arguments)
    rows = []
    for name, suite in SUITES.items():
        for members in options.sizes:
            began = time.monotonic()
            rows += _measure(name, suite, members)
            print(f"membership: {name}, {members} members ({time.monotonic() - began:.1f} s)", file=sys.stderr)
    print(_table(rows), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "bytes_per_doubling": _slopes(rows)}))
    return 0


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(one) for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not N,N,…") from None
    if min(sizes) < 2:
        raise argparse.ArgumentTypeError("a group has two members at least")
    return sizes


def _member(number: int, suite: int) -> MlsMember:
    identity = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
    public, signer = identity.public_key().public_bytes_raw(), MlsSigner(suite)
    signature = identity.sign(mls_credential_message(VLAN_ID, public, suite, NOT_AFTER, signer.public))
    return MlsMember(signer, VLAN_ID, public + NOT_AFTER.to_bytes(8, "big") + signature)


def _measure(name: str, suite: int, members: int) -> list[Row]:
    admin = _member(1, suite).create(b"", NOW)
    others = [_member(number, suite) for number in range(2, members + 1)]
    _, welcome = admin.commit(NOW, adds=[one.key_package(NOW) for one in others])
    admin.keep()
    second = others[0].join(welcome, NOW)
    fresh = _row(name, suite, "fresh", admin, second)

    admin = _member(1, suite).create(b"", NOW)
    newcomer = others[0]
    _, welcome = admin.commit(NOW, adds=[newcomer.key_package(NOW)])
    second = newcomer.join(welcome, NOW)
    for newcomer in others[1:]:
        commit, welcome = admin.commit(NOW, adds=[newcomer.key_package(NOW)])
        second.process(commit, NOW)
        joined = newcomer.join(welcome, NOW)
        commit, _ = joined.commit(NOW)
        admin.process(commit, NOW)
        second.process(commit, NOW)
    for one, other in ((second, admin), (admin, second)):
        commit, _ = one.commit(NOW)
        other.process(commit, NOW)
    admin.keep()
    return [fresh, _row(name, suite, "full", admin, second)]


def _row(name: str, suite: int, tree: str, admin: MlsGroup, second: MlsGroup) -> Row:
    """Every try starts from the same tree: a step that was measured is dropped."""
    members = len(admin.leaves)
    admin.keep()
    record = second.keep()
    clock = Stopwatch()
    sizes: dict[str, int] = {}
    for _ in range(TRIES):
        newcomer = _member(1_000_000, suite)
        package = newcomer.key_package(NOW)
        with clock("add"):
            commit, welcome = admin.commit(NOW, adds=[package])
        with clock("join"):
            newcomer.join(welcome, NOW)
        with clock("process"):
            second.process(commit, NOW)
        sizes |= {"add": len(commit), "welcome": len(welcome)}
        _drop(admin, second)
        gone = max(leaf.index for leaf in admin.leaves)
        with clock("remove"):
            commit, _ = admin.commit(NOW, removes=[gone])
        sizes["remove"] = len(commit)
        _drop(admin)
        with clock("update"):
            commit, _ = admin.commit(NOW)
        sizes["update"] = len(commit)
        _drop(admin)
    return Row(
        suite=name, members=members, tree=tree,
        add_ms=clock.median("add"), join_ms=clock.median("join"), process_ms=clock.median("process"),
        remove_ms=clock.median("remove"), update_ms=clock.median("update"),
        add_bytes=sizes["add"], welcome_bytes=sizes["welcome"], remove_bytes=sizes["remove"],
        update_bytes=sizes["update"], record_bytes=len(record), memory_bytes=_memory(record),
    )  # fmt: skip


def _drop(*groups: MlsGroup) -> None:
    for group in groups:
        group.drop_step()


def _memory(record: bytes) -> int:
    """What a restored member takes, as a new process grows by several of it."""
    command = [sys.executable, "-c", GROWTH, str(COPIES)]
    done = subprocess.run(command, input=record, capture_output=True, check=True, timeout=60)
    return int(done.stdout)


def _slopes(rows: Sequence[Row]) -> dict[str, float]:
    """Bytes that an update's commit grows by for each doubling of the members: least squares against log2 N."""
    out = {}
    for suite in SUITES:
        for tree in ("fresh", "full"):
            points = [(math.log2(r.members), r.update_bytes) for r in rows if (r.suite, r.tree) == (suite, tree)]
            if len(points) > 1:
                slope = statistics.linear_regression(*zip(*points, strict=True)).slope
                out[f"{suite}, {tree}"] = round(slope, 1)
    return out


def _table(rows: Sequence[Row]) -> str:
    heads = list(asdict(rows[0]))
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(str(value) for value in asdict(row).values()) + " |" for row in rows]
    return "\n".join(lines)
