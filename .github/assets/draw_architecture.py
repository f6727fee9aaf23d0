"""Draws the README's picture of the architecture: `python .github/assets/draw_architecture.py` writes architecture.svg.

The nodes and the edges are those of the compiled search agent, and every path named is one of this repository; only their
places are written here. A test draws it again and compares, so a node, an edge or a folder that changes is told.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from lensgraph.graphs import search_agent

ROOT = Path(__file__).resolve().parents[2]
PICTURE = Path(__file__).with_name("architecture.svg")
WIDTH = 960
LEFT, RIGHT = 186, 930  # px: the span of a room's boxes, right of its name
GAP = 26  # px: between two rooms, for the arrow that says who imports whom
ARROW = 9  # px: length of an arrow's head
LOOP = 13  # px: half the width of an arrow that leads back to its node
TRIM = 5  # px: a line ends inside the head, not on its tip


class Node(NamedTuple):
    """A node's place in its room, its caption, and the room that it calls upon, which colours it."""

    x: int
    y: int
    caption: str
    calls: str


NODES = {
    "__start__": Node(206, 58, "", "graphs"),
    "receive": Node(296, 58, "question, pictures", "graphs"),
    "reason": Node(530, 58, "the policy decides", "agent"),
    "answer": Node(764, 58, "sources, cost", "graphs"),
    "__end__": Node(872, 58, "", "graphs"),
    "crop": Node(296, 176, "a closer look", "tools"),
    "image_search": Node(530, 176, "the web by picture", "tools"),
    "text_search": Node(764, 176, "the web by words", "tools"),
}
NODE_WIDTH, NODE_HEIGHT, DOT = 136, 50, 9


class Box(NamedTuple):
    """A box in a room: a title, a caption, and the path that it stands for."""

    title: str
    caption: str
    path: str


class Room(NamedTuple):
    """A folder: its height, what it is for, and the boxes in it."""

    height: int
    role: tuple[str, ...]
    boxes: tuple[Box, ...]


ROOMS = {
    "rl": Room(
        112,
        ("what learns", "and what measures"),
        (
            Box("Task", "picture and question", "rl/tasks"),
            Box("Rollout", "a run of the graph", "rl/rollout"),
            Box("Trajectory", "ids as sampled", "rl/rollout/trajectory.py"),
            Box("Reward", "right, minus its cost", "rl/rewards"),
            Box("Trainer", "GRPO with TRL", "rl/grpo"),
        ),
    ),
    "graphs": Room(234, ("what is wired:", "the search agent", "", "asks the policy", "calls a tool"), ()),
    "agent": Room(
        92,
        ("what the agent is",),
        (
            Box("nodes", "one step each", "agent/nodes"),
            Box("state", "append-only", "agent/state.py"),
            Box("dialects", "actions as text", "agent/dialects"),
            Box("policy", "any chat model", "agent/policy"),
            Box("config", "one tree", "agent/config"),
        ),
    ),
    "tools": Room(
        92,
        ("what it reaches",),
        (
            Box("locate", "words to a region", "tools/locate"),
            Box("image search", "the web, or yours", "tools/image"),
            Box("text search", "the web, or yours", "tools/text"),
            Box("local engine", "works offline", "tools/local"),
            Box("cache, guard", "around all of them", "tools/guard"),
        ),
    ),
}
TOPS = {
    name: 16 + sum(room.height + GAP for room in list(ROOMS.values())[:number])
    for number, (name, room) in enumerate(ROOMS.items())
}
HEIGHT = TOPS["tools"] + ROOMS["tools"].height + 16

LIGHT = {
    "paper": "#ffffff", "edge": "#d0d7de", "ink": "#1f2328", "soft": "#59636e", "line": "#6e7781",
    "rl-room": "#fbf0ff", "rl-box": "#f0dbfb", "rl-ink": "#7a2fa0",
    "graphs-room": "#f6f8fa", "graphs-box": "#ffffff", "graphs-ink": "#424a53",
    "agent-room": "#eaf3ff", "agent-box": "#cfe4ff", "agent-ink": "#0b57b0",
    "tools-room": "#eaf8ee", "tools-box": "#c9eed3", "tools-ink": "#136c33",
}  # fmt: skip
DARK = {
    "paper": "#0d1117", "edge": "#30363d", "ink": "#f0f6fc", "soft": "#9198a1", "line": "#9198a1",
    "rl-room": "#221530", "rl-box": "#3b2153", "rl-ink": "#d2a8ff",
    "graphs-room": "#151b23", "graphs-box": "#262c36", "graphs-ink": "#d1d7e0",
    "agent-room": "#10223c", "agent-box": "#17406f", "agent-ink": "#79c0ff",
    "tools-room": "#11261a", "tools-box": "#1c4a2b", "tools-ink": "#7ee2a0",
}  # fmt: skip


