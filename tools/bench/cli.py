"""`python -m tools.bench`: measures PeerTap beside other tunnels and says what holds."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from netns import emulator
from netns.enter import enter, furnish, is_inside
from netns.errors import LabError
from tools.bench import compare, install, plot, report, run
from tools.bench.axes import AXIS_NAMES, BY_NAME, PEER_NAMES
from tools.bench.peers.registry import PEERS
from tools.bench.plan import visits
from tools.bench.result import NoResultError, Result, parse_rows
from tools.bench.topology import IMPAIRMENTS
from tools.bench.visit import Settings

ROUNDS: Final = 3
STREAM_S: Final = 3.0
QUICK: Final = Settings(stream_s=1.5, flood_s=5.0, idle_s=5.0)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="PeerTap beside other tunnels, in one run, on this machine. Progress goes to stderr.",
        epilog=f"peers: {', '.join(PEER_NAMES)}. axes: {', '.join(AXIS_NAMES)}. "
        "Exit status: 0 measured, 1 failed, 2 wrong usage. `membership`: what a change of members costs (--help).",
    )
    made.add_argument("--peers", metavar="A,B", type=_names("peer", PEER_NAMES), default=PEER_NAMES, help="only these")
    made.add_argument("--axes", metavar="X,Y", type=_names("axis", AXIS_NAMES), default=AXIS_NAMES, help="only these")
    made.add_argument("--rounds", metavar="N", type=_at_least_one, help=f"rounds, interleaved (default {ROUNDS})")
    made.add_argument("--seconds", metavar="S", type=_length, help=f"length of a TCP stream (default {STREAM_S:g})")
    made.add_argument("--quick", action="store_true", help="one round of short streams, to see that it works")
    made.add_argument(
        "--install", action="store_true", help="install Debian's peers and iperf3 where missing (apt-get)"
    )
    made.add_argument(
        "--json", action="store_true", help="the last line of stdout is one JSON object, tables to stderr"
    )
    made.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write the tables; between its marks if it has them"
    )
    made.add_argument("--plot", metavar="FILE.svg", type=Path, help="draw the bars")
    made.add_argument("--compare", metavar="JSON", nargs="+", type=Path,
                      help="OLD: run, then print what moved; OLD NEW: no run")  # fmt: skip
    made.add_argument("--keep", action="store_true", help="keep each visit's directory with its logs")
    made.add_argument("-v", "--verbose", action="store_true", help="show every command")
    return made


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        earlier = _earlier(options.compare)
        if len(earlier) == 2:
            print(compare.emit(*earlier))
            return 0
        if not is_inside():
            _outside(options, arguments)
        furnish()
        return _measure(options, earlier)
    except (LabError, NoResultError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _outside(options: argparse.Namespace, arguments: list[str]) -> NoReturn:
    """What needs the machine as it is; then this program runs again inside of the lab."""
    if options.install:
        wanted = [program.package for name in options.peers for program in PEERS[name].programs]
        if missing := install.packages(wanted):
            run.progress(f"installing {' '.join(missing)}")
            if (why := install.install(missing)) is not None:
                run.progress(f"not installed, their rows will say so: {why}")
    if any(BY_NAME[axis].link in IMPAIRMENTS for axis in options.axes):
        emulator.build()
    enter(arguments, module="tools.bench", as_root_first=True)


def _measure(options: argparse.Namespace, earlier: Sequence[compare.Rows]) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    settings, rounds = _settings(options)
    result = Result(absent=run.found(options.peers))
    here = [name for name in options.peers if name not in result.absent]
    for name in options.peers:
        if name in result.absent:
            run.progress(f"absent: {name}: {result.absent[name]}")
    result.versions = {name: PEERS[name].version() for name in here}
    planned = visits(here, options.axes, rounds)
    result.about = run.machine() | {"rounds": rounds, "stream_s": settings.stream_s}
    interrupted = False
    try:
        run.run(planned, result, settings)
    except KeyboardInterrupt:
        interrupted = True
        run.progress("interrupted: what was measured until now follows")
    _emit(options, result, earlier)
    return 1 if interrupted or not result.samples else 0


def _emit(options: argparse.Namespace, result: Result, earlier: Sequence[compare.Rows]) -> None:
    link = None
    if options.plot is not None:
        options.plot.write_text(plot.svg(result.rows))
        beside = options.markdown is not None and options.plot.parent == options.markdown.parent
        link = options.plot.name if beside else str(options.plot)
    abouts = {name: PEERS[name].about for name in options.peers}
    tables = report.markdown(result, abouts=abouts, plot=link)
    if options.markdown is not None:
        page = options.markdown.read_text() if options.markdown.exists() else ""
        options.markdown.write_text(report.into(page, tables))
    print(tables, file=sys.stderr if options.json else sys.stdout)
    if earlier:
        print(compare.emit(earlier[0], result.rows), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(result.emit(), flush=True)


def _settings(options: argparse.Namespace) -> tuple[Settings, int]:
    base = QUICK if options.quick else Settings(stream_s=STREAM_S)
    settings = Settings(
        options.seconds or base.stream_s, base.flood_s, base.idle_s, verbose=options.verbose, keep=options.keep
    )
    return settings, options.rounds or (1 if options.quick else ROUNDS)


def _earlier(files: Sequence[Path] | None) -> list[compare.Rows]:
    """The saved results to compare with.

    Raises:
        NoResultError: a file that is none, or more than two.
    """
    found: list[compare.Rows] = []
    for file in files or ():
        try:
            found.append(parse_rows(file.read_text()))
        except (OSError, UnicodeDecodeError) as error:
            raise NoResultError(f"{file}: {error}") from error
        except NoResultError as error:
            raise NoResultError(f"{file}: {error}") from error
    if len(found) > 2:
        raise NoResultError("--compare takes OLD.json, or OLD.json and NEW.json")
    return found


class _names:
    """A list of known names, separated by commas, in the order of the tables."""

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        self.kind, self.known = kind, known

    def __call__(self, text: str) -> tuple[str, ...]:
        given = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in given if name not in self.known]
        if unknown or not given:
            raise argparse.ArgumentTypeError(
                f"unknown {self.kind} {', '.join(unknown) or repr(text)}; there are: {', '.join(self.known)}"
            )
        return tuple(name for name in self.known if name in given)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)


def _length(text: str) -> float:
    try:
        length_s = float(text)
    except ValueError:
        length_s = 0.0
    if not 1.0 <= length_s <= 60.0:
        raise argparse.ArgumentTypeError(f"{text!r}: seconds from 1 to 60")
    return length_s


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
