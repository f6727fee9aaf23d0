"""A dialect writes questions and observations as text and reads actions from text. No tag is written down elsewhere.

Invariants: `parse` returns exactly one action for every text; text from outside passes `tools.safety.escape` on its way
into a message; image blocks in messages hold ids only. A dialect knows no tool, no store and no model.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from lensgraph.agent.actions import Action, Crop, OverLimit, SearchByImage, SearchByText
from lensgraph.agent.chat import tool_calls
from lensgraph.agent.chat.tool_calls import ToolUse
from lensgraph.agent.dialects import prompts as prompt_files
from lensgraph.agent.dialects.growing import Growing
from lensgraph.agent.dialects.growing_calls import GrowingCalls
from lensgraph.agent.images import Picture, View
from lensgraph.agent.limits import Limits, Spent
from lensgraph.tools.results import Hit, SearchResult, ToolError
from lensgraph.tools.safety.escape import entry, line, neutral

Block = dict[str, Any]
_PLACEHOLDER = re.compile(r"(<image>|\{question\}|\{information\})")
TITLE_CHARS = 200
"""Characters of a title that are shown: search engines cut far earlier, a hostile page would not."""
ERROR_CHARS = 300
"""Characters of an error message that the policy is shown."""
ENDED = "The question ended with this turn."
"""The answer to a call that was open when a question ended, such as the one that answered it."""


class Dialect(ABC):
    """A protocol between graph and policy. A subclass defines the tags; limits, leniency and wording are options."""

    name: ClassVar[str]
    """Short name in the configuration."""
    default_limits: ClassVar[Limits]
    """The protocol's limits; the user's limits replace single values."""
    image_hits: int
    """Image results shown to the policy: the protocol's number, unless `tools.image_search.k` sets another."""
    text_hits: int
    """Text results shown to the policy: the protocol's number, unless `tools.text_search.k` sets another."""
    snippet_chars: ClassVar[int]
    """Characters of a result's text that are shown."""
    thumbnails: ClassVar[bool] = False
    """Whether image results show their picture to the policy."""
    crops: ClassVar[bool] = False
    """Whether the policy may look closer at a region without searching."""
    smallest_picture: ClassVar[int] = 0
    """Pixels to which a smaller picture of the question is scaled up for the policy; 0: none is. Thumbnails never are."""
    nearest: ClassVar[bool] = False
    """Whether pictures of the question are scaled by the nearest neighbour, as in the training of a checkpoint."""
    missing_region: ClassVar[Literal["tell", "whole"]] = "tell"
    """Region not found: tell the policy, or search with the whole picture and note it."""
    over_limit: ClassVar[Literal["tell", "end"]] = "end"
    """A search over a limit: end the episode as in the papers, or tell the policy and go on to the last turn."""
    follow_up: ClassVar[Literal["continue", "restart"]] = "continue"
    """A further question in a thread goes on in the policy's dialogue, or opens a new one with the thread's pictures."""
    stop: ClassVar[list[str]] = []
    """Strings that end a turn of the policy; empty: its end-of-turn token is enough."""

    def __init__(
        self,
        *,
        lenient: bool = False,
        limits: Mapping[str, int | float | None] | None = None,
        prompts: str | Path | None = None,
        image_hits: int | None = None,
        text_hits: int | None = None,
    ) -> None:
        """`lenient` accepts near misses; `limits` replaces single fields of `default_limits`; `prompts` is a file or
        folder, see `load_prompts`; `image_hits` and `text_hits` replace the protocol's numbers of results."""
        self.lenient = lenient
        self.image_hits = self.image_hits if image_hits is None else image_hits
        self.text_hits = self.text_hits if text_hits is None else text_hits
        self.limits = self.default_limits.with_(**(limits or {}))
        self.prompts = self.load_prompts(Path(prompts).expanduser()) if prompts else prompt_files.packaged(self.name)

    def load_prompts(self, path: Path) -> dict[str, str]:
        """The user's wording: a YAML file with the same keys as the packaged one."""
        if path.suffix in (".yaml", ".yml"):
            return prompt_files.from_yaml(path)
        raise prompt_files.PromptError(
            f"dialect.prompts: {path} is no .yaml file, and no prompts were published for {self.name}; give a .yaml file."
        )

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools that the policy may call. Empty: it writes its actions as text."""
        return []

    # --- reading

    def read_turn(self, turn: AIMessage) -> list[Action]:
        """The actions of a turn in their order, limits aside. There is one, unless the actions are calls of tools."""
        text = tool_calls.as_text(turn)
        return [self.read_leniently(text) if self.lenient else self.read(text)]

    def parse(self, text: str, counts: Spent) -> Action:
        """The action that a turn asks for, held against the limits."""
        action = self.read_leniently(text) if self.lenient else self.read(text)
        return self.limited(action, counts)

    @abstractmethod
    def read(self, text: str) -> Action:
        """The action by the protocol's strict rules, limits aside."""

    @abstractmethod
    def read_leniently(self, text: str) -> Action:
        """The action that the policy most likely meant, by lenient rules."""

    @abstractmethod
    def thought(self, text: str) -> str:
        """The reasoning in a turn; empty if there is none."""

    def growing(self) -> Growing | GrowingCalls | None:
        """Reads a turn while it is being written. None: it says nothing before it is there."""
        return None

    @abstractmethod
    def well_formed(self, turns: Sequence[str]) -> bool:
        """Whether a whole episode keeps the protocol's format rules (the papers' format score)."""

    def limited(self, action: Action, counts: Spent) -> Action:
        """The action itself, or that it is over a limit."""
        kinds: dict[type, Literal["image", "text", "crop"]] = {
            SearchByImage: "image", SearchByText: "text", Crop: "crop",
        }  # fmt: skip
        if isinstance(action, SearchByImage | SearchByText | Crop):
            stop = self.limits.check(kinds[type(action)], counts)
            return action if stop is None else OverLimit(action, stop)
        return action

    # --- showing

    def view(self, block: Mapping[str, Any], largest: int) -> View:
        """The sizes at which the policy is shown the picture of an image block; `largest` is the configured one."""
        if block.get("thumbnail"):
            return View(largest)
        return View(largest, min(self.smallest_picture, largest), self.nearest)

    # --- writing

    @abstractmethod
    def write(self, thought: str, action: Action) -> str:
        """A turn that `read` reads as `action`; demonstrations are written with it. No thought: no reason tags.

        Raises:
            ValueError: the protocol has no words for this action.
        """

    def deliver(
        self, observation: HumanMessage, dialogue: Sequence[BaseMessage], *, last: bool = False
    ) -> list[BaseMessage]:
        """The messages that tell the policy of an observation, behind this dialogue. `last`: no other of the turn's calls is
        carried out."""
        return [observation]

    def refuse(self, call: ToolUse | None, error: ToolError, *, question: str) -> BaseMessage:
        """The message that tells the policy why one of its actions is not carried out; `call` is the call that asked for it."""
        return self.observe_failure("text", error, question=question)

    def closing(self, dialogue: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The messages that close an earlier question, before another one opens: no call may stay without an answer."""
        return [tool_calls.answered(call, ENDED) for call in tool_calls.unanswered(dialogue)]

    def first(self, question: str, images: Sequence[str]) -> list[BaseMessage]:
        """The turn that opens a question."""
        return [self._message(self._fill("first", question, images))]

    def direct(self, question: str, images: Sequence[str]) -> list[BaseMessage]:
        """The turn of the direct baseline: answer without any search."""
        return [self._message(self._fill("direct", question, images))]

    def rag_query(
        self,
        question: str,
        images: Sequence[str],
        result: SearchResult,
        *,
        thumbnails: Sequence[str | None] = (),
    ) -> list[HumanMessage]:
        """The RAG baseline's opening turn, after its forced image search: write a text query."""
        information = self.information(self._image_entries(result, thumbnails))
        return [self._message(self._fill("rag_query", question, images, information))]

    def rag_answer(self, result: SearchResult, *, question: str) -> HumanMessage:
        """The RAG baseline's last turn: the text results, and answer now."""
        return self._message([*self.information(self._text_entries(result)), *self._fill("rag_answer", question, [])])

    def observe_image(
        self,
        result: SearchResult,
        *,
        question: str,
        crop: Picture | None = None,
        thumbnails: Sequence[str | None] = (),
        note: str | None = None,
    ) -> HumanMessage:
        """The results of an image search. `thumbnails` are ids, one a hit; `note` says that a region was not found."""
        entries = self._image_entries(result, thumbnails)
        if note:
            entries = [text_block(line(note, ERROR_CHARS) + "\n"), *entries]
        shown = [image_block(crop["id"])] if crop else []
        return self._message([*shown, *self.information(entries), *self._fill("after_image_search", question, [])])

    def observe_text(self, result: SearchResult, *, question: str) -> HumanMessage:
        """The results of a text search."""
        entries = self._text_entries(result)
        return self._message([*self.information(entries), *self._fill("after_text_search", question, [])])

    def observe_crop(self, crop: Picture, *, question: str) -> HumanMessage:
        """The crop that the policy asked to see."""
        return self._message([image_block(crop["id"])])

    def observe_failure(
        self, kind: Literal["image", "text", "crop"], error: ToolError, *, question: str
    ) -> HumanMessage:
        """A tool failed, found nothing, or was refused by a limit."""
        stage = "after_text_search" if kind == "text" else "after_image_search"
        entries = [text_block(f"error: {line(error.message, ERROR_CHARS)}")]
        return self._message([*self.information(entries), *self._fill(stage, question, [])])

    @abstractmethod
    def information(self, entries: list[Block]) -> list[Block]:
        """Observed text in its wrapper."""

    def _image_entries(self, result: SearchResult, thumbnails: Sequence[str | None]) -> list[Block]:
        if result.error:
            return [text_block(f"error: {line(result.error.message, ERROR_CHARS)}")]
        return [text_block("\n".join(f"{n}. {self._image_entry(hit)}" for n, hit in enumerate(result.hits, 1)))]

    def _image_entry(self, hit: Hit) -> str:
        score = "" if hit.score is None else f" ({hit.score:.2f})"
        return line(hit.title, TITLE_CHARS) + score

    def _text_entries(self, result: SearchResult) -> list[Block]:
        if result.error:
            return [text_block(f"error: {line(result.error.message, ERROR_CHARS)}")]
        return [text_block("\n".join(f"{n}. {self._text_entry(hit)}" for n, hit in enumerate(result.hits, 1)))]

    def _text_entry(self, hit: Hit) -> str:
        return f"{line(hit.title, TITLE_CHARS)}\n{entry(hit.snippet, self.snippet_chars)}".rstrip()

    def _fill(self, key: str, question: str, images: Sequence[str], information: Sequence[Block] = ()) -> list[Block]:
        """A prompt as content blocks. One pass: a placeholder inside the question is text."""
        values: dict[str, list[Block]] = {
            "<image>": [image_block(identity) for identity in images],
            "{question}": [text_block(neutral(question))],
            "{information}": list(information),
        }
        parts = _PLACEHOLDER.split(self.prompts[key])
        return [block for part in parts for block in values.get(part, [text_block(part)])]

    def _message(self, blocks: Sequence[Block]) -> HumanMessage:
        """A user turn: neighbouring texts joined; a plain string if there is no picture."""
        merged: list[Block] = []
        for block in blocks:
            if block["type"] == "text" and merged and merged[-1]["type"] == "text":
                merged[-1] = text_block(merged[-1]["text"] + block["text"])
            elif block["type"] != "text" or block["text"]:
                merged.append(block)
        if all(block["type"] == "text" for block in merged):
            return HumanMessage("".join(block["text"] for block in merged))
        return HumanMessage(content=list(merged))


def image_block(identity: str) -> Block:
    """A picture in a message of the dialogue: its id; the bytes are added when the policy is called."""
    return {"type": "image", "id": identity}


def thumbnail_block(identity: str) -> Block:
    """The picture of a search result: what a policy may leave out first when its context is full."""
    return {"type": "image", "id": identity, "thumbnail": True}


def text_block(text: str) -> Block:
    """A text in a message of the dialogue."""
    return {"type": "text", "text": text}
