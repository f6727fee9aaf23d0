"""The policy that a supervised run begins with, and the rows that it learns from."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.qwen.processor import load_processor
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.pocket import demonstrations, pocket_network
from lensgraph.rl.pocket.invent import Demonstration, Lexicon, rewrite
from lensgraph.rl.pocket.rephrase import Rephrasing
from lensgraph.rl.rollout.trajectory import TrajectoryStore
from lensgraph.rl.supervised.demonstration_rows import DemonstrationRows
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.rl.supervised.trajectory_rows import TrajectoryRows

Start = tuple[Any, Any, DemonstrationRows | TrajectoryRows]


def start(recipe: SFTRecipe, *, dry_run: bool = False) -> Start:
    """Processor, network and rows of a recipe; missing demonstrations are made first (a few, for a dry run, which writes
    none)."""
    if recipe.trajectories is not None and recipe.start_from is not None:
        return _from_trajectories(recipe.start_from, recipe.trajectories, recipe.seed)
    return _from_demonstrations(recipe, _few() if dry_run and not recipe.demonstrations.is_file() else _all(recipe))


def _few() -> list[Demonstration]:
    """The right runs of one task of every kind."""
    with tempfile.TemporaryDirectory() as nowhere:
        path = Path(nowhere) / "few.jsonl"
        demonstrations.make(
            path, {kind: dict.fromkeys(families, 1) for kind, families in demonstrations.COUNTS.items()}
        )
        return demonstrations.load_right(path)


def _all(recipe: SFTRecipe) -> list[Demonstration]:
    """The right runs of the recipe's file, which is made first if it is missing."""
    recipe.demonstrations.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{recipe.demonstrations}.lock"):  # one process makes them, the others wait
        if not recipe.demonstrations.is_file():
            partial = recipe.demonstrations.with_suffix(".part")  # a killed build must not pass for a whole one
            demonstrations.make(partial)
            partial.replace(recipe.demonstrations)
    return demonstrations.load_right(recipe.demonstrations)


def _from_demonstrations(recipe: SFTRecipe, shown: list[Demonstration]) -> Start:
    """A policy of the pocket's size, new or from a checkpoint, and rows about the embedded world."""
    lexicon = demonstrations.lexicon()
    if recipe.start_from is None:
        tokenizer = pocket_network.train_tokenizer(_tokenizer_texts(shown, recipe, lexicon), recipe.size.vocabulary)
        processor = pocket_network.build_processor(tokenizer, recipe.size)
        policy = pocket_network.build_network(processor, recipe.size, seed=recipe.seed)
    else:
        processor, policy = load_processor(recipe.start_from), pocket_network.load_network(recipe.start_from)
    if recipe.sight is not None:
        pocket_network.graft(policy, recipe.sight)
        processor.image_processor = pocket_network.build_picture_processor(recipe.size)
    held_out = {name.lower() for name in lexicon.forbidden}
    pieces = tuple(piece for piece in pocket_network.pieces(processor.tokenizer) if piece.lower() not in held_out)
    renderer = Renderer(processor, cached_pictures=0)
    return processor, policy, DemonstrationRows(shown, renderer, recipe, replace(lexicon, pieces=pieces))


def _tokenizer_texts(shown: Sequence[Demonstration], recipe: SFTRecipe, lexicon: Lexicon) -> Iterator[str]:
    """Texts to train the tokenizer on: demonstrations as they are and rewritten, without the held-out names."""
    rng = random.Random(recipe.seed)
    rephrasing = Rephrasing(shown if recipe.rephrase_share else ())
    for demo in shown:
        for share in (0.0, 1.0):
            told = rewrite(rephrasing(demo, rng) if share else demo, rng, lexicon, share=share)
            yield from (message.text for message in told.messages)


def _from_trajectories(model: Path, folder: Path, seed: int) -> Start:
    """A checkpoint of the family, and the trajectories that it imitates."""
    processor = load_processor(model)
    rows = TrajectoryRows(TrajectoryStore(folder), Renderer(processor), seed)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    policy = families.load_network(model, dtype)
    return processor, policy, rows
