"""`python -m netns`: list the scenarios, run one, run all."""

import argparse
import itertools
import json
import signal
import subprocess
import sys
import time
import traceback
from types import FrameType
from typing import Final, NoReturn, get_args

from netns import emulator
from netns.enter import REPOSITORY, enter, furnish, is_inside
from netns.errors import LabError, ScenarioFailed, TimeLimitExceeded
from netns.lab import Lab
from netns.report import Report
from netns.scenario import NAMES, Figures, Scenario, load
from peertap.config.model import Offload

CLEAN_UP_S: Final = 30.0  # ours: what `run --all` grants a scenario beyond its bound before it kills it
LOG_TAIL_LINES: Final = 25
OFFLOADS: Final = get_args(Offload)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m netns", description="The network-namespace lab of PeerTap.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the scenarios, one line each")
    run = commands.add_parser(
        "run", help="run one scenario, or all: exit status 0 where it holds, 1 where not, 2 for wrong usage"
    )
    run.add_argument("name", nargs="?", choices=NAMES, metavar="NAME", help="a name from `list`")
    run.add_argument("--all", action="store_true", help="every scenario, one after the other")
    run.add_argument("--short", action="store_true", help="the short form: fewer repetitions, less data")
    run.add_argument("--json", action="store_true", help="the last line is one JSON object; steps go to stderr")
    run.add_argument(
        "--without",
        action="append",
        default=[],
        choices=OFFLOADS,
        metavar="OFFLOAD",
        help=f"nodes do without this offload ({', '.join(OFFLOADS)}); may be given several times",
    )
    run.add_argument(
        "--each-offload-off", action="store_true", help="run it once without each of the offloads, one after the other"
    )
    run.add_argument("--keep", action="store_true", help="keep the directory with logs and captures")
    run.add_argument("-v", "--verbose", action="store_true", help="show every command")
    return top


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    if options.command == "list":
        for name in NAMES:
            print(f"{name:15} {load(name).summary}")
        return 0
    if options.all == (options.name is not None):
        print("python -m netns run: give the NAME of a scenario, or --all", file=sys.stderr)
        return 2
    try:
        if options.all or options.each_offload_off:
            return _run_several(options)
        scenario = load(options.name)
        if not is_inside():
            if scenario.needs_emulator:
                emulator.build()
            enter(arguments)
        furnish()
        return _run(scenario, options)
    except LabError as error:
        print(f"netns: {error}", file=sys.stderr)
        return 1


def _run(scenario: Scenario, options: argparse.Namespace) -> int:
    report = Report(verbose=options.verbose, quiet_stdout=options.json)
    bound_s = scenario.short_bound_s if options.short else scenario.bound_s
    title = " without ".join([scenario.name, *([", ".join(options.without)] if options.without else [])])
    report.title(f"{title}: {scenario.summary}")
    began = time.monotonic()
    figures: Figures = {}
    problem: str | None = None
    _limit(bound_s)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Lab(scenario.name, report, keep=options.keep, without_offloads=tuple(options.without)) as lab:
            try:
                figures = scenario.run(lab, options.short)
            except (ScenarioFailed, LabError) as error:
                problem = str(error)
            except Exception as error:  # a mistake of the scenario: clean up and say where
                problem = f"{type(error).__name__}: {error}"
                report.block(traceback.format_exc())
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if problem is not None:
                report.say(f"\n{problem}")
                _show_logs(lab)
    except LabError as error:
        problem = f"{problem}; {error}" if problem else str(error)
        report.say(f"\n{error}")
    except KeyboardInterrupt:
        problem = "interrupted"
    took = time.monotonic() - began
    ok = problem is None
    if options.json:
        content: dict[str, object] = {
            "scenario": scenario.name,
            "ok": ok,
            "figures": {**figures, "seconds": round(took, 1)},
        }
        if problem is not None:
            content["problem"] = problem
        print(json.dumps(content), flush=True)
    else:
        for key, value in figures.items():
            report.say(f"  {key} = {value}")
        report.title(f"{title}: {'holds' if ok else 'DOES NOT HOLD'} ({took:.1f} s)")
    return 0 if ok else 1


def _run_several(options: argparse.Namespace) -> int:
    flags = [f"--{flag}" for flag in ("short", "json", "keep", "verbose") if getattr(options, flag)]
    passed: list[str] = []
    failed: list[str] = []
    names = NAMES if options.all else (options.name,)
    without = [(one,) for one in OFFLOADS] if options.each_offload_off else [tuple(options.without)]
    for name, offloads in itertools.product(names, without):
        scenario = load(name)
        off = [text for one in offloads for text in ("--without", one)]
        bound_s = scenario.short_bound_s if options.short else scenario.bound_s
        child = subprocess.Popen([sys.executable, "-m", "netns", "run", name, *flags, *off], cwd=REPOSITORY)
        try:
            status = child.wait(bound_s + CLEAN_UP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
        except BaseException:
            child.terminate()
            child.wait(CLEAN_UP_S)
            raise
        (passed if status == 0 else failed).append("-without-".join((name, *offloads)))
        print(flush=True)
    if failed:
        print("failed: " + " ".join(failed))
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _show_logs(lab: Lab) -> None:
    latest = {process.log: process for process in lab.processes if process.name.startswith("node-")}
    for process in latest.values():
        lab.report.say(f"\n  last lines of {process.name} (exit status {process.exit_status}):")
        lab.report.block(process.tail(LOG_TAIL_LINES))


def _limit(bound_s: float) -> None:
    def too_late(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise TimeLimitExceeded(f"longer than its bound of {bound_s:g} s")

    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, bound_s)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
