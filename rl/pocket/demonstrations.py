"""Make demonstrations: run the scripted oracle through the real graphs with the real tools.

The file holds one run a line, appended when the run ends, so an interrupted build goes on where it stopped.
Wrong runs are kept with `"right": false`, so the share that retrieval and location cost can be counted;
training skips them.

    python -m lensgraph.rl demonstrations --out runs/world_sft/demonstrations.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lensgraph.agent.config import Config, load_config
from lensgraph.agent.context import Context
from lensgraph.agent.dialects.table import build as build_dialect
from lensgraph.agent.images import ImageStore
from lensgraph.graphs import table
from lensgraph.rl.pocket.invent import Demonstration, Lexicon, Manner, Message
from lensgraph.rl.pocket.oracle import OraclePolicy, right
from lensgraph.rl.run import jsonl
from lensgraph.tools.local.world import entities, pages
from lensgraph.tools.local.world.questions import splits as world
from lensgraph.tools.local.world.questions.world_task import WorldTask
from lensgraph.tools.local.world.world_index import subject

_WORD = re.compile(r"[^\W\d_]{3,}")
SEARCHING = ("image", "image_text", "crop_text", "correction")
COUNTS: dict[str, dict[str, int]] = {
    "search_agent": {
        "visible": 24000, "known": 5000, "image": 600, "image_text": 1900, "crop_text": 1300, "correction": 1400,
    },
    "eager": {"visible": 1500, "known": 1500},
    "frugal": {"correction": 1400},
    "rag": {"image": 200, "image_text": 600, "correction": 150},
    "direct": {"visible": 200, "known": 150, "image": 150, "image_text": 300},
}  # fmt: skip
"""Tasks per graph and family, or per manner of the search agent (`lensgraph.rl.pocket.invent.Manner`) and
family. Runs without a tool are cheap, and they need the most pictures."""
MANNERS: tuple[Manner, ...] = ("eager", "frugal")
"""Keys of `COUNTS` that name a manner of the search agent and not a graph."""


def lexicon() -> Lexicon:
    """The embedded world's names, by split, and the words of its pages, the frequent ones first."""
    everyone = entities.load_entities()
    names = tuple(e.name for e in everyone if e.split == "train")
    train = {name.lower() for name in names}
    # short aliases ("US") are also ordinary words in running text
    held = {n for e in everyone if e.split != "train" for n in (e.name, *e.aliases) if len(n) > 3}
    forbidden = tuple(sorted(n for n in held if n.lower() not in train))
    lower = {name.lower() for name in forbidden}
    counts = Counter(word for page in pages.pages() for word in _WORD.findall(f"{page.title} {page.text}"))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return Lexicon(names, tuple(word for word in words if word.lower() not in lower), forbidden)


async def demonstrate(
    task: WorldTask, workflow: str, config: Config, *, oracle: OraclePolicy | None = None, manner: Manner = "plain"
) -> tuple[Demonstration, bool]:
    """Run one graph under an oracle; returns the run, and whether its answer is right.

    `oracle` is one made elsewhere; by default it follows from the task, the graph (`workflow`) and the manner.
    """
    dialect = build_dialect(config.dialect.name)
    store = ImageStore()
    policy = oracle or OraclePolicy(
        task=task,
        dialect=dialect,
        workflow=workflow,  # type: ignore[arg-type]
        eager=manner == "eager",
        frugal=manner == "frugal",
    )
    context = Context(policy=policy, dialect=dialect, store=store, config=config)
    state = {"question": task.question, "images": [task.render()]}
    final: dict[str, Any] = {}
    async for final in table.find(workflow).astream(state, context=context, stream_mode="values"):
        pass
    crops = [step["crop"] for step in final["steps"] if step.get("crop")]
    known = {final["pictures"][0]["id"]: 0} | {crop["id"]: n for n, crop in enumerate(crops, 1)}
    demo = Demonstration(
        task=task.id,
        workflow=workflow,
        family=task.family,
        scene=asdict(task.picture),
        messages=tuple(_message(message, known) for message in final["dialogue"]),
        crops=tuple(tuple(crop["box"]) for crop in crops),
        name=_name(final["steps"]),
        answer=final["answer"] or "",
        manner=manner,
    )
    return demo, right(final["answer"], task)