def style() -> str:
    """The colours of both modes and the kinds of text. Plain rules, because not every renderer knows CSS variables."""
    kinds = [
        'text { font-family: -apple-system, "Segoe UI", "Liberation Sans", Helvetica, Arial, sans-serif; }',
        ".room { font-size: 17px; font-weight: 600; }",
        ".title { font-size: 14px; font-weight: 600; text-anchor: middle; }",
        ".small { font-size: 11.5px; }",
        ".middle { text-anchor: middle; }",
        ".line, .rl-line { fill: none; stroke-width: 1.6; }",
        ".dashed { stroke-dasharray: 5 4; }",
    ]
    return "\n".join([*kinds, *colours(LIGHT), "@media (prefers-color-scheme: dark) {", *colours(DARK), "}"])


def colours(of: dict[str, str]) -> list[str]:
    """The rules of one mode."""
    rules = [
        f"text {{ fill: {of['ink']}; }}",
        f".paper {{ fill: {of['paper']}; stroke: {of['edge']}; }}",
        f".small {{ fill: {of['soft']}; }}",
        f".line {{ stroke: {of['line']}; }}",
        f".head {{ fill: {of['line']}; }}",
        f".rl-line {{ stroke: {of['rl-ink']}; }}",
        f".rl-head {{ fill: {of['rl-ink']}; }}",
    ]
    for room in ROOMS:
        rules += [
            f".{room}-room {{ fill: {of[f'{room}-room']}; stroke: {of['edge']}; }}",
            f".{room}-box {{ fill: {of[f'{room}-box']}; stroke: {of[f'{room}-ink']}; stroke-opacity: 0.45; }}",
            f".{room}-ink {{ fill: {of[f'{room}-ink']}; }}",
        ]
    return rules


def text(x: float, y: float, words: str, kind: str) -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, round_: float = 9) -> str:
    """A rounded rectangle around its middle."""
    return (
        f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" height="{height:g}" rx="{round_:g}" '
        f'class="{kind}"/>'
    )


def head(x: float, y: float, angle: float, kind: str = "head") -> str:
    """The head of an arrow whose tip is at x, y; angle in radians."""
    points = [(x, y)] + [
        (x - ARROW * math.cos(angle + turn), y - ARROW * math.sin(angle + turn)) for turn in (0.42, -0.42)
    ]
    return f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" class="{kind}"/>'


def rim(node: Node, towards: tuple[float, float], dot: bool) -> tuple[float, float]:
    """The point at which a straight line from a node's middle to another point leaves the node."""
    dx, dy = towards[0] - node.x, towards[1] - node.y
    if dot:
        size = math.hypot(dx, dy)
        return node.x + dx / size * DOT, node.y + dy / size * DOT
    reach = min(
        NODE_WIDTH / 2 / abs(dx) if dx else math.inf,
        NODE_HEIGHT / 2 / abs(dy) if dy else math.inf,
    )
    return node.x + dx * reach, node.y + dy * reach


def placed(name: str) -> Node:
    """A node with its place in the whole picture."""
    node = NODES[name]
    return node._replace(y=node.y + TOPS["graphs"])


def edge(source: str, target: str, both: bool) -> list[str]:
    """An arrow between two nodes; with two heads where both directions are edges."""
    start, end = placed(source), placed(target)
    x1, y1 = rim(start, (end.x, end.y), source.startswith("__"))
    x2, y2 = rim(end, (start.x, start.y), target.startswith("__"))
    angle = math.atan2(y2 - y1, x2 - x1)
    ux, uy = math.cos(angle) * TRIM, math.sin(angle) * TRIM
    first = (x1 + ux, y1 + uy) if both else (x1, y1)
    drawn = [f'<path d="M{first[0]:.1f},{first[1]:.1f} L{x2 - ux:.1f},{y2 - uy:.1f}" class="line"/>']
    drawn.append(head(x2, y2, angle))
    if both:
        drawn.append(head(x1, y1, angle + math.pi))
    return drawn


def loop(name: str) -> list[str]:
    """An arrow from a node back to itself, above it."""
    node = placed(name)
    left, right, top = node.x - LOOP, node.x + LOOP, node.y - NODE_HEIGHT / 2
    up = top - 2 * LOOP
    path = f"M{right:g},{top:g} C{right:g},{up:g} {left:g},{up:g} {left:g},{top - TRIM:g}"
    return [f'<path d="{path}" class="line"/>', head(left, top, math.pi / 2)]


