"""Flags that do not exist, for the entities that rewriting invents.

There are few flags, so a policy that saw all training flags takes a flag that it never saw for the nearest one
that it remembers. An invented entity may therefore show an invented flag: a flag in other colours, with another
drawing on it, or put together from two. It often differs from a known flag in one feature only, so that a part
of it is not enough to tell them apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING

from lensgraph.tools.local.world import entities, renditions

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

LEAST = 12.0
"""Least mean colour difference (0 to 255) from every flag that the artist drew. A drawing on a flag changes
only a part of it, so the bound is low."""
RECOLOURED = 25.0
"""The same for a flag in other colours, because light and artists shift a real flag's colours too."""
SIZE = (24, 16)
"""Width and height, in pixels, of the copies that are compared."""


def lookalike(entity_id: str, rendition: str, rng: random.Random) -> Image.Image:
    """A drawing like this flag that differs from every flag that the artist drew; RGBA, of the same size and outline.

    It is made from training entities. Flags of validation and test are only compared with, to refuse a result
    like them.

    Raises:
        KeyError: the artist did not draw this entity.
    """
    drawing = renditions.load_rendition(entity_id, rendition)
    ways: list[tuple[float, Callable[[], Image.Image]]] = [
        (RECOLOURED, lambda: _recoloured(drawing, rng)),
        (LEAST, lambda: _charged(drawing, _other(entity_id, rendition, rng.choice(("flag", "thing")), rng), rng)),
        (LEAST, lambda: _halved(drawing, _other(entity_id, rendition, "flag", rng), rng)),
    ]
    while True:  # a recoloured or halved tricolour may equal another flag
        least, way = rng.choice(ways)
        made = way()
        made.putalpha(drawing.getchannel("A"))
        if distance(made, rendition) >= least:
            return made


def distance(picture: Image.Image, rendition: str) -> float:
    """Mean absolute colour difference (0 to 255) from the nearest flag of any split that this artist drew."""
    import numpy as np

    return float(np.abs(_flags(rendition) - _small(picture)).mean(axis=(1, 2, 3)).min())


@cache
def _flags(rendition: str) -> np.ndarray:
    """Every flag of an artist, float32 (flags, height, width, 3)."""
    import numpy as np

    flags = [one for one in renditions.encoded(rendition) if one.startswith("flag:")]
    return np.stack([_small(renditions.load_rendition(one, rendition)) for one in flags])


def _small(picture: Image.Image) -> np.ndarray:
    """A small copy on grey, float32 (height, width, 3)."""
    import numpy as np
    from PIL import Image

    ground = Image.new("RGB", picture.size, (128, 128, 128))
    ground.paste(picture, mask=picture.getchannel("A"))
    return np.asarray(ground.resize(SIZE), dtype=np.float32)


def _other(entity_id: str, rendition: str, kind: entities.Kind, rng: random.Random) -> Image.Image:
    """A drawing of another training entity of that kind, by the same artist if that artist draws the kind."""
    drawn = [e.id for e in entities.select(split="train", kind=kind) if e.id != entity_id]
    artists = [*renditions.TRAIN_QUERIES[kind], *renditions.INDEXED[kind]]
    artist = rendition if rendition in artists else rng.choice(artists)
    return renditions.load_rendition(rng.choice([one for one in drawn if renditions.has(one, artist)]), artist)


def _recoloured(drawing: Image.Image, rng: random.Random) -> Image.Image:
    """The drawing with its red, green and blue channels exchanged."""
    from PIL import Image

    bands = drawing.convert("RGB").split()
    order = rng.choice([p for p in permutations(range(3)) if p != (0, 1, 2)])
    return Image.merge("RGB", [bands[band] for band in order])


def _charged(drawing: Image.Image, charge: Image.Image, rng: random.Random) -> Image.Image:
    """The drawing with another one on it, in the upper left or anywhere."""
    from PIL import Image

    made = Image.new("RGB", drawing.size)
    made.paste(drawing)
    share = rng.uniform(0.2, 0.6)
    fit = share * min(drawing.width / charge.width, drawing.height / charge.height)
    small = charge.resize((max(4, round(charge.width * fit)), max(4, round(charge.height * fit))))
    left, top = (0.04, 0.06) if rng.random() < 0.3 else (rng.random(), rng.random())
    place = (round((drawing.width - small.width) * left), round((drawing.height - small.height) * top))
    made.paste(small, place, small)
    return made


def _halved(drawing: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """The drawing with one half, vertical or horizontal, of another flag."""
    from PIL import Image

    made = Image.new("RGB", drawing.size)
    made.paste(drawing)
    fitted = other.resize(drawing.size)
    width, height = drawing.size
    box = rng.choice(
        [
            (0, 0, width // 2, height),
            (width // 2, 0, width, height),
            (0, 0, width, height // 2),
            (0, height // 2, width, height),
        ]
    )
    part = fitted.crop(box)
    made.paste(part, box[:2], part)
    return made
