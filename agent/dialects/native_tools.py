"""Native tool calls: the actions are tools, for any chat model that can call some, or an answer in plain words.

Every call is answered by a message of its own, because providers refuse a dialogue with a call that has no answer: also one
that is over a limit, that names no tool or whose arguments cannot be read. Pictures come in a message of the user behind
them, because vLLM refuses pictures in a tool's message.

Invariant: calls are those of the policy's own message; text that only looks like a call is none, in strict reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from lensgraph.agent.actions import Action, Answer, Crop, GiveUp, Malformed, SearchByImage, SearchByText
from lensgraph.agent.chat import tool_calls
from lensgraph.agent.chat.tool_calls import ToolUse
from lensgraph.agent.dialects import tags
from lensgraph.agent.dialects.base import ERROR_CHARS, Block, Dialect, image_block, text_block, thumbnail_block
from lensgraph.agent.dialects.growing_calls import GrowingCalls
from lensgraph.agent.images import Picture
from lensgraph.agent.limits import Limits
from lensgraph.tools.results import SearchResult, ToolError
from lensgraph.tools.safety.escape import entry, line

TOOLS = {
    "image_search": (
        "region", False,
        "Search the web for pictures like this one. Shows the titles of the pages that hold them, and the pictures found.",
        "The part of the picture to search with, in a few words, such as: the white tower on the left. "
        "Leave it out to search with the whole picture.",
    ),
    "text_search": ("query", True, "Search the web by words. Shows passages of the pages found.", "A short query."),
    "crop": (
        "region", True, "Look closer at a part of the picture, without searching. Shows that part enlarged.",
        "The part to look at, in a few words, such as: the sign above the door.",
    ),
    "answer": ("text", True, "Answer the question. Ends the conversation.", "The bare answer, in as few words as possible."),
}  # fmt: skip
"""Tool -> its one argument, whether that is required, what the tool does, and what the argument is."""
NOT_SERVED = "not carried out: one search is made here"
"""The answer to the calls of a fixed workflow that are not the one that it makes."""
LABEL_CHARS = 80
"""Characters of a call's arguments that are repeated above its pictures."""
_THINKING = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_NOT_LETTERS = re.compile(r"[^a-z]")


