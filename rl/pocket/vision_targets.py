"""Training pictures for the vision tower, with the classes that its read-outs learn.

A scene records what it shows, so every visual token has a label: the entity that covers it, the entity's sort and its
colour. The whole picture has labels too: its background and its numbers of items, flags and things. Only training
entities and the drawings that training may see take part.

Invariant: picture `i` is a function of the seed and `i`, so a resumed run sees the pictures it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageEnhance

from lensgraph.agent.policy.qwen.processor import patches_of
from lensgraph.rl.network.collate import IGNORE, vision_layout
from lensgraph.rl.pocket.pocket_network import PocketSize, build_picture_processor
from lensgraph.rl.pocket.redraw import training_artists
from lensgraph.tools.local.world import entities, measures
from lensgraph.tools.local.world.questions import scenes
from lensgraph.tools.local.world.questions.scenes import Scene
from lensgraph.tools.local.world.sorts import sort_of

SORTS = ("nothing", "flag", "animal", "plant", "food", "vehicle", "building", "object")
COLOURS = tuple(scenes.BACKGROUNDS)
MOST_ITEMS = 6
"""Items of the fullest scene."""
TOKEN_LABELS = ("entity", "sort", "colour")
"""Labels of every visual token."""
PICTURE_LABELS = ("background", "items", "flags", "things")
"""Labels of the whole picture."""


@dataclass(frozen=True)
class LabelledPicture:
    """A picture's patches and its labels."""

    values: Any
    """(patches, pixels of a patch), float32."""
    grid: tuple[int, int, int]
    """(time, height, width) in patches."""
    tokens: dict[str, list[int]]
    """`TOKEN_LABELS`: a class per visual token, or IGNORE."""
    whole: dict[str, int]
    """`PICTURE_LABELS`: a class of the picture."""


class LabelledPictures:
    """Draws training pictures by number, from training entities and the drawings that training may see."""

    def __init__(self, size: PocketSize, seed: int) -> None:
        self.processor, self.seed = build_picture_processor(size), seed
        self.cast = [e for e in entities.select(split="train") if training_artists(e)]
        self.number = {entity.id: n for n, entity in enumerate(self.cast)}
        self.flags = [e for e in self.cast if e.kind == "flag"]
        self.things = [e for e in self.cast if e.kind == "thing"]
        self.known = [e for e in self.cast if e.known]

    def picture(self, number: int) -> LabelledPicture:
        """Training picture `number`. Half of the pictures show one item, as most questions do."""
        rng = random.Random(f"{self.seed}/sight/{number}")
        count = 1 if rng.random() < 0.5 else rng.randint(2, MOST_ITEMS)
        flag_share = rng.choice((0.25, 0.5, 0.75))
        if count == 1:
            cast = [
                rng.choice(self.known if rng.random() < 0.3 else self.flags if rng.random() < 0.55 else self.things)
            ]
        else:
            cast = [rng.choice(self.flags if rng.random() < flag_share else self.things) for _ in range(count)]
        drawn = [(entity.id, rng.choice(training_artists(entity))) for entity in cast]
        scale = rng.choice(((0.8, 1.0), (0.55, 1.0)))
        scene = scenes.compose(drawn, rng, augment=rng.random() < 0.7, scale=scale)
        return self.labelled(scene, shaken(scene.render(), rng) if rng.random() < 0.5 else scene.render())

    def labelled(self, scene: Scene, picture: Image.Image) -> LabelledPicture:
        """A scene's picture with the labels that follow from the scene."""
        values, grid = patches_of(self.processor, picture)
        rows, columns = grid[1] // self.processor.merge_size, grid[2] // self.processor.merge_size
        tokens = {name: [IGNORE] * (rows * columns) for name in ("entity", "colour")}
        tokens["sort"] = [0] * (rows * columns)
        for item in scene.items:
            entity = entities.get(item.entity_id)
            sort, colour = sort_of(entity), measures.shipped()[f"{item.rendition}/{item.entity_id}"].colour
            for cell in covered(item.box, scene.width, scene.height, rows, columns):
                tokens["entity"][cell] = self.number.get(entity.id, IGNORE)
                tokens["sort"][cell] = SORTS.index(sort) if sort else IGNORE
                tokens["colour"][cell] = COLOURS.index(colour) if colour in COLOURS else IGNORE
        flags = sum(item.is_flag for item in scene.items)
        whole = {
            "background": COLOURS.index(scene.background),
            "items": len(scene.items), "flags": flags, "things": len(scene.items) - flags,
        }  # fmt: skip
        return LabelledPicture(values, grid, tokens, whole)

    def classes(self) -> dict[str, int]:
        """Label -> number of its classes."""
        counts = dict.fromkeys(("items", "flags", "things"), MOST_ITEMS + 1)
        colours = dict.fromkeys(("colour", "background"), len(COLOURS))
        return {"entity": len(self.cast), "sort": len(SORTS), **colours, **counts}


def shaken(picture: Image.Image, rng: random.Random) -> Image.Image:
    """The picture a little softer or sharper, and shifted in brightness and colour: artists differ in just that."""
    picture = ImageEnhance.Sharpness(picture).enhance(rng.uniform(0.2, 1.8))
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Color):
        picture = enhancer(picture).enhance(rng.uniform(0.85, 1.15))
    return picture


def covered(box: Sequence[int], width: int, height: int, rows: int, columns: int) -> set[int]:
    """Tokens whose middle lies in a box, and the token that holds the middle of the box.

    `box` is (left, top, right, bottom) in pixels of a picture of `width` x `height`; tokens are numbered row by row.
    """
    left, top, right, bottom = box
    cells = {
        row * columns + column
        for row in range(rows)
        for column in range(columns)
        if left <= (column + 0.5) / columns * width < right and top <= (row + 0.5) / rows * height < bottom
    }
    middle = int((top + bottom) / 2 / height * rows) * columns + int((left + right) / 2 / width * columns)
    return cells | {middle}


def collate(config: Any, pictures: Iterable[LabelledPicture]) -> dict[str, torch.Tensor]:
    """Pictures of any shape as one batch of the vision tower, with a tensor `labels_NAME` for every label."""
    pictures = list(pictures)
    batch = {"pixel_values": torch.cat([torch.from_numpy(one.values) for one in pictures])}
    batch |= vision_layout(torch.tensor([one.grid for one in pictures]), config)
    for name in TOKEN_LABELS:
        batch[f"labels_{name}"] = torch.tensor([label for one in pictures for label in one.tokens[name]])
    for name in PICTURE_LABELS:
        batch[f"labels_{name}"] = torch.tensor([one.whole[name] for one in pictures])
    return batch
