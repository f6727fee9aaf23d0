"""The state of a graph: input, output and internal state, kept apart.

Invariants: `dialogue` and `steps` only ever grow at the end, so one episode is one training row; a picture is an id
and a box, never bytes; every value besides messages is plain JSON, so that a checkpoint needs no custom types.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from langchain_core.messages import AnyMessage
from langgraph.channels import UntrackedValue
from langgraph.graph.message import add_messages
from pydantic import WithJsonSchema

# typing.TypedDict gives LangGraph an empty input schema on Python 3.11
from typing_extensions import TypedDict

from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import Picture
from lensgraph.tools.safety.one_line import one_line

T = TypeVar("T")
PictureInput = Annotated[
    Any, WithJsonSchema({"type": "string", "description": "A data URI or an http(s) address of a picture."})
]
"""A picture of a question: text, or in Python a path, bytes or a PIL image."""
Update = dict[str, Any]
"""Fields of `AgentState` that a node writes."""


class Source(TypedDict):
    """A page that the policy was shown."""

    title: str
    """As the search engine gave it."""
    url: str
    """Its address; an embedded page has a URL of its own package."""
    turn: int
    """The policy's turn, from 1, that asked for it first."""


class ShownHit(TypedDict):
    """One search result as it was shown to the policy."""

    title: str
    """Page title."""
    url: str
    """Page address."""
    snippet: str
    """Text shown to the policy; empty for image results."""
    score: float | None
    """The engine's score, if it gave one."""


class Step(TypedDict, total=False):
    """One node's record. A list of these is the story of an episode."""

    node: str
    """The node that ran."""
    turn: int
    """The policy's turn that this belongs to, from 1."""
    seconds: float
    """Seconds waited for the policy or the tool; the graph's own time is not in it."""
    price: float
    """Price of the call, in US dollars."""
    text: str
    """`reason` only: the turn as the policy wrote it."""
    thought: str
    """`reason` only: the reasoning in it."""
    action: dict[str, Any]
    """`reason` only: the action as `lensgraph.agent.actions.dump_action` writes it; of several the one that is served first."""
    actions: list[dict[str, Any]]
    """`reason` only: all actions of a turn that asked for several. Absent: `action` is the only one."""
    tokens_in: int
    """`reason` only: prompt tokens, if the policy reports them."""
    tokens_out: int
    """`reason` only: sampled tokens, if the policy reports them."""
    left_out: list[str]
    """`reason` only: ids of thumbnails that the policy was not shown, because its context was full. Absent: none."""
    query: str
    """The query: the text, the region's expression, or `<whole picture>`."""
    crop: Picture | None
    """`crop`, and `image_search` on a crop: the crop and its box. None: no region was found."""
    to_search: bool
    """`crop` only: an image search is made with it, or was to be made had a limit or a person let it; the two are one call."""
    hits: list[ShownHit]
    """Search nodes only: the results that the policy was shown. Empty: none was found or the tool failed."""
    cut_off: int
    """Search nodes only: results that were left out or shortened, because few tokens were left. Absent: none."""
    error: str | None
    """`reason: message` when the tool or the policy failed, else None."""
    edited: bool
    """True: a person made this call another one than the policy asked for. Absent: the policy's own."""


class Usage(TypedDict):
    """Cost of a question."""

    turns: int
    """Turns of the policy."""
    searches: dict[str, int]
    """Tool calls by kind, `image` and `text`, failed ones included."""
    seconds: dict[str, float]
    """Seconds by node, waiting for the policy or the tool."""
    price: dict[str, float]
    """US dollars by node."""
    tokens: dict[str, int]
    """`in` and `out`, summed over turns; 0 if the policy does not report them."""


def append(old: list[T] | None, new: list[T]) -> list[T]:
    """The reducer of an append-only channel: new items go to the end, old ones stay as they are."""
    return [*(old or []), *new]


def add_to_chat(old: Any, new: Any) -> Any:
    """The reducer of the chat: LangGraph's, whose refusals become one line.

    Raises:
        BadInput: a message that is to be removed is not there.
    """
    try:
        return add_messages(old, new)
    except ValueError as error:
        raise BadInput(f"`messages`: {one_line(error, 160, first=True)}") from error


class AskInput(TypedDict, total=False):
    """A question about a picture: as chat messages, or as a question with its pictures."""

    messages: Annotated[list[AnyMessage], add_to_chat]
    """The chat so far. The last human message holds the question and, as image blocks, its pictures."""
    question: Annotated[str, UntrackedValue]
    """The question, if it is not in `messages`."""
    images: Annotated[list[PictureInput], UntrackedValue]
    """Pictures to go with `question`: http(s) addresses or data URIs; in Python also `pathlib.Path`, bytes or PIL images."""


class AskOutput(TypedDict, total=False):
    """The answer, and what it cost."""

    messages: Annotated[list[AnyMessage], add_to_chat]
    """The chat, ending in the answer."""
    answer: str | None
    """None: there is none, see `stop_reason`. An empty string is a real, wrong answer."""
    sources: list[Source]
    """Pages the policy was shown for this question, in the order in which it saw them."""
    usage: Usage
    """Turns, searches, seconds and price of this question."""
    stop_reason: str
    """A value of `lensgraph.agent.limits.StopReason`."""
    steps: Annotated[list[Step], append]
    """One record a node visit, over the whole thread; streamed as it happens with `stream_mode="updates"`."""


class AgentState(AskInput, AskOutput, total=False):
    """The whole state that the nodes share."""

    asked: str
    """The current question, verbatim. Written by `receive`; no other node rewrites it."""
    pictures: list[Picture]
    """The current question's pictures. Kept for a follow-up that brings none of its own."""
    dialogue: Annotated[list[AnyMessage], append]
    """The policy's own conversation. Image blocks hold ids only; the policy's messages are kept as it returned them."""
    first_step: int
    """Index in `steps` at which the current question starts."""
    first_message: int
    """Index in `dialogue` at which the policy's view starts: 0, or the current question where the dialect restarts."""
    started: float
    """Unix time at which the current question came in, later by the time in which a person decided about its calls."""
    approve: list[str]
    """Calls of the current question that a person decides about, by the context and the configuration that it was asked with."""
    action: dict[str, Any]
    """The action that is served, as `lensgraph.agent.actions.dump_action` writes it."""
    waiting: list[dict[str, Any]]
    """Further actions of the last turn, to be served in this order before the policy is asked again."""
    crop: Picture | None
    """The crop to search with; None: the whole picture."""
    note: str | None
    """A remark on the region for the policy, such as that it was not found; `image_search` passes it on."""


EVERYTHING = sorted(AgentState.__annotations__)
"""Pass as `output_keys` to get the internal state (`dialogue`, `pictures`) back too, for training and evaluation."""


def this_question(state: AgentState) -> list[Step]:
    """The steps of the current question, without those of earlier questions in the thread."""
    return state.get("steps", [])[state.get("first_step", 0) :]


def this_dialogue(state: AgentState) -> list[AnyMessage]:
    """The part of the dialogue that the policy is shown."""
    return state["dialogue"][state.get("first_message", 0) :]


__all__ = [
    "EVERYTHING", "AgentState", "AskInput", "AskOutput", "Picture", "ShownHit", "Source", "Step", "Update", "Usage",
    "append", "this_dialogue", "this_question",
]  # fmt: skip
