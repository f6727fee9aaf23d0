"""Training rows from demonstrations of the embedded world.

A row is made when the trainer asks for it: a demonstration of some family is drawn, put in other words
(`lensgraph.rl.pocket.rephrase`), rewritten to tell of an invented entity (`lensgraph.rl.pocket.invent`), drawn
anew (`lensgraph.rl.pocket.redraw`), and turned into tokens by the renderer that also serves the policy. The
loss mask covers the policy's own turns only.

Invariant: row `i` of a run is a function of the recipe's seed and `i`, so a resumed run sees the rows it would
have seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.rl.pocket.invent import Demonstration, Lexicon, Manner, rewrite, worn
from lensgraph.rl.pocket.invented_flags import lookalike
from lensgraph.rl.pocket.redraw import is_redrawn, redraw
from lensgraph.rl.pocket.rephrase import Rephrasing
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.tools.local.world import entities


class DemonstrationRows:
    """Draws training rows by number."""

    def __init__(
        self, demonstrations: Sequence[Demonstration], renderer: Renderer, recipe: SFTRecipe, lexicon: Lexicon
    ) -> None:
        self.renderer, self.recipe, self.lexicon = renderer, recipe, lexicon
        self.rephrasing = Rephrasing(demonstrations if recipe.rephrase_share else ())
        self._pixels: dict[str, list[Pixels]] = {}
        self.unknown = {
            kind: [entity for entity in entities.select(split="train", kind=kind) if not entity.known]
            for kind in ("flag", "thing")
        }
        known = [flag for flag in entities.select(split="train", kind="flag") if flag.known]
        # an invented flag is made from one of the few known flags as often as from one of the many others
        self.bases = (known, self.unknown["flag"])
        self.shelves: dict[tuple[str, str, str, Manner], list[Demonstration]] = {}
        """Demonstrations by graph, family, kind of picture and manner."""
        for demo in demonstrations:
            self.shelves.setdefault((demo.workflow, demo.family, _kind(demo), demo.manner), []).append(demo)
        self.odds = [self._odds(*shelf) for shelf in self.shelves]

    def _odds(self, workflow: str, family: str, kind: str, manner: Manner) -> float:
        """Relative weight of a shelf: its family's weight times its share of the family."""
        weights = self.recipe.weights
        like = {key: len(demos) for key, demos in self.shelves.items() if key[:2] == (workflow, family)}
        whole = sum(count for key, count in like.items() if key[3] == manner)
        share = like[workflow, family, kind, manner] / whole * weights.get(f"{family}/{kind}", 1.0)
        if len({key[3] for key in like}) > 1:
            other = self.recipe.frugal_share if family == "correction" else self.recipe.eager_share
            share *= 1 - other if manner == "plain" else other
        return self.recipe.workflows.get(workflow, 0.0) * weights.get(family, 1.0) * share

    def row(self, number: int) -> Rendered:
        """Training row `number`. The rows of one batch share graph and family, so that little of it is padding."""
        batch = random.Random(f"{self.recipe.seed}/batch/{number // self.recipe.batch}")
        shelf = batch.choices(list(self.shelves), self.odds)[0]
        rng = random.Random(f"{self.recipe.seed}/{number}")
        demo = rng.choice(self.shelves[shelf])
        if rng.random() < self.recipe.rephrase_share:
            demo = self.rephrasing(demo, rng)
        # an eager demonstration shows a known answer; an invented entity would make it an unknown one
        told = rewrite(demo, rng, self.lexicon, share=0.0 if demo.manner == "eager" else self.recipe.rewrite_share)
        if is_redrawn(demo) and demo.workflow == "search_agent" and rng.random() < self.recipe.worn_share:
            asked, *rest = told.messages
            told = replace(told, messages=(replace(asked, text=worn(asked.text, rng)), *rest))
        invented_flag = False
        if told.name != demo.name and (kind := _kind(demo)) in self.unknown:
            # the row tells of an invented entity: show any unknown picture, or an invented flag
            share = self.recipe.lookalike_share if kind == "flag" else 0.0
            invented_flag = share > 0 and rng.random() < share  # at 0 nothing is drawn from rng: rows stay
            pool = self.bases[rng.randrange(2)] if invented_flag else self.unknown[kind]
            items = [{**demo.scene["items"][0], "entity_id": rng.choice(pool).id}]
            told = replace(told, scene={**demo.scene, "items": items})
        return self.renderer.render(self.messages(told, rng, invented_flag=invented_flag), generate=False)

    def messages(self, demo: Demonstration, rng: random.Random, *, invented_flag: bool = False) -> list[BaseMessage]:
        """The demonstration as chat messages with its pictures; with `invented_flag` the first picture shows
        such a flag."""
        shown = self.pixels(demo, rng, invented_flag=invented_flag)
        messages: list[BaseMessage] = []
        for message in demo.messages:
            if message.role == "assistant":
                messages.append(AIMessage(message.text))
                continue
            blocks: list[str | dict[str, Any]] = [{"type": "image", "pixels": shown[n]} for n in message.pictures]
            messages.append(HumanMessage([*blocks, {"type": "text", "text": message.text}]))
        return messages

    def pixels(self, demo: Demonstration, rng: random.Random, *, invented_flag: bool = False) -> list[Pixels]:
        """The question's picture and its crops: drawn for every row if `is_redrawn`, else once a demonstration."""
        anew, key = is_redrawn(demo), f"{demo.task}/{demo.workflow}"
        if not anew and key in self._pixels:
            return self._pixels[key]
        # kept pixels must not depend on the row that asked for them first
        scene = redraw(demo, rng if anew else random.Random(f"{self.recipe.seed}/{key}"))
        item = scene.items[0]
        picture = scene.render({0: lookalike(item.entity_id, item.rendition, rng)} if invented_flag else None)
        views = [picture, *(picture.crop(box) for box in demo.crops)]
        drawn = [self.renderer.pixels({"image": view}) for view in views]
        if not anew:
            self._pixels[key] = drawn
        return drawn


def _kind(demo: Demonstration) -> str:
    """`flag` or `thing` if the picture shows a single entity that may be drawn anew, else `scene`."""
    return str(demo.scene["items"][0]["entity_id"]).partition(":")[0] if is_redrawn(demo) else "scene"
