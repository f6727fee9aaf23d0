"""The drawings themselves: one picture per entity and rendition (an artist's set).

Invariant: no question shows an indexed picture. `INDEXED` renditions are in the index, questions show `TRAIN_QUERIES` and
`TEST_QUERIES`, and the three roles do not overlap for a kind; `HARD_QUERIES` is for retrieval tables only.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lensgraph.tools.local.world.entities import DATA, Kind

if TYPE_CHECKING:
    from PIL import Image

INDEXED: dict[Kind, tuple[str, ...]] = {"flag": ("flag_icons", "twemoji"), "thing": ("noto", "twemoji")}
"""Renditions in the image index."""
TRAIN_QUERIES: dict[Kind, tuple[str, ...]] = {"flag": ("emojione",), "thing": ("emojione",)}
"""Renditions that training questions show."""
TEST_QUERIES: dict[Kind, tuple[str, ...]] = {"flag": ("flagpack",), "thing": ("fluent_3d",)}
"""Renditions that questions of validation and test show: artists whose work nothing was tuned on."""
HARD_QUERIES: dict[Kind, tuple[str, ...]] = {"flag": ("circle_flags",), "thing": ()}
"""Round, simplified flags: reported in the retrieval table, not asked about."""
RENDITIONS = ("flag_icons", "twemoji", "noto", "emojione", "flagpack", "fluent_3d", "circle_flags")
"""Every set that ships, each in `data/renditions/<name>.zip`."""


@cache
def encoded(rendition: str) -> dict[str, bytes]:
    """Entity id -> webp bytes of one rendition, in the order of the file.

    Raises:
        KeyError: no rendition of this name ships.
    """
    if rendition not in RENDITIONS:
        raise KeyError(f"no rendition {rendition!r}; there are {', '.join(RENDITIONS)}")
    with zipfile.ZipFile(archive(DATA, rendition)) as file:
        return {_entity_id(name): file.read(name) for name in file.namelist()}


def archive(data: Path, rendition: str) -> Path:
    """Path of a rendition's file in a data folder: a zip without compression, which webp would not gain from."""
    return data / "renditions" / f"{rendition}.zip"


def write(path: Path, drawings: Mapping[str, bytes]) -> None:
    """Store drawings (entity id -> webp bytes) so that `encoded` reads them; the same drawings give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for entity_id, data in drawings.items():
            entry = zipfile.ZipInfo(_member(entity_id))  # made by hand, it has a fixed date
            entry.create_system, entry.external_attr = (
                3,
                0o644 << 16,
            )  # an ordinary file on Unix, wherever it is written
            file.writestr(entry, data)


def _member(entity_id: str) -> str:
    """`flag:KE` -> `flag/KE.webp`: a colon is no legal file name on Windows."""
    return f"{entity_id.replace(':', '/')}.webp"


def _entity_id(member: str) -> str:
    return member.removesuffix(".webp").replace("/", ":")


def has(entity_id: str, rendition: str) -> bool:
    """Whether this artist drew this entity."""
    return entity_id in encoded(rendition)


@lru_cache(maxsize=8192)  # all that training draws from: 2,500 pictures of 40 kB
def load_rendition(entity_id: str, rendition: str) -> Image.Image:
    """The picture, RGBA, cut to its outline, at most 128 pixels on its longer side. Shared: do not draw on it."""
    from PIL import Image

    data = encoded(rendition).get(entity_id)
    if data is None:
        raise KeyError(f"rendition {rendition!r} has no picture of {entity_id!r}; check with renditions.has()")
    return Image.open(io.BytesIO(data)).convert("RGBA")
