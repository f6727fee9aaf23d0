"""Rows are drawn by their number, by the shares of the recipe."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict, replace

import pytest
from PIL import Image

from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.pocket.invent import Demonstration, Lexicon, Message
from lensgraph.rl.supervised import demonstration_rows
from lensgraph.rl.supervised.demonstration_rows import DemonstrationRows
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.tools.local.world import entities
from lensgraph.tools.local.world.questions import scenes


def test_rows_depend_on_their_number_only(recipe: SFTRecipe, demonstrations: list, renderer) -> None:
    rows = [DemonstrationRows(demonstrations, renderer, recipe, Lexicon(names=("Peru",))) for _ in range(2)]
    forward = [rows[0].row(n).ids for n in range(6)]
    assert [rows[1].row(n).ids for n in reversed(range(6))] == forward[::-1]


@pytest.fixture
def searched(demonstrations: list[Demonstration]) -> Demonstration:
    """A run that looked an unknown flag up."""
    flag = next(one for one in entities.select(split="train", kind="flag") if not one.known)
    scene = scenes.compose([(flag.id, "emojione")], random.Random(0))
    messages = (
        Message("user", "Whose flag is this?", (0,)),
        Message("assistant", "<reason>I do not know this.</reason><img_search>"),
        Message("user", f"<information>1. Flag of {flag.name} (0.91)</information>"),
        Message("assistant", f"<reason>Found.</reason><answer> {flag.name}</answer>"),
    )
    return Demonstration(
        "world/train/image/00000", "search_agent", "image", asdict(scene), messages, name=flag.name, answer=flag.name
    )


def test_invented_flags_are_made_up_by_their_share(
    recipe: SFTRecipe, searched: Demonstration, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row shows the invented entity, and the other rows show what they would have shown."""
    asked: list[str] = []
    known = {flag.id for flag in entities.select(split="train", kind="flag") if flag.known}

    def shown(colour: str, **changed: float) -> list[tuple[bool, bytes]]:
        """Of 60 rows, whether something was made up and the pixels."""

        def plain(entity_id: str, rendition: str, rng: random.Random) -> Image.Image:
            asked.append(entity_id)
            return Image.new("RGBA", (40, 30), colour)

        asked.clear()
        monkeypatch.setattr(demonstration_rows, "lookalike", plain)
        chosen = recipe.model_copy(update={"rephrase_share": 0.0, "worn_share": 0.0, **changed})
        rows = DemonstrationRows([searched], renderer, chosen, Lexicon(names=("Peru",)))
        found = []
        for number in range(60):
            before = len(asked)
            pixels = rows.row(number).pixels[0].values.tobytes()
            found.append((len(asked) > before, pixels))
        return found

    def made_up(**changed: float) -> int:
        one, other = shown("magenta", **changed), shown("lime", **changed)
        assert [made for made, _ in one] == [a != b for (_, a), (_, b) in zip(one, other, strict=True)]
        return len(asked)

    assert made_up(rewrite_share=1.0, lookalike_share=0.0) == 0
    assert made_up(rewrite_share=0.0, lookalike_share=1.0) == 0
    assert 15 <= made_up(rewrite_share=1.0, lookalike_share=0.5) <= 45
    assert made_up(rewrite_share=1.0, lookalike_share=1.0) == 60
    assert 15 <= sum(one in known for one in asked) <= 45, "from known flags and from others"


def test_made_up_rows_depend_on_their_number_only(
    recipe: SFTRecipe, searched: Demonstration, renderer: Renderer
) -> None:
    chosen = recipe.model_copy(update={"rewrite_share": 1.0, "lookalike_share": 0.5})
    rows = [DemonstrationRows([searched], renderer, chosen, Lexicon(names=("Peru",))) for _ in range(2)]
    forward = [(rows[0].row(n).ids, rows[0].row(n).pixels[0].values.tobytes()) for n in range(8)]
    backward = [(rows[1].row(n).ids, rows[1].row(n).pixels[0].values.tobytes()) for n in reversed(range(8))]
    assert backward[::-1] == forward


def test_an_invented_thing_is_not_made_up(
    recipe: SFTRecipe, searched: Demonstration, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demonstration_rows, "lookalike", lambda *_: pytest.fail("a flag was made up for a thing"))
    thing = next(one for one in entities.select(split="train", kind="thing") if not one.known)
    scene = asdict(scenes.compose([(thing.id, "emojione")], random.Random(0)))
    chosen = recipe.model_copy(update={"rewrite_share": 1.0, "lookalike_share": 1.0})
    rows = DemonstrationRows([replace(searched, scene=scene)], renderer, chosen, Lexicon(names=("Peru",)))
    assert all(rows.row(number).ids for number in range(10))


def test_a_lay_question_is_shown_both_ways_by_its_share(recipe: SFTRecipe, demonstrations: list, renderer) -> None:
    """However many demonstrations there are of each; what is known or in sight goes by another share."""
    first, *rest = demonstrations
    several = [
        *[replace(first, family="correction", manner="plain")] * 5,
        replace(first, family="correction", manner="frugal"),
        *rest,
        *[replace(one, manner="eager") for one in rest],
    ]
    chosen = recipe.model_copy(update={"frugal_share": 0.3, "eager_share": 0.9})
    rows = DemonstrationRows(several, renderer, chosen, Lexicon())
    odds = Counter[tuple[str, str]]()
    for (_, family, _, manner), share in zip(rows.shelves, rows.odds, strict=True):
        odds[family, manner] += share
    for family, manner, share in (("correction", "frugal", 0.3), ("visible", "eager", 0.9), ("known", "eager", 0.9)):
        whole = odds[family, manner] + odds[family, "plain"]
        assert odds[family, manner] / whole == pytest.approx(share)
