"""A picture of a mesh: its trunks, one VLAN's tree, and the routes to one of its members."""

from html import escape
from typing import Final

from tools.simulate.world import World

SIZE: Final = 1000
GREY, TREE, ROUTE, LEAF = "#dddddd", "#1f77b4", "#d62728", "#888888"


def draw(world: World) -> str:
    """SVG."""
    places = [(20 + x * (SIZE - 40), 20 + y * (SIZE - 40)) for x, y in world.plan.places]
    lines = [_line(places[one.a], places[one.b], GREY, 0.5) for one in world.trunks.values()]
    member = next((node for node in world.nodes if node.is_up and node.locals.all), None)
    title = f"{len(world.nodes)} nodes"
    if member is not None:
        vlan = next(iter(member.locals.all.values()))
        names = vlan.newest
        title += f"; blue: the tree of {vlan.source.label}; red: the routes to {world.plan.names[member.number]}"
        for node in world.nodes:
            if not node.is_up:
                continue
            selected = node.fabric.routes.selected((names.vtag, names.token))
            if selected is not None and selected.trunk is not None:
                lines.append(_line(places[node.number], places[selected.trunk - 1], ROUTE, 1))
            root = node.fabric.trees.root_of(names.vtag)
            group = node.fabric.trees.group(names.vtag, root[0], names.group_token) if root is not None else None
            if group is not None and group.parent is not None:
                lines.append(_line(places[node.number], places[group.parent - 1], TREE, 2))
    dots = [
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{2 if node.is_leaf else 5}" fill="{LEAF if node.is_leaf else "black"}"/>'
        for node, (x, y) in zip(world.nodes, places, strict=True)
        if node.is_up
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE + 30}" font-family="sans-serif">'
    text = f'<text x="20" y="{SIZE + 20}" font-size="18">{escape(title)}</text>'
    return "\n".join((head, '<rect width="100%" height="100%" fill="white"/>', *lines, *dots, text, "</svg>\n"))


def _line(a: tuple[float, float], b: tuple[float, float], colour: str, width: float) -> str:
    ends = f'x1="{a[0]:.0f}" y1="{a[1]:.0f}" x2="{b[0]:.0f}" y2="{b[1]:.0f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'
