"""The result as a picture: bars in small panels, drawn as SVG by hand. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from tools.bench.axes import BARE_ROWS, BY_NAME, PEER_NAMES, PEERTAP, Axis
from tools.bench.report import number
from tools.bench.result import values_of

PANELS: Final = (
    "tcp1", "tcp4", "relay_tcp1", "udp1200_pps", "udp64_pps", "cpu_s_per_gb", "rtt_ms", "rtt_load_ms",
)  # fmt: skip
COLUMNS: Final = 2
PANEL_WIDTH: Final = 460  # pixels, as all below
NAME_WIDTH: Final = 110
BAR_WIDTH: Final = 250
BAR_HEIGHT: Final = 14
BAR_STEP: Final = 20
TITLE_HEIGHT: Final = 48  # two lines
GAP: Final = 24
OURS: Final = "#0b7285"
THEIRS: Final = "#adb5bd"
INK: Final = "#212529"


def svg(rows: Mapping[str, Mapping[str, float | None]], panels: Sequence[str] = PANELS) -> str:
    """One panel for each axis that PeerTap or a peer has. Cables are left out: their bars would hide the others."""
    peers = [peer for peer in PEER_NAMES if peer not in BARE_ROWS]
    drawn = [(BY_NAME[name], values) for name in panels if (values := values_of(rows, name, peers))]
    height = max((len(values) for _, values in drawn), default=0) * BAR_STEP + TITLE_HEIGHT + GAP
    lines = -(-len(drawn) // COLUMNS)
    size = (COLUMNS * PANEL_WIDTH + GAP, max(1, lines) * height + GAP)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}"'
        f' viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" font-size="12" fill="{INK}">'
    )
    parts = [head, '<rect width="100%" height="100%" fill="#ffffff"/>']
    for place, (axis, values) in enumerate(drawn):
        x, y = GAP + (place % COLUMNS) * PANEL_WIDTH, GAP + (place // COLUMNS) * height
        parts += _panel(axis, values, x, y)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(axis: Axis, values: Mapping[str, float], x: int, y: int) -> list[str]:
    """Bars from the best to the worst."""
    better = "more is better" if axis.more_is_better else "less is better"
    parts = [
        f'<text x="{x}" y="{y + 12}" font-weight="bold">{escape(axis.meaning)}</text>',
        f'<text x="{x}" y="{y + 27}">{escape(f"{axis.unit}, {better}")}</text>',
    ]
    most = max(values.values()) or 1.0
    ordered = sorted(values.items(), key=lambda item: item[1], reverse=axis.more_is_better)
    for line, (peer, value) in enumerate(ordered):
        top = y + TITLE_HEIGHT - BAR_HEIGHT + line * BAR_STEP
        width = round(max(1.0, BAR_WIDTH * max(0.0, value) / most), 1)
        weight = ' font-weight="bold"' if peer == PEERTAP else ""
        colour = OURS if peer == PEERTAP else THEIRS
        parts += [
            f'<text x="{x + NAME_WIDTH - 6}" y="{top + 11}" text-anchor="end"{weight}>{escape(peer)}</text>',
            f'<rect x="{x + NAME_WIDTH}" y="{top}" width="{width}" height="{BAR_HEIGHT}" fill="{colour}"/>',
            f'<text x="{x + NAME_WIDTH + width + 5}" y="{top + 11}"{weight}>{number(value, axis)}</text>',
        ]
    return parts
