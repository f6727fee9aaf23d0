"""Shorten a search result to the tokens that an episode has left, before the policy is told.

The published rollouts cut a dialogue on the right when it reaches its limit, wherever that falls: inside the wrapper of
an observation, or inside a picture, which then has more pixels than placeholders. Here the last results are dropped
first, then the end of the last one that stays, so that wrapper, reminder and prompt are whole.

Invariants: a picture is shown whole or not at all; the first result keeps its title, even if the limit is then passed
by a little.

Not covered: an exact count, because dialects know no tokenizer; `tokens_of` counts high rather than low.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.images import ImageStore, view_size
from lensgraph.agent.limits import behind_first_prompt
from lensgraph.agent.state import Step
from lensgraph.agent.usage import policy_turns
from lensgraph.tools.results import SearchResult

BYTES_PER_TOKEN = 3
"""Bytes of UTF-8 text a token: 4 to 5 for English with Qwen2.5's tokenizer, 3 to 5 for Chinese; 3 counts high."""
PIXELS_PER_TOKEN = 28 * 28
"""Pixels of a picture a token: a 2 x 2 block of 14 x 14 patches, in the Qwen2.5-VL family."""
SHORTEST = 80
"""A snippet cut to fewer characters is left out: less is seldom a sentence."""
Thumbnails = list[str | None]
"""Ids of stored pictures, one a hit; None: that hit shows none."""


def left(steps: Sequence[Step], limit: int | None) -> int | None:
    """Tokens left behind the first prompt after the policy's last turn. None: no limit, or the policy does not count."""
    spoken = policy_turns(steps)
    if limit is None or not spoken or not spoken[0].get("tokens_in"):
        return None
    last = spoken[-1]
    return limit - behind_first_prompt(spoken[0]["tokens_in"], last.get("tokens_in", 0), last.get("tokens_out", 0))


def unread(dialogue: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages behind the policy's last turn, which it has not been charged for: of several calls, the results of those
    that were served already, and the pictures that wait to be shown with them."""
    found: list[BaseMessage] = []
    for message in reversed(dialogue):
        if isinstance(message, AIMessage):
            break
        held = message.artifact if isinstance(message, ToolMessage) else None
        found += [message, *([HumanMessage(content=held)] if held else [])]
    return found


def tokens_of(message: BaseMessage, store: ImageStore, dialect: Dialect, view_pixels: int) -> int:
    """About how many tokens a message takes, its pictures as they are shown."""
    if isinstance(message.content, str):
        return _of_text(message.content)
    total = 0
    for block in message.content:
        if isinstance(block, str):
            total += _of_text(block)
        elif block.get("type") == "image":
            picture = store.picture(block["id"])
            view = dialect.view(block, view_pixels)
            width, height = view_size(picture["width"], picture["height"], view.largest, view.smallest)
            total += tokens_of_picture(width * height)
        else:
            total += _of_text(str(block.get("text", "")))
    return total


def tokens_of_picture(pixels: int) -> int:
    """Tokens of a picture that is shown with `pixels` pixels, and of the two marks around it."""
    return max(4, -(-pixels // PIXELS_PER_TOKEN)) + 2


def fit(
    result: SearchResult,
    thumbnails: Thumbnails,
    room: int | None,
    cost: Callable[[SearchResult, Thumbnails], int],
    longest: int,
) -> tuple[SearchResult, Thumbnails, int]:
    """The part of a result that fits into `room` tokens, its thumbnails, and the number of hits left out or cut.

    `cost` counts the tokens of the message that tells a result; `longest` is the number of characters of a snippet that
    the dialect shows.
    """
    if room is None or not result.hits:
        return result, thumbnails, 0
    touched: set[int] = set()
    while (excess := cost(result, thumbnails) - room) > 0:
        last = len(result.hits) - 1
        shorter = _shorter(result.hits[last].snippet[:longest], excess)
        if shorter:
            changed = _with_last(result, shorter)
            if cost(changed, thumbnails) <= room:
                return changed, thumbnails, len(touched | {last})
        touched.add(last)
        if last > 0:
            result, thumbnails = result.model_copy(update={"hits": result.hits[:-1]}), thumbnails[:last]
        elif any(thumbnails):
            thumbnails = [None]
        elif result.hits[0].snippet:
            result = _with_last(result, "")
        else:
            break
    return result, thumbnails, len(touched)


def _with_last(result: SearchResult, snippet: str) -> SearchResult:
    last = result.hits[-1].model_copy(update={"snippet": snippet})
    return result.model_copy(update={"hits": [*result.hits[:-1], last]})


def _shorter(snippet: str, excess: int) -> str:
    """The beginning of a snippet, `excess` tokens shorter; empty if too little of it would stay to be read."""
    kept = snippet.encode()[: -(excess + 1) * BYTES_PER_TOKEN].decode("utf-8", "ignore").rstrip()
    return kept if len(kept) >= SHORTEST else ""


def _of_text(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)
