"""Ask a training question in other words, with wordings that no task uses.

A policy soon knows a relation's few task wordings by heart, and takes a question in any other words for another
relation. `paraphrases.txt` holds further wordings, in the format of `lensgraph.tools.local.world.questions.phrasings`.
They were written without sight of the reserved wordings, and no task of any split uses them.

Invariants (tested): no paraphrase is a reserved wording; a rephrased row differs from its source only in the
question and in the words of a lay query.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from lensgraph.rl.pocket.invent import Demonstration, Message
from lensgraph.rl.tasks import Task
from lensgraph.tools.local.world import entities
from lensgraph.tools.local.world.questions import phrasings, splits, wording
from lensgraph.tools.local.world.questions.phrasings import Frames, Phrasing
from lensgraph.tools.local.world.questions.world_task import WorldTask

FILE = Path(__file__).parent / "paraphrases.txt"


@cache
def paraphrases() -> dict[str, phrasings.Wordings]:
    """Further wordings by relation, or by name of `Frames`."""
    return phrasings.parse(FILE.read_text(encoding="utf-8"))


def rephrased(task: WorldTask, rng: random.Random) -> WorldTask:
    """The task in a wording drawn evenly from its open ones and its paraphrases; a lay question stays lay."""
    relation, _, number = task.phrasing.partition("/")
    lay = number.startswith("lay-")
    chosen = rng.choice(_options(relation, lay))
    entity = entities.get(task.entity_id) if task.entity_id else None
    question = wording.worded(chosen.text, entity, task.target, lambda name: rng.choice(_frames(name)))
    query = task.query_lay
    if lay:
        old = next(p.lay_query for p in phrasings.wordings()[relation].lay if p.id == task.phrasing)
        query = query.removesuffix(old) + chosen.lay_query
    return replace(task, question=question, query_lay=query)


def in_other_words(task: Task, rng: random.Random, share: float) -> Task:
    """The task, with probability `share` in another wording; one that is not the embedded world's stays as it is."""
    if task.world is None or rng.random() >= share:
        return task
    world = rephrased(task.world, rng)
    return replace(task, question=world.question, world=world)


@cache
def _options(relation: str, lay: bool) -> tuple[Phrasing, ...]:
    known, more = phrasings.wordings()[relation], paraphrases()[relation]
    both = (*known.lay, *more.lay) if lay else (*known.formal, *more.formal)
    return tuple(phrasing for phrasing in both if not phrasing.reserved)


@cache
def _frames(name: Frames) -> tuple[str, ...]:
    return (*phrasings.frames(name, reserved=False), *(frame.text for frame in paraphrases()[name].formal))


class Rephrasing:
    """Rephrases demonstrations of training tasks."""

    def __init__(self, demonstrations: Iterable[Demonstration]) -> None:
        wanted = {demo.task for demo in demonstrations}
        self.tasks: dict[str, WorldTask] = {}
        for seed in range(1 + max((_seed(name) for name in wanted), default=0)):
            for task in splits.load_split("train", seed=seed):
                name = f"{task.id}/{seed}" if seed else task.id
                if name in wanted:
                    self.tasks[name] = task

    def __call__(self, demo: Demonstration, rng: random.Random) -> Demonstration:
        """The demonstration with its question in other words; unchanged if it does not begin with its task's
        question."""
        task = self.tasks.get(demo.task)
        first, *rest = demo.messages
        if task is None or not first.text.startswith(task.question):
            return demo
        other = rephrased(task, rng)
        asked = replace(first, text=other.question + first.text.removeprefix(task.question))
        return replace(demo, messages=(asked, *(_requeried(message, task, other) for message in rest)))


def _requeried(message: Message, old: WorldTask, new: WorldTask) -> Message:
    """A turn that asks the lay query, with the new lay words."""
    if message.role != "assistant" or not old.query_lay or old.entity_id is None:
        return message
    name = entities.get(old.entity_id).name
    was, words = (query.removeprefix(name) for query in (old.query_lay, new.query_lay))
    return replace(message, text=message.text.replace(f"{was}<", f"{words}<"))


def _seed(name: str) -> int:
    """The seed at the end of a demonstration's task id (`world/train/known/00542/1`); 0 if there is none."""
    parts = name.split("/")
    return int(parts[4]) if len(parts) > 4 else 0
