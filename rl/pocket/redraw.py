"""Draw a demonstration's picture anew, so that a policy learns the entity and not one drawing of it."""

from __future__ import annotations

import random
from dataclasses import replace

from lensgraph.rl.pocket.invent import Demonstration
from lensgraph.tools.local.world import entities, measures, renditions
from lensgraph.tools.local.world.entities import Entity
from lensgraph.tools.local.world.questions import scenes
from lensgraph.tools.local.world.questions.scenes import Scene


def training_artists(entity: Entity) -> list[str]:
    """Artists whose drawing of an entity training may see."""
    allowed = (*renditions.TRAIN_QUERIES[entity.kind], *renditions.INDEXED[entity.kind])
    return [artist for artist in allowed if f"{artist}/{entity.id}" in measures.shipped()]


def is_redrawn(demo: Demonstration) -> bool:
    """Whether every statement about the picture is about its single entity, and so holds for any drawing of it."""
    return demo.family not in ("visible", "crop_text") and len(demo.scene["items"]) == 1


def redraw(demo: Demonstration, rng: random.Random) -> Scene:
    """The demonstration's scene, varied as far as its statements stay true.

    A single entity (`is_redrawn`) is composed again, by any artist that training may see: else the artist would
    tell whether to search. Elsewhere boxes and colours may matter, so only the noise of the texture and a
    slight shift of the colours change.
    """
    scene = scenes.from_dict(demo.scene)
    if not is_redrawn(demo):
        return replace(scene, seed=rng.getrandbits(32))
    entity = entities.get(scene.items[0].entity_id)
    drawn = [(entity.id, rng.choice(training_artists(entity)))]
    return scenes.compose(drawn, rng, augment=rng.random() < 0.7, scale=(0.5, 1.0))
