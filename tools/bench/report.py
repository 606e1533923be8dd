"""The result as Markdown: tables of figures, and one of what must hold. Pure."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Final

from tools.bench.axes import AXES, BY_NAME, PEER_NAMES, PEERTAP, Axis
from tools.bench.result import Result
from tools.bench.verdict import Comparison, held, ratios

BEGIN: Final = "<!-- bench -->"
END: Final = "<!-- bench end -->"
NOTHING: Final = "–"
COLUMNS: Final = 118  # of prose; tables are as wide as they are

TABLES: Final = (
    ("Speed, direct", ("tcp1", "tcp4", "tcp1_nooffload", "udp1200_pps", "udp64_pps")),
    ("Latency and cost, direct", ("rtt_ms", "rtt_p99_ms", "rtt_load_ms", "join_ms", "cpu_s_per_gb", "memory_mb")),
    ("Through a relay", ("relay_tcp1", "relay_rtt_ms")),
    (
        "Bad links",
        ("loss1_tcp1", "loss1_tcp1_bbr", "delay20_tcp1", "delay80_tcp1", "rate100_tcp1", "rtt_load_100m_ms"),
    ),
    (
        "PeerTap's own",
        (
            "stream_tcp1",
            "stream_rtt_load_ms",
            "overload",
            "overload_recovery_s",
            "overload_trunk",
            "idle_cpu",
            "status_ms",
        ),
    ),
)


def markdown(result: Result, *, abouts: Mapping[str, str], plot: str | None = None) -> str:
    """Everything between the marks.

    Args:
        abouts: each peer's configuration in words.
        plot: link to the picture.
    """
    rows = result.rows
    missing = [peer for peer in result.absent if peer in abouts]
    parts = [_heading(result)]
    if plot is not None:
        parts.append(f"![PeerTap beside its peers]({plot})")
    parts.append(_requirements(result.comparisons, rows))
    for title, axes in TABLES:
        if table := _table(rows, [BY_NAME[name] for name in axes], missing):
            parts.append(f"### {title}\n\n{table}")
    parts.append(f"### Peers\n\n{_peers(result, abouts)}")
    if result.problems:
        parts.append("### What went wrong\n\n" + _cells(("problem",), [(problem,) for problem in result.problems]))
    return "\n\n".join(parts) + "\n"


def into(page: str, block: str) -> str:
    """A page with the block between its marks; a page without marks becomes the block alone."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}{END}{after}" if begin and end else block


def number(value: float | None, axis: Axis) -> str:
    """A figure with the axis' decimals."""
    return NOTHING if value is None else f"{value:,.{axis.decimals}f}".replace(",", " ")


def _heading(result: Result) -> str:
    about = result.about
    facts = [
        f"{about['date']}" if "date" in about else "",
        f"{about['rounds']} round{'s' if about['rounds'] > 1 else ''}, medians" if "rounds" in about else "",
        f"streams of {about['stream_s']:g} s" if "stream_s" in about else "",
        f"{about['cores']} cores" if "cores" in about else "",
        str(about.get("cpu", "")),
        f"Linux {about['kernel']}" if "kernel" in about else "",
        f"other load {about['busy_percent']:g} %" if "busy_percent" in about else "",
    ]
    return _wrapped("; ".join(fact for fact in facts if fact) + ".")


def _requirements(comparisons: Sequence[Comparison], rows: Mapping[str, Mapping[str, float | None]]) -> str:
    margins, holds = ratios(comparisons), held(comparisons, rows)
    lines = []
    for axis, good in holds.items():
        made = [comparison for comparison in comparisons if comparison.axis == axis]
        value = number(rows.get(PEERTAP, {}).get(axis), BY_NAME[axis])
        if not made and value == NOTHING:
            continue
        wanted = "; ".join(_compared(comparison) for comparison in made) or "nothing to compare with was measured"
        margin = f"{margins[axis]:.2f}" if axis in margins else NOTHING
        lines.append((f"`{axis}`", BY_NAME[axis].meaning, value, wanted, margin, "yes" if good else "**no**"))
    head = ("axis", "meaning", "PeerTap", "wanted (measured)", "margin", "holds")
    return "### What must hold\n\n" + (_cells(head, lines) if lines else "Nothing of it was measured.")


def _compared(comparison: Comparison) -> str:
    figure = "" if comparison.figure == comparison.axis else f"{comparison.figure} "
    seen = f"{comparison.value:g}" if comparison.reference == "number" else f"{comparison.ratio:.3g} ×"
    return f"{figure}{comparison.wanted} ({seen})"


def _table(rows: Mapping[str, Mapping[str, float | None]], axes: Sequence[Axis], absent: Sequence[str]) -> str:
    """Axes that nobody has are left out, and so are peers without any figure, unless they are absent."""
    seen = [axis for axis in axes if any(rows.get(peer, {}).get(axis.name) is not None for peer in PEER_NAMES)]
    lines = []
    for peer in PEER_NAMES:
        row = rows.get(peer, {})
        if any(row.get(axis.name) is not None for axis in seen):
            lines.append((_name(peer), *(number(row.get(axis.name), axis) for axis in seen)))
        elif seen and peer in absent and axes[0].name == AXES[0].name:
            lines.append((peer, "absent: see below", *("" for _ in seen[1:])))
    head = ("peer", *(f"`{axis.name}`{f', {axis.unit}' if axis.unit else ''}" for axis in seen))
    meanings = "; ".join(f"`{axis.name}`: {axis.meaning}" for axis in seen)
    return f"{_cells(head, lines)}\n\n{_wrapped(meanings)}" if lines else ""


def _peers(result: Result, abouts: Mapping[str, str]) -> str:
    lines = [
        (
            _name(peer),
            f"absent: {result.absent[peer]}" if peer in result.absent else result.versions.get(peer, ""),
            about,
        )
        for peer, about in abouts.items()
    ]
    return _cells(("peer", "version", "configuration"), lines)


def _wrapped(text: str) -> str:
    return fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False)


def _name(peer: str) -> str:
    return f"**{peer}**" if peer == PEERTAP else peer


def _cells(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what would break it is taken out."""
    safe = [[cell.replace("|", "/").replace("\n", " ") for cell in line] for line in lines]
    rule = ["---", *("---:" if _is_number_column(safe, index) else "---" for index in range(1, len(head)))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (list(head), rule, *safe))


def _is_number_column(lines: Sequence[Sequence[str]], index: int) -> bool:
    cells = [line[index].replace(" ", "") for line in lines]
    return all(
        cell.replace(".", "", 1).lstrip("-").isdigit() or cell in (NOTHING, "", "absent:seebelow") for cell in cells
    )
