"""DeepMMSearch-R1's tags in few tokens, for the pocket policy.

No instructions and no stage prompts; reasoning is optional; few and short results. One tag is added: `<crop>` shows a
region without searching. A search over a limit is told to the policy, which may still answer in a later turn.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from lensgraph.agent.actions import Action, Crop, Malformed
from lensgraph.agent.dialects import tags
from lensgraph.agent.dialects.base import Block, text_block
from lensgraph.agent.dialects.deepmmsearch_r1 import DeepMMSearchR1
from lensgraph.agent.limits import Limits
from lensgraph.tools.results import Hit

_COPIED = re.compile(r"<(answer|text_search|img_search|crop)>(?!<)")


class Compact(DeepMMSearchR1):
    """DeepMMSearch-R1 with fewer tokens; failures and limits are told to the policy."""

    name: ClassVar[str] = "compact"
    default_limits: ClassVar[Limits] = Limits(image=2, text=3, turns=6)
    image_hits = 1
    text_hits = 1
    snippet_chars: ClassVar[int] = 400
    crops: ClassVar[bool] = True
    missing_region: ClassVar[Literal["tell", "whole"]] = "tell"
    over_limit: ClassVar[Literal["tell", "end"]] = "tell"
    # Its policy learned from dialogues of one question, and repeats its first answer in a longer one.
    follow_up: ClassVar[Literal["continue", "restart"]] = "restart"
    reason_required: ClassVar[bool] = False

    def read(self, text: str) -> Action:
        """DeepMMSearch-R1's rules, and the crop tag."""
        pair = tags.closing_pair(text.strip(), ("crop",))
        if pair is None:
            return super().read(text)
        region = pair[1].strip()
        if not region or "<" in region or ">" in region:
            return Malformed(f"{region[:40]!r} names no region")
        return Crop(region)

    def read_leniently(self, text: str) -> Action:
        """Also other spellings, trailing text, unclosed tags and bare answers."""
        return tags.read_leniently(text, regions=True, crops=True)

    def write(self, thought: str, action: Action) -> str:
        """A turn in these tags, with a space before what a small policy copies.

        Words inside a text begin with a space, and byte-level tokens with and without one are strangers to each other.
        Reading strips it.
        """
        if isinstance(action, Crop):
            text = f"<crop>{action.region}</crop>"
            text = f"<reason>{thought}</reason>{text}" if thought else text
        else:
            text = super().write(thought, action)
        return _COPIED.sub(r"<\1> ", text)

    def information(self, entries: list[Block]) -> list[Block]:
        """`<information>` ... `</information>`, and nothing behind it."""
        return [text_block("<information>"), *entries, text_block("</information>")]

    def _image_entry(self, hit: Hit) -> str:
        return super(DeepMMSearchR1, self)._image_entry(hit)
