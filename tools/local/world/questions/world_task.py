"""The record of one task of the world: a question, its picture, its answers, and labels for analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from lensgraph.tools.local.world.entities import Split
from lensgraph.tools.local.world.facts.relations import Tolerance
from lensgraph.tools.local.world.questions.scenes import Item, Scene

if TYPE_CHECKING:
    from PIL import Image

Family = Literal["visible", "known", "image", "image_text", "crop_text", "correction"]
"""Kinds of question by the searches that answer them; see `questions`."""
FAMILIES: tuple[Family, ...] = get_args(Family)
"""The families in their order."""


@dataclass(frozen=True)
class WorldTask:
    """One question with its picture and its answers."""

    id: str
    """`world/test/image_text/00017`."""
    split: Split
    family: Family
    question: str
    picture: Scene
    golds: tuple[str, ...]
    """Accepted answers, the page's own spelling first."""
    tolerance: Tolerance | None
    relation: str
    """Key of `facts.RELATIONS`, or `name_flag`, `name_thing`, `count_items`, `background`, ..."""
    phrasing: str
    """Id of the wording."""
    entity_id: str | None
    """The entity that is asked about. None: the whole picture."""
    target: str | None
    """The expression that singles the item out (`the second flag from the left`). None: no crop is needed."""
    query_formal: str
    """A query that finds the page. Empty: no text search is needed."""
    query_lay: str
    """The query that the wording suggests and that misses. Empty outside `correction`."""
    page_id: str | None
    """The page that states the answer. None: no page does."""

    @property
    def knowledge(self) -> Literal["visible", "known", "unknown"]:
        """Source of the answer without a search: the pixels (`visible`), memory (`known`) or none (`unknown`)."""
        return self.family if self.family in ("visible", "known") else "unknown"  # type: ignore[return-value]

    @property
    def items(self) -> tuple[Item, ...]:
        """The drawings in the picture, with their boxes."""
        return self.picture.items

    @property
    def item(self) -> Item | None:
        """The drawing that is asked about."""
        return next((item for item in self.items if item.entity_id == self.entity_id), None)

    def render(self) -> Image.Image:
        """The picture, RGB."""
        return self.picture.render()