def graph() -> list[str]:
    """The compiled search agent.

    Raises:
        ValueError: it has other nodes than those that have a place here.
    """
    drawing = search_agent.graph.get_graph()
    if set(drawing.nodes) != set(NODES):
        raise ValueError(f"NODES must place {', '.join(sorted(drawing.nodes))}")
    edges = {(one.source, one.target) for one in drawing.edges}
    parts: list[str] = []
    for source, target in sorted(edges):
        if source == target:
            parts += loop(source)
            continue
        both = (target, source) in edges
        if not both or source < target:
            parts += edge(source, target, both)
    for name in NODES:
        node = placed(name)
        if name.startswith("__"):
            parts.append(f'<circle cx="{node.x}" cy="{node.y}" r="{DOT}" class="head"/>')
            if name == "__end__":
                parts.append(f'<circle cx="{node.x}" cy="{node.y}" r="{DOT - 3}" class="graphs-room"/>')
            continue
        parts.append(box(node.x, node.y, NODE_WIDTH, NODE_HEIGHT, f"{node.calls}-box"))
        parts.append(text(node.x, node.y - 3, name, "title"))
        parts.append(text(node.x, node.y + 14, node.caption, "small middle"))
    return parts


def rooms() -> list[str]:
    """The four folders with what is in them.

    Raises:
        ValueError: a path that is named does not exist.
    """
    parts: list[str] = []
    for name, room in ROOMS.items():
        top = TOPS[name]
        parts.append(
            f'<rect x="16" y="{top}" width="{WIDTH - 32}" height="{room.height}" rx="12" class="{name}-room"/>'
        )
        parts.append(text(36, top + 34, f"{name}/", f"room {name}-ink"))
        parts += [text(36 if n < 3 else 52, top + 54 + 16 * n, line, "small") for n, line in enumerate(room.role)]
        if name != "tools":
            below = top + room.height
            parts.append(f'<path d="M44,{below} v{GAP - TRIM}" class="line"/>')
            parts.append(head(44, below + GAP, math.pi / 2))
            parts.append(text(54, below + GAP / 2 + 4, "imports", "small"))
        for number, one in enumerate(room.boxes):
            if not (ROOT / one.path).exists():
                raise ValueError(f"{one.path} does not exist; correct ROOMS")
            x, y = middle(name, number)
            parts.append(box(x, y, BOX_WIDTH, NODE_HEIGHT, f"{name}-box"))
            parts.append(text(x, y - 3, one.title, "title"))
            parts.append(text(x, y + 14, one.caption, "small middle"))
    return parts


BOX_WIDTH = (RIGHT - LEFT) / len(ROOMS["tools"].boxes) - 20


def middle(name: str, number: int) -> tuple[float, float]:
    """The middle of a room's box."""
    lower = 8 if name == "rl" else 0  # room for the arrow above the boxes
    return LEFT + (BOX_WIDTH + 20) * (number + 0.5), TOPS[name] + ROOMS[name].height / 2 + lower


def learning() -> list[str]:
    """The arrows of training: from the task to the trainer, the weights back to the rollout, the rollout in the graph."""
    parts: list[str] = []
    for number in range(1, len(ROOMS["rl"].boxes)):
        x, y = middle("rl", number)
        left = x - BOX_WIDTH / 2
        parts.append(f'<path d="M{left - 20:g},{y:g} h{20 - TRIM}" class="rl-line"/>')
        parts.append(head(left, y, 0, "rl-head"))
    (rollout, y), (trainer, _) = middle("rl", 1), middle("rl", 4)
    top = y - NODE_HEIGHT / 2
    parts.append(
        f'<path d="M{trainer:g},{top:g} v-10 q0,-6 -6,-6 H{rollout + 6:g} q-6,0 -6,6 v{10 - TRIM}" class="rl-line"/>'
    )
    parts.append(head(rollout, top, math.pi / 2, "rl-head"))
    parts.append(text((rollout + trainer) / 2, top - 21, "new weights", "small middle"))
    foot, graphs = y + NODE_HEIGHT / 2, TOPS["graphs"]
    parts.append(f'<path d="M{rollout:g},{foot:g} V{graphs - TRIM}" class="rl-line dashed"/>')
    parts.append(head(rollout, graphs, math.pi / 2, "rl-head"))
    parts.append(
        text(
            rollout + 10,
            graphs - GAP / 2 + 4,
            "is a run of this very graph: what is trained is what is served",
            "small",
        )
    )
    return parts


def legend() -> list[str]:
    """The colour samples beside the captions under the name of the graphs room."""
    line = TOPS["graphs"] + 54 + 16 * 3 - 9
    return [
        f'<rect x="36" y="{line + 16 * n}" width="10" height="10" rx="3" class="{room}-box"/>'
        for n, room in enumerate(("agent", "tools"))
    ]


def draw() -> str:
    """The whole picture as SVG."""
    body = [
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="14" class="paper"/>',
        *rooms(),
        *learning(),
        *legend(),
        *graph(),
    ]
    label = "The rooms rl, graphs, agent and tools; in graphs the search agent with its nodes and edges"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n'
        f"<style>\n{style()}\n</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
