"""Ask a served vision-language model where something is, in the grounding format of Qwen-VL.

For policies that name a region in words: the same server that answers the questions, or any other that speaks the OpenAI
protocol, draws the box.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any, ClassVar

from PIL import Image
from pydantic import Field

from lensgraph.tools.image.encode import jpeg
from lensgraph.tools.locate.policy_boxes import BoxReader
from lensgraph.tools.locate.qwen import shrunk
from lensgraph.tools.remote import Remote
from lensgraph.tools.results import LocateResult, ToolFailure

QUESTION = (
    "Locate {expression} in the picture. Answer with its bounding box only, as JSON: "
    '[{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}]. If it is not in the picture, answer [].'
)
"""The request to the model."""


class ServedPolicyLocator(BoxReader, Remote):
    """Finds what a phrase names by asking a model behind an OpenAI-compatible server."""

    service: ClassVar[str] = "The locating model"
    key_variable: ClassVar[str] = "LENSGRAPH_LOCATE_API_KEY"
    key_optional: ClassVar[bool] = True
    key_header: ClassVar[str] = "Authorization"
    key_prefix: ClassVar[str] = "Bearer "

    description: str = "Find the part of a picture that a phrase names: 'the red car'. Returns boxes in pixels."
    base_url: str
    """Address of the server, for example http://127.0.0.1:8000/v1."""
    model: str
    """The server's name for the model."""
    max_tokens: int = Field(default=256, ge=16)
    """Longest answer."""

    async def alocate(self, image: Image.Image, expression: str) -> LocateResult:
        """Show the picture, ask, and read the boxes of the answer."""
        picture = base64.b64encode(await asyncio.to_thread(self._shown, image)).decode()
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}},
            {"type": "text", "text": QUESTION.format(expression=expression)},
        ]
        answer = await self.request(
            "POST",
            f"{self.base_url.rstrip('/')}/chat/completions",
            json={
                "model": self.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": self.max_tokens,
            },
        )
        regions = self.regions(_text(answer), image.size)
        if not regions:
            raise ToolFailure("empty", f"{self.service} finds nothing that looks like {expression[:100]!r}.")
        return LocateResult(expression=expression, regions=regions)

    def _shown(self, image: Image.Image) -> bytes:
        small = image.resize(shrunk(*image.size, self.view_pixels), Image.Resampling.BICUBIC)
        return jpeg(small, longest=max(small.size), max_bytes=20_000_000)


def _text(answer: Any) -> str:
    try:
        text = answer["choices"][0]["message"]["content"]
    except (TypeError, KeyError, IndexError):
        text = None
    if not isinstance(text, str):
        raise ToolFailure("malformed", "The locating model's answer holds no text.")
    return text
