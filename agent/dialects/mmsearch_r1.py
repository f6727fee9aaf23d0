"""The protocol of MMSearch-R1 (arXiv 2506.20670, released code): one image search, two text searches, three rounds.

The literals that the environment writes are the training form, kept character by character, an upstream typo
included; the user-side prompts are our own wording unless the user loads the checkpoint's (`prompts`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from langchain_core.messages import HumanMessage

from lensgraph.agent.actions import Action, Answer, GiveUp, Malformed, SearchByImage, SearchByText
from lensgraph.agent.dialects import prompts as prompt_files
from lensgraph.agent.dialects import tags
from lensgraph.agent.dialects.base import ERROR_CHARS, TITLE_CHARS, Block, Dialect, text_block, thumbnail_block
from lensgraph.agent.dialects.growing import Growing
from lensgraph.agent.images import Picture
from lensgraph.agent.limits import Limits
from lensgraph.tools.results import Hit, SearchResult, ToolError
from lensgraph.tools.safety.escape import line, neutral

IMAGE = "<search><img></search>"
LEAD = "Searched results: <information>"
CLOSE = "</information>\n"
IMAGE_HEADER = (
    "[Image Search Results] The result of the image search consists of web page information related to the image "
    "from the user's original question. Each result includes the main image from the web page and its title, ranked "
    "in descending order of search relevance, as demonstrated below:\n"
)
TEXT_HEADER = (
    "[Text Search Results] Below are the text summaries of the most relevant webpages related to your query, ranked "
    "in descending order of relevance:\n"
)
FAILED = "There is an error encountered in performing search. Please reason with your own capaibilities."
PUBLISHED = {
    "first": (
        "round_1_user_prompt_qwenvl",
        "7dd827d4f627601135e03c76d9917b0b693ac57b45b16f3ea91152cff17829e8",
    ),
    "after_image_search": (
        "after_image_search_prompt_qwenvl",
        "040f2bde848053a062d0a93ee885e8a2229f8e3d3f54d173b259948eeee5e343",
    ),
    "after_text_search": (
        "after_text_search_prompt_qwenvl",
        "803e2536271b2dcf6814bfd6ee200f944c979d460a9801e3865627ec2b3ebd8e",
    ),
}
"""Prompt -> (stem of its file in the checkpoint's repository, sha256 of its text)."""

_IMAGE_AT_END = re.compile(re.escape(IMAGE) + "$")
_TEXT_AT_END = re.compile("<text_search>.*</text_search>$")
_QUERY = re.compile("<text_search>(.*?)</text_search>")
_ANSWER = re.compile("<answer>(.*?)</answer>", re.DOTALL)
_REASONED = {
    "answer": re.compile("^<reason>.*</reason>.*<answer>.*</answer>$", re.DOTALL),
    "image": re.compile(f"^<reason>.*</reason>.*{re.escape(IMAGE)}$", re.DOTALL),
    "text": re.compile("^<reason>.*</reason>.*<text_search>.*</text_search>$", re.DOTALL),
}
_SEQUENCES = (["answer"], ["image", "answer"], ["text", "answer"], ["image", "text", "answer"])


class MMSearchR1(Dialect):
    """Strict reading as in the released rollout: the turn is not stripped, `$` matches before one final newline, a dot
    matches no newline, and there is no repair turn."""

    name: ClassVar[str] = "mmsearch_r1"
    default_limits: ClassVar[Limits] = Limits(image=1, text=2, turns=3, tokens=8192)
    image_hits = 5
    text_hits = 5
    snippet_chars: ClassVar[int] = 1200
    thumbnails: ClassVar[bool] = True
    smallest_picture: ClassVar[int] = 512 * 512
    nearest: ClassVar[bool] = True

    def load_prompts(self, path: Path) -> dict[str, str]:
        """The checkpoint's own prompt files from a clone (a folder), checked by hash; or a YAML file."""
        if path.suffix in (".yaml", ".yml") and not path.is_dir():
            return super().load_prompts(path)
        if not path.is_dir():
            what = "neither a folder nor a .yaml file" if path.exists() else "no such folder"
            raise prompt_files.PromptError(
                f"dialect.prompts: {path}: {what}; give the `prompts` folder of the checkpoint's clone, or a .yaml file."
            )
        found = prompt_files.published(path, PUBLISHED)
        found["first"] += "{question}"  # upstream appends the question directly
        return {**prompt_files.packaged(self.name), **found}

    def read(self, text: str) -> Action:
        """Conditions 1 to 6 of the released rollout, top to bottom; limits are checked by `limited`."""
        if _IMAGE_AT_END.search(text):
            return SearchByImage()
        if _TEXT_AT_END.search(text):
            queries = _QUERY.findall(text)
            return SearchByText(queries[-1]) if queries and queries[-1] else Malformed("the text query is empty")
        answers = _ANSWER.findall(text)
        if answers:
            answer = answers[-1].strip()
            return GiveUp() if tags.gives_up(answer) else Answer(answer)
        if text.strip().removesuffix(".").endswith(tags.GIVE_UP):
            return GiveUp()
        return Malformed("the turn ends in no search and holds no answer")

    def read_leniently(self, text: str) -> Action:
        """Also other spellings, trailing text, unclosed tags and bare answers; blank queries are refused."""
        return tags.read_leniently(text, regions=False, crops=False)

    def write(self, thought: str, action: Action) -> str:
        """A turn in this protocol's tags."""
        if isinstance(action, GiveUp):  # the agreed words stand outside the answer tags here
            return f"<reason>{thought}</reason>{tags.GIVE_UP}" if thought else tags.GIVE_UP
        return tags.write(thought, action, "search", regions=False)

    def thought(self, text: str) -> str:
        """The text in the reason tags."""
        return tags.thought(text)

    def growing(self) -> Growing:
        """The text in the tags while it is being written."""
        return Growing(collapse=self.lenient)

    def well_formed(self, turns: Sequence[str]) -> bool:
        """The released format score: all or nothing, and only four sequences of turns."""
        return [self._format_of(turn.strip()) for turn in turns] in [list(sequence) for sequence in _SEQUENCES]

    def _format_of(self, turn: str) -> str | None:
        for kind, pattern in _REASONED.items():
            if pattern.match(turn) and self._counts_hold(kind, turn):
                return kind
        return None

    @staticmethod
    def _counts_hold(kind: str, turn: str) -> bool:
        once = {
            "answer": ("<reason>", "</reason>", "<answer>", "</answer>"),
            "image": ("<reason>", "</reason>", IMAGE),
            "text": ("<reason>", "</reason>", "<text_search>", "</text_search>"),
        }[kind]
        never = {
            "answer": (IMAGE, "<text_search>", "</text_search>"),
            "image": ("<answer>", "</answer>", "<text_search>", "</text_search>"),
            "text": ("<answer>", "</answer>", IMAGE),
        }[kind]
        return all(turn.count(tag) == 1 for tag in once) and not any(tag in turn for tag in never)

    # --- writing

    def information(self, entries: list[Block]) -> list[Block]:
        """The lead, the block and its close."""
        return [text_block(LEAD), *entries, text_block(CLOSE)]

    def observe_image(
        self,
        result: SearchResult,
        *,
        question: str,
        crop: Picture | None = None,
        thumbnails: Sequence[str | None] = (),
        note: str | None = None,
    ) -> HumanMessage:
        """Block, reminder of the question, prompt."""
        return self._reminded(self._image_entries(result, thumbnails), "after_image_search", question)

    def observe_text(self, result: SearchResult, *, question: str) -> HumanMessage:
        """Block, reminder of the question, prompt."""
        return self._reminded(self._text_entries(result), "after_text_search", question)

    def rag_answer(self, result: SearchResult, *, question: str) -> HumanMessage:
        """Block, reminder of the question, prompt."""
        return self._reminded(self._text_entries(result), "rag_answer", question)

    def observe_failure(
        self, kind: Literal["image", "text", "crop"], error: ToolError, *, question: str
    ) -> HumanMessage:
        """The bare published sentence: no block, no reminder, no prompt. The cause stays in the trajectory, unless a person
        rejected the search, which never happens in training."""
        said = f"[{'Text' if kind == 'text' else 'Image'} Search Results] {FAILED}"
        return HumanMessage(f"{said} {line(error.message, ERROR_CHARS)}" if error.reason == "rejected" else said)

    def _reminded(self, entries: list[Block], stage: str, question: str) -> HumanMessage:
        reminder = f"Original user's question: {neutral(question)}\n"
        blocks = [*self.information(entries), text_block(reminder), *self._fill(stage, question, [])]
        return self._message(blocks)

    def _image_entries(self, result: SearchResult, thumbnails: Sequence[str | None]) -> list[Block]:
        blocks: list[Block] = [text_block(IMAGE_HEADER)]
        padded = [*thumbnails, *[None] * len(result.hits)]
        for number, (hit, thumbnail) in enumerate(zip(result.hits, padded, strict=False), 1):
            lead, title = f"{number}. image: ", f"title: {line(hit.title, TITLE_CHARS)}\n"
            if thumbnail is None:  # upstream drops results without a picture; a title is worth more than nothing
                blocks.append(text_block(f"{number}. {title}"))
            else:
                blocks += [text_block(lead), thumbnail_block(thumbnail), text_block(f"\n{title}")]
        if result.error:
            blocks.append(text_block(f"{FAILED}\n"))
        return blocks

    def _text_entries(self, result: SearchResult) -> list[Block]:
        items = "".join(f"{n}. {self._text_entry(hit)}\n" for n, hit in enumerate(result.hits, 1))
        return [text_block(TEXT_HEADER + (items or f"{FAILED}\n"))]

    def _text_entry(self, hit: Hit) -> str:
        return f"({line(hit.url, TITLE_CHARS)}) {line(hit.snippet or hit.title, self.snippet_chars)}"