class NativeTools(Dialect):
    """Calls of tools. Several in one turn are served in order; mistakes and limits are told to the policy."""

    name: ClassVar[str] = "tools"
    default_limits: ClassVar[Limits] = Limits(image=3, text=5, calls=10, turns=8, tokens=32_768)
    image_hits = 5
    text_hits = 5
    snippet_chars: ClassVar[int] = 1200
    thumbnails: ClassVar[bool] = True
    crops: ClassVar[bool] = True
    missing_region: ClassVar[Literal["tell", "whole"]] = "tell"
    over_limit: ClassVar[Literal["tell", "end"]] = "tell"

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools as OpenAI writes them, which LangChain turns into every provider's form."""
        return [
            {"type": "function", "function": {"name": name, "description": does, "parameters": {
                "type": "object", "properties": {argument: {"type": "string", "description": means}},
                "required": [argument] if required else [],
            }}}
            for name, (argument, required, does, means) in TOOLS.items()
        ]  # fmt: skip

    # --- reading

    def read_turn(self, turn: AIMessage) -> list[Action]:
        """An action for each call, in order; without a call, the words are the answer."""
        calls, text = tool_calls.tool_uses(turn), tool_calls.as_text(turn)
        if self.lenient and not calls:  # a server without a parser for this model leaves calls in the text
            _, calls = tool_calls.from_text(text)
        actions = [self._action(call) for call in calls] or [self._words(text)]
        if tool_calls.was_cut(turn):
            actions[-1] = Malformed("the turn was cut off, because it was too long")
        return actions

    def read(self, text: str) -> Action:
        """The first action of a turn that is written as text, in the form of `lensgraph.agent.chat.tool_calls`."""
        return self._of_text(text)[0]

    def read_leniently(self, text: str) -> Action:
        """As `read`; `lenient` forgives other spellings of tools and arguments."""
        return self._of_text(text)[0]

    def thought(self, text: str) -> str:
        """The words beside the calls, and what the model thought aloud."""
        rest, calls = tool_calls.from_text(_opened(text))
        thoughts = [*_THINKING.findall(rest), *([_THINKING.sub("", rest)] if calls else [])]
        return "\n".join(thought.strip() for thought in thoughts if thought.strip())

    def well_formed(self, turns: Sequence[str]) -> bool:
        """Readable calls in every turn, an answer in the last one and in no other."""
        read = [self._of_text(turn) for turn in turns]
        endings = [any(isinstance(action, Answer | GiveUp) for action in actions) for actions in read]
        faults = any(isinstance(action, Malformed) for actions in read for action in actions)
        return endings[-1:] == [True] and not any(endings[:-1]) and not faults

    def _of_text(self, text: str) -> list[Action]:
        rest, calls = tool_calls.from_text(text)
        return [self._action(call) for call in calls] or [self._words(rest)]

    def _words(self, text: str) -> Action:
        said = _THINKING.sub("", _opened(text)).strip()
        if "<think>" in said:
            return Malformed("the turn ended within its reasoning")
        if tool_calls.OPENING in said or tool_calls.CLOSING in said:
            return Malformed("a call was written as text; call the tool")
        if not said:
            return Malformed("the turn holds neither a call nor an answer")
        return GiveUp() if tags.gives_up(said) else Answer(said)

    def _action(self, call: ToolUse) -> Action:
        name = self._named(call.name)
        if not name:
            return Malformed("a call is no JSON object with a name and arguments")
        if name not in TOOLS:
            return Malformed(f"there is no tool {call.name[:40]!r}; there are {', '.join(TOOLS)}")
        argument, required, *_ = TOOLS[name]
        if call.arguments is None:
            return Malformed(f"the arguments of {name} are no JSON object")
        given = self._argument(call.arguments, argument)
        unknown = [key for key in call.arguments if key != argument]
        if unknown and not self.lenient:
            return Malformed(f"{name} has no argument {str(unknown[0])[:40]!r}; it has {argument}")
        if not isinstance(given, str):
            return Malformed(f"{name} needs {argument}, a text" if required else f"{argument} of {name} is no text")
        text = given.strip() if name == "answer" else " ".join(given.split())
        if name == "answer":
            return GiveUp() if tags.gives_up(text) else Answer(text)
        if name == "image_search":
            return SearchByImage(text or None)
        if not text:
            return Malformed(f"{argument} of {name} is blank")
        return SearchByText(text) if name == "text_search" else Crop(text)

    def _named(self, name: str) -> str:
        """The tool that a name means; lenient reading forgives case, punctuation and what stands before a dot."""
        if name in TOOLS or not self.lenient:
            return name
        bare = _NOT_LETTERS.sub("", name.rpartition(".")[2].lower())
        return next((known for known in TOOLS if known.replace("_", "") == bare), name)

    def _argument(self, arguments: dict[str, Any], name: str) -> Any:
        """The argument of this name; lenient reading takes the only one under any name, and numbers as text."""
        given = arguments.get(name)
        if self.lenient and given is None and len(arguments) == 1:
            (given,) = arguments.values()
        if self.lenient and isinstance(given, int | float):
            return str(given)
        return "" if given is None and name == "region" else given

    def growing(self) -> GrowingCalls:
        """Its reasoning and the text of an `answer`."""
        return GrowingCalls()

    # --- writing

    def write(self, thought: str, action: Action) -> str:
        """A turn with one call, as text."""
        match action:
            case Answer(text):
                name, arguments = "answer", {"text": text}
            case GiveUp():
                name, arguments = "answer", {"text": tags.GIVE_UP}
            case SearchByText(query):
                name, arguments = "text_search", {"query": query}
            case SearchByImage(region):
                name, arguments = "image_search", {"region": region} if region else {}
            case Crop(region):
                name, arguments = "crop", {"region": region}
            case _:
                raise ValueError(f"this dialect has no words for {action!r}")
        return "\n".join([*([thought] if thought else []), ToolUse(name, dict(arguments)).written()])

    def deliver(
        self, observation: HumanMessage, dialogue: Sequence[BaseMessage], *, last: bool = False
    ) -> list[BaseMessage]:
        """The answer to the first call that has none; pictures wait until all calls have one. Where no call is open (the policy
        wrote words, or a caller's command led here), the observation as it is."""
        waiting = tool_calls.unanswered(dialogue)
        if not waiting:
            return [observation]
        text, pictures = _parted(observation)
        if pictures:
            pictures = [text_block(f"{waiting[0].name} {line(waiting[0].raw, LABEL_CHARS)}\n"), *pictures]
        answers = [tool_calls.answered(waiting[0], text, pictures)]
        if last:
            answers += [tool_calls.answered(call, NOT_SERVED) for call in waiting[1:]]
        return [*answers, *(_held([*dialogue, *answers]) if last or not waiting[1:] else [])]

    def refuse(self, call: ToolUse | None, error: ToolError, *, question: str) -> BaseMessage:
        """The error, as the answer to its call if there is one."""
        observation = self.observe_failure("text", error, question=question)
        return observation if call is None else tool_calls.answered(call, str(observation.text))

    def information(self, entries: list[Block]) -> list[Block]:
        """The bare results: a tool's message is a wrapper of its own. The prompts wrap those in a message of the user."""
        return entries

    def observe_crop(self, crop: Picture, *, question: str) -> HumanMessage:
        """The crop, announced in the tool's message and shown behind it."""
        return self._message([text_block("The part is shown below.\nThe part:"), image_block(crop["id"])])

    def observe_image(
        self,
        result: SearchResult,
        *,
        question: str,
        crop: Picture | None = None,
        thumbnails: Sequence[str | None] = (),
        note: str | None = None,
    ) -> HumanMessage:
        """The results, then the part that was searched with and the pictures found, each with its label."""
        first, *pictures = self._image_entries(result, thumbnails)
        if note:
            first = text_block(entry(note, ERROR_CHARS) + "\n" + first["text"])
        if crop:
            pictures = [text_block("\nThe part that was searched with:"), image_block(crop["id"]), *pictures]
        return self._message([first, *self._fill("after_image_search", question, []), *pictures])

    def _image_entries(self, result: SearchResult, thumbnails: Sequence[str | None]) -> list[Block]:
        blocks = super()._image_entries(result, thumbnails)
        for number, identity in enumerate(thumbnails, 1):
            if identity is not None:
                blocks += [text_block(f"\nPicture of result {number}:"), thumbnail_block(identity)]
        return blocks


def _parted(observation: HumanMessage) -> tuple[str, list[Block]]:
    """The words for the tool's message, and the pictures behind them with their labels. The last line before a picture is its
    label."""
    if isinstance(observation.content, str):
        return observation.content, []
    blocks = [dict(block) for block in observation.content if isinstance(block, dict)]
    first = next(place for place, block in enumerate(blocks) if block["type"] == "image")
    words, _, label = "".join(str(block["text"]) for block in blocks[:first]).rpartition("\n")
    return words, [text_block(label), *blocks[first:]]


def _held(dialogue: Sequence[BaseMessage]) -> list[HumanMessage]:
    """The pictures of the tools' messages that end the dialogue, in a message of the user."""
    held: list[Block] = []
    for message in reversed(dialogue):
        if not isinstance(message, ToolMessage):
            break
        held = [*(message.artifact or []), *held]
    return [HumanMessage(content=list(held))] if held else []


def _opened(text: str) -> str:
    """The text with the mark that some chat templates write into the prompt, where the turn only closes it."""
    before, closed, _ = text.partition("</think>")
    return f"<think>{text}" if closed and "<think>" not in before else text
