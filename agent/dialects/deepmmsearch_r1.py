"""The protocol of DeepMMSearch-R1 (arXiv 2510.12801): crops, repeated text search, text-only results.

Where the paper is silent the choices are this project's: a search over a limit ends the episode, a region that is not
found falls back to the whole picture with a note, a failed tool is an error sentence inside the information block.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from lensgraph.agent.actions import Action, Answer, GiveUp, Malformed, SearchByImage, SearchByText
from lensgraph.agent.dialects import tags
from lensgraph.agent.dialects.base import Block, Dialect, text_block
from lensgraph.agent.dialects.growing import Growing
from lensgraph.agent.limits import Limits
from lensgraph.tools.results import Hit

ACTIONS = ("answer", "text_search", "img_search")
_TAG = re.compile(r"</?(answer|text_search|img_search)>")


class DeepMMSearchR1(Dialect):
    """Strict reading: the action is the tag pair that ends the stripped turn."""

    name: ClassVar[str] = "deepmmsearch_r1"
    default_limits: ClassVar[Limits] = Limits(image=1, calls=10, turns=12, tokens=8192)
    image_hits = 5
    text_hits = 5
    snippet_chars: ClassVar[int] = 1200
    missing_region: ClassVar[Literal["tell", "whole"]] = "whole"

    def read(self, text: str) -> Action:
        """Rows 1 to 8 of the published state machine."""
        pair = tags.closing_pair(text.strip(), ACTIONS)
        if pair is None:
            return Malformed("the turn does not end in an action")
        tag, payload = pair[0], pair[1].strip()
        if tag == "answer":
            return GiveUp() if tags.gives_up(payload) else Answer(payload)
        if not payload:
            return Malformed(f"the {tag} is blank")
        if tag == "text_search":
            return SearchByText(" ".join(payload.split("\n")))
        if payload == tags.WHOLE:
            return SearchByImage()
        if "<" in payload or ">" in payload or payload.lower() == "img":
            return Malformed(f"{payload[:40]!r} names no region")
        return SearchByImage(payload)

    def read_leniently(self, text: str) -> Action:
        """Also other spellings, trailing text, unclosed tags and bare answers."""
        return tags.read_leniently(text, regions=True, crops=False)

    def write(self, thought: str, action: Action) -> str:
        """A turn in this protocol's tags."""
        return tags.write(thought, action, "img_search", regions=True)

    def thought(self, text: str) -> str:
        """The text in the reason tags."""
        return tags.thought(text)

    def growing(self) -> Growing:
        """The text in the tags while it is being written."""
        return Growing(collapse=self.lenient)

    def well_formed(self, turns: Sequence[str]) -> bool:
        """One reason pair and one action a turn, payloads filled, the answer last, limits kept."""
        actions = [self._format_of(turn.strip()) for turn in turns]
        if not actions or None in actions or actions[-1] != "answer" or "answer" in actions[:-1]:
            return False
        searches = len(actions) - 1
        within = self.limits.calls is None or searches <= self.limits.calls
        return within and (self.limits.image is None or actions.count("img_search") <= self.limits.image)

    reason_required: ClassVar[bool] = True
    """Whether a turn without reasoning breaks the format."""

    def _format_of(self, turn: str) -> str | None:
        """The turn's action tag if the turn keeps the rules, else None."""
        reasons = (turn.count("<reason>"), turn.count("</reason>"))
        if reasons != (1, 1) and (self.reason_required or reasons != (0, 0)):
            return None
        found = list(_TAG.finditer(turn))
        pair = tags.closing_pair(turn, ACTIONS)
        if pair is None or [match[0] for match in found] != [f"<{pair[0]}>", f"</{pair[0]}>"]:
            return None
        if reasons == (1, 1):
            opening, closing = turn.find("<reason>"), turn.find("</reason>")
            if opening != 0 or not closing < found[0].start():
                return None
        if not pair[1].strip() or isinstance(self.read(turn), Malformed):
            return None
        return pair[0]

    def information(self, entries: list[Block]) -> list[Block]:
        """`<information>` ... `</information>` and a newline before the stage prompt."""
        return [text_block("<information>"), *entries, text_block("</information>\n")]

    def _image_entry(self, hit: Hit) -> str:
        return self._text_entry(hit)
