"""Boxes that the policy itself draws, in the grounding format of Qwen-VL.

The policy names a region by writing `{"bbox_2d": [x1, y1, x2, y2], "label": "the tower"}` instead of words; nobody has to look
again. Invariant: coordinates are those of the picture that the model saw, after the agent and the model's processor scaled
it; what comes back are pixels of the original picture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field, InstanceOf

from lensgraph.tools.base import Locator
from lensgraph.tools.locate.detector import clipped
from lensgraph.tools.locate.qwen import scaled, shrunk
from lensgraph.tools.results import LocateResult, Region, ToolFailure
from lensgraph.tools.safety.outside_json import read_json

_OBJECT = re.compile(r"\{[^{}]*\}")
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_LIST = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_BOX_KEYS = ("bbox_2d", "bbox", "box_2d")


class BoxReader(Locator):
    """Turns the boxes that a Qwen-VL model writes into pixels of the original picture."""

    coordinates: Literal["pixels", "thousandths"] = "pixels"
    """`pixels` of the picture as the model saw it (Qwen2.5-VL), or `thousandths` of its sides (Qwen2-VL, Qwen3-VL)."""
    view_pixels: int = Field(default=672 * 672 * 2, ge=1)
    """Pixels that the agent shows of a picture at most; the same as `images.view_pixels`."""
    min_pixels: int = Field(default=4 * 28 * 28, ge=1)
    """Fewest pixels of the model's processor, as its preprocessor_config.json says."""
    max_pixels: int = Field(default=16384 * 28 * 28, ge=1)
    """Most pixels of the model's processor, as its preprocessor_config.json says."""
    factor: int = Field(default=28, ge=1)
    """Pixels a side of one token: patch size times merge size."""
    max_regions: int = Field(default=5, ge=1)
    """Most boxes to take."""

    def seen(self, width: int, height: int) -> tuple[int, int]:
        """The size that the model's coordinates refer to."""
        if self.coordinates == "thousandths":
            return 1000, 1000
        shown = shrunk(width, height, self.view_pixels)
        return scaled(*shown, factor=self.factor, least=self.min_pixels, most=self.max_pixels)

    def regions(self, text: str, size: tuple[int, int]) -> list[Region]:
        """The regions of a picture of `size` that a text in the grounding format names; empty if it holds no box."""
        try:
            wide, high = self.seen(*size)
        except ValueError as error:
            raise ToolFailure("bad_input", f"{error}.") from error
        found = []
        for (x1, y1, x2, y2), label in boxes(text)[: self.max_regions]:
            across, down = size[0] / wide, size[1] / high
            corners = [min(x1, x2) * across, min(y1, y2) * down, max(x1, x2) * across, max(y1, y2) * down]
            if (box := clipped(corners, size)) is not None:
                found.append(Region(box=box, score=1.0, label=label))
        return found


class PolicyBoxLocator(BoxReader):
    """Takes an expression that is already a box: `{"bbox_2d": [x1, y1, x2, y2], "label": "..."}`, or a list of such."""

    description: str = (
        'Cut out a box: {"bbox_2d": [x1, y1, x2, y2], "label": "the tower"}, in pixels of the picture as you see it.'
    )
    words: InstanceOf[Locator] | None = None
    """The locator for expressions without a box; a configuration names it by its settings, such as `{use: grounding_dino}`.
    None: they are refused."""

    parts: ClassVar[Mapping[str, Literal["locate"]]] = {"words": "locate"}

    def prepare(self) -> None:
        """Load what the locator for words loads."""
        if self.words is not None:
            self.words.prepare()

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        """Read the box, or pass the words on."""
        if boxes(expression):
            regions = self.regions(expression, image.size)
            if not regions:
                raise ToolFailure("empty", f"{expression[:100]!r} lies outside the picture.")
            return LocateResult(expression=expression, regions=regions)
        if self.words is not None:
            return await self.words.locate(image, expression)
        raise ToolFailure(
            "bad_input",
            f'{expression[:100]!r} holds no box; write {{"bbox_2d": [x1, y1, x2, y2]}} in pixels of the picture.',
        )


def boxes(text: str) -> list[tuple[tuple[float, float, float, float], str]]:
    """Four coordinates and a label for each box that a text holds: JSON objects, fenced or not, also of a list that was cut
    short; or else bare lists of four numbers."""
    found = []
    for match in _OBJECT.finditer(text):
        try:
            item = read_json(match[0])
        except ValueError:
            continue
        corners = _corners(item)
        if corners is not None:
            found.append((corners, str(item.get("label") or "")))
    if not found:
        for match in _LIST.finditer(text):
            x1, y1, x2, y2 = (float(number) for number in match.groups())
            found.append(((x1, y1, x2, y2), ""))
    return found


def _corners(item: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    for key in _BOX_KEYS:
        value = item.get(key)
        if isinstance(value, list) and len(value) == 4 and all(_is_number(number) for number in value):
            x1, y1, x2, y2 = (float(number) for number in value)
            return x1, y1, x2, y2
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
