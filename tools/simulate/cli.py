"""`python -m tools.simulate`: a mesh of so many nodes, what happens to it, and what it costs."""

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tools.simulate import picture, report, topology
from tools.simulate.run import Outcome, simulate
from tools.simulate.storm import Storm

CURVE: Final = (100, 1_000)  # smaller meshes that a large one is compared with
LARGE: Final = 5_000


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tools.simulate",
        description="The real routes, trees and roles of many nodes, on a simulated network and clock. Progress goes "
        "to stderr. Exit status: 0 all that must hold did, 1 it did not, 2 wrong usage.",
    )
    made.add_argument("--nodes", metavar="N", type=_count, default=1000, help="how many (default 1000)")
    made.add_argument("--transits", metavar="N", type=_count, help="of them (default a fifth, at most 300)")
    made.add_argument("--vlans", metavar="N", type=_count, help="default: one for 100 nodes")
    made.add_argument("--topology", metavar="FILE.json", type=Path, help="read who is there from a file instead")
    made.add_argument("--churn", metavar="SHARE", type=_share, default=0.0, help="of nodes and links that go and come")
    made.add_argument("--dead", metavar="SHARE", type=_share, default=0.0, help="of nodes that die without a word")
    made.add_argument("--liars", metavar="SHARE", type=_share, default=0.0, help="of transits that announce lies")
    made.add_argument("--partition", metavar="S", type=_seconds, default=0.0, help="the mesh is in two halves so long")
    made.add_argument("--loss", metavar="SHARE", type=_share, default=0.0, help="of messages that come a resend later")
    made.add_argument("--seed", metavar="N", type=int, default=1, help="another number is another mesh (default 1)")
    made.add_argument("--no-curve", action="store_true", help=f"from {LARGE} nodes on: no smaller meshes beside it")
    made.add_argument("--picture", metavar="FILE.svg", type=Path, help="draw it, with a tree and a member's routes")
    made.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the table")
    return made


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    gc.disable()  # nothing is thrown away in cycles while a mesh runs
    try:
        return _run(options)
    except topology.TopologyError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    finally:
        gc.enable()


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    storm = Storm(options.churn, options.partition, options.liars, options.dead)
    outcomes = [
        simulate(plan, storm, seed=options.seed, loss=options.loss, progress=report.progress(len(plan.names)))
        for plan in _plans(options)
    ]
    last = outcomes[-1]
    if options.picture is not None:
        options.picture.write_text(picture.draw(last.world))
    found = _result(outcomes, time.monotonic() - began)
    print(json.dumps(found) if options.json else report.table(found))
    return 0 if last.holds else 1


def _plans(options: argparse.Namespace) -> list[topology.Plan]:
    if options.topology is not None:
        return [topology.load(options.topology)]
    sizes = [options.nodes]
    if options.nodes >= LARGE and not options.no_curve:
        sizes = [*CURVE, options.nodes]
    return [
        topology.generate(
            nodes,
            min(options.transits or topology.default_transits(nodes), nodes),
            options.vlans or topology.default_vlans(nodes),
            options.seed,
        )
        for nodes in sizes
    ]


def _result(outcomes: Sequence[Outcome], wall_s: float) -> dict[str, Any]:
    found = {**asdict(outcomes[-1].figures), "wall_s": round(wall_s, 1), "memory_bytes": report.memory_bytes()}
    if len(outcomes) > 1:
        found["curve"] = [asdict(one.figures) for one in outcomes]
    return found


def _count(text: str) -> int:
    return int(_number(text, 1, topology.MAX_NODES, whole=True))


def _share(text: str) -> float:
    return _number(text, 0, 0.99)


def _seconds(text: str) -> float:
    return _number(text, 0, 3600)


def _number(text: str, least: float, most: float, *, whole: bool = False) -> float:
    try:
        number = float(int(text) if whole else float(text))
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {'a whole number ' if whole else ''}from {least} to {most}")
    return number
