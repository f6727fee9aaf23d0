"""Scripted policies and tools that answer at once, for tests, examples and the bench. Never a default.

`ScriptedPolicy(["<text_search>q</text_search>", "<answer>a</answer>"])` plays the policy; `FixedText`, `FixedImage` and
`FixedLocator` return what they were given and remember what they were asked.
"""

from __future__ import annotations

from typing import Any, ClassVar

from PIL import Image
from pydantic import Field

from lensgraph.agent.config import DialectConfig
from lensgraph.agent.context import Context, default_config
from lensgraph.agent.images import ImageStore
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.tools.base import ImageSearch, Locator, TextSearch
from lensgraph.tools.results import Box, Hit, LocateResult, Region, SearchResult, ToolFailure

PAGE = Hit(title="Kestrel Point Light", url="https://example.org/kestrel", snippet="Automated in 1987.", score=0.9)
"""The one page of this little web."""


class FixedText(TextSearch):
    """Finds the same hits for every query; none: fails."""

    on_this_machine: ClassVar[bool] = True

    hits: list[Hit] = [PAGE]
    """The results."""
    asked: list[str] = Field(default_factory=list, exclude=True)
    """The queries, in order."""

    async def asearch(self, query: str) -> SearchResult:
        """The fixed hits."""
        self.asked.append(query)
        if not self.hits:
            raise ToolFailure("unavailable", "the text search is down")
        return SearchResult(kind="text", query=query, hits=self.hits)


class FixedImage(ImageSearch):
    """Finds the same hits for every picture; none: fails."""

    on_this_machine: ClassVar[bool] = True

    hits: list[Hit] = [PAGE]
    """The results."""
    asked: list[tuple[int, int]] = Field(default_factory=list, exclude=True)
    """Sizes of the pictures, in order."""

    async def asearch(self, image: Image.Image) -> SearchResult:
        """The fixed hits."""
        self.asked.append(image.size)
        if not self.hits:
            raise ToolFailure("unavailable", "the image search is down")
        return SearchResult(kind="image", query="image", hits=self.hits)


class FixedLocator(Locator):
    """Finds the same box for every expression; None: finds nothing."""

    on_this_machine: ClassVar[bool] = True

    box: Box | None = Box(left=8, top=8, right=24, bottom=24)
    """The box that is found."""
    asked: list[str] = Field(default_factory=list, exclude=True)
    """The expressions, in order."""

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        """The fixed box."""
        self.asked.append(expression)
        regions = [Region(box=self.box, score=1.0)] if self.box else []
        return LocateResult(expression=expression, regions=regions)


def context(turns: Any, dialect: Any = "compact", **fields: Any) -> Context:
    """A run with a scripted policy, fixed tools and a store of its own; `fields` replace any of them."""
    defaults: dict[str, Any] = {
        "policy": ScriptedPolicy(turns),
        "text_search": FixedText(),
        "image_search": FixedImage(),
        "locate": FixedLocator(),
        "store": ImageStore(),
    }
    if isinstance(dialect, str):  # by configuration: a name in the context is a caller's choice
        config = fields.get("config") or default_config()
        if config.dialect.name != dialect:
            chosen = DialectConfig.model_validate({"name": dialect, "lenient": config.dialect.lenient})
            fields["config"] = config.model_copy(update={"dialect": chosen})
        dialect = None
    return Context(dialect=dialect, **{**defaults, **fields})


__all__ = ["PAGE", "FixedImage", "FixedLocator", "FixedText", "ScriptedPolicy", "context"]
