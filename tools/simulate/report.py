"""What a run says: progress on stderr, a table for people."""

import io
import resource
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def progress(nodes: int) -> Callable[[str, float], None]:
    """Shows how far a mesh is; without a terminal a line at each new phase."""
    if not sys.stderr.isatty():
        said: list[str] = []

        def say(phase: str, _share: float) -> None:
            if not said or said[-1] != phase:
                said.append(phase)
                print(f"simulate: {nodes} nodes, {phase}", file=sys.stderr, flush=True)

        return say
    bar = Progress(
        TextColumn("{task.fields[nodes]} nodes, {task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("start", total=1.0, nodes=nodes)
    bar.start()

    def show(phase: str, share: float) -> None:
        bar.update(task, description=phase, completed=share)
        if phase == "quiet" and share >= 1:
            bar.stop()

    return show


def memory_bytes() -> int:
    """The most that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(found: dict[str, Any]) -> str:
    """The figures of a run, and of the smaller ones beside it."""
    shown = io.StringIO()
    console = Console(width=110, file=shown)
    columns = found.get("curve") or [found]
    made = Table(title="simulated mesh")
    made.add_column("figure")
    for one in columns:
        made.add_column(f"{one['nodes']} nodes", justify="right")
    for name, value in columns[-1].items():
        if isinstance(value, dict):
            for inner in value:
                made.add_row(f"{name}: {inner}", *(f"{one[name][inner]:g}" for one in columns))
        elif name not in ("wall_s", "memory_bytes", "curve"):
            made.add_row(name, *(_shown(one[name]) for one in columns))
    made.add_row("wall_s, all", *[""] * (len(columns) - 1), _shown(found["wall_s"]))
    made.add_row("memory, MB", *[""] * (len(columns) - 1), _shown(found["memory_bytes"] // 1_000_000))
    console.print(made)
    return shown.getvalue()


def _shown(value: float | None) -> str:
    return "never" if value is None else f"{value:,}"