def make(path: Path, counts: dict[str, dict[str, int]] = COUNTS, *, concurrent: int = 4) -> None:
    """Append the runs that `path` misses of `counts` (per graph and family), with a progress bar on stderr."""
    done = {(row["task"], _counted_as(row)) for row in jsonl.rows(path)}
    todo = [
        (task, workflow)
        for workflow, families in counts.items()
        for family, count in families.items()
        for task in _tasks(family, count)
        if (task.id, workflow) not in done
    ]
    random.Random(0).shuffle(todo)  # an interrupted build then holds every kind
    path.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(_make(path, todo, concurrent))


def _tasks(family: str, count: int) -> Iterator[WorldTask]:
    """The first `count` training tasks of a family, over as many seeds as it takes; the seed becomes part of
    the id."""
    made = 0
    for seed in range(100):
        for task in world.load_split("train", family, seed=seed):
            if made == count:
                return
            made += 1
            yield replace(task, id=f"{task.id}/{seed}") if seed else task


async def _make(path: Path, todo: Sequence[tuple[WorldTask, str]], concurrent: int) -> None:
    config = load_config()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    queue = iter(todo)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("demonstrations", total=len(todo))

        async def worker() -> None:
            for task, kind in queue:
                manner: Manner = next((one for one in MANNERS if one == kind), "plain")
                workflow = kind if manner == "plain" else "search_agent"
                demo, is_right = await demonstrate(task, workflow, config, manner=manner)
                jsonl.append(path, {**asdict(demo), "right": is_right})
                progress.advance(bar)

        await asyncio.gather(*(worker() for _ in range(concurrent)))


def load_right(path: Path) -> list[Demonstration]:
    """The right runs of a file."""
    return [_demonstration(row) for row in jsonl.rows(path) if row["right"] and _counted_as(row)]


def summary(path: Path) -> dict[str, tuple[int, int]]:
    """(right, all) runs per workflow and family."""
    tally: dict[str, Counter[bool]] = {}
    for row in jsonl.rows(path):
        tally.setdefault(f"{_counted_as(row)}/{row['family']}", Counter())[row["right"]] += 1
    return {key: (count[True], count.total()) for key, count in sorted(tally.items())}


def _counted_as(row: dict[str, Any]) -> str:
    """The key of `COUNTS` that a row belongs to.

    Raises:
        ValueError: an earlier version of this package made it.
    """
    if "manner" not in row:
        raise ValueError(
            "demonstrations without a manner are an earlier version's; delete their file and make them anew"
        )
    return str(row["workflow"] if row["manner"] == "plain" else row["manner"])


def _demonstration(row: dict[str, Any]) -> Demonstration:
    messages = tuple(Message(m["role"], m["text"], tuple(m["pictures"])) for m in row["messages"])
    crops = tuple(tuple(box) for box in row["crops"])
    fields = {key: row[key] for key in ("task", "workflow", "family", "scene", "name", "answer", "manner")}
    return Demonstration(messages=messages, crops=crops, **fields)


def _message(message: BaseMessage, known: dict[str, int]) -> Message:
    if isinstance(message, AIMessage):
        return Message("assistant", str(message.text))
    blocks = [message.content] if isinstance(message.content, str) else message.content
    texts = [b if isinstance(b, str) else b["text"] for b in blocks if isinstance(b, str) or b["type"] == "text"]
    shown = [known[b["id"]] for b in blocks if isinstance(b, dict) and b["type"] == "image"]
    return Message("user", "".join(texts), tuple(shown))


def _name(steps: Iterable[dict[str, Any]]) -> str | None:
    """Name of the first hit of the last image search, as a page would name it; None: there is none."""
    titles = [step["hits"][0]["title"] for step in steps if step["node"] == "image_search" and step.get("hits")]
    return subject(titles[-1]) if titles else None


def run(args: argparse.Namespace) -> int:
    """Make the missing runs, then print the share of right ones."""
    counts = {
        workflow: {family: max(1, round(count * args.share)) for family, count in families.items()}
        for workflow, families in COUNTS.items()
    }
    make(args.out, counts, concurrent=args.concurrent)
    for key, (good, total) in summary(args.out).items():
        print(f"{key:28} {good:5} right of {total:5}  {good / total:.3f}")
    return 0
