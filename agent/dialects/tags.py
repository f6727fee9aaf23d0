"""Reading tags, strictly and leniently, for every dialect of this family."""

from __future__ import annotations

import re

from lensgraph.agent.actions import Action, Answer, Crop, GiveUp, Malformed, SearchByImage, SearchByText

GIVE_UP = "Unable to answer due to lack of relevant information"
"""The agreed words for giving up; a final period is accepted."""
WHOLE = "<img>"
"""The payload that stands for the whole picture."""

_REASON = re.compile(r"<reason>(.*?)</reason>", re.DOTALL)
_HIDDEN_THOUGHT = re.compile(r"<(reason|think)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_ANY_ACTION = re.compile(
    r"<(answer|text_search|img_search|image_search|search|crop)>(.*?)(?:</\1>|$)", re.DOTALL | re.IGNORECASE
)
_WHOLE_SPELLINGS = {"<img>", "img", "<img></img>", "<image>", "image", "the image", "whole image", ""}


def gives_up(text: str) -> bool:
    """Whether these are the agreed words, and nothing else."""
    return text.strip().removesuffix(".") == GIVE_UP


def may_give_up(text: str) -> bool:
    """Whether these are the beginning of the agreed words."""
    return f"{GIVE_UP}.".startswith(text)


def thought(text: str) -> str:
    """All `<reason>` blocks, or what stands before the first action."""
    reasons = _REASON.findall(text)
    if reasons:
        return "\n".join(reason.strip() for reason in reasons)
    before = _ANY_ACTION.split(text, maxsplit=1)[0]
    return re.sub(r"</?(?:reason|think)>", "", before).strip() if before != text else ""


def closing_pair(text: str, tags: tuple[str, ...]) -> tuple[str, str] | None:
    """The tag pair that ends the text, as (tag, payload); None if the text ends in none of `tags`."""
    for tag in tags:
        opening, closing = f"<{tag}>", f"</{tag}>"
        if text.endswith(closing):
            start = text.rfind(opening)
            payload = text[start + len(opening) : -len(closing)]
            return (tag, payload) if start >= 0 and closing not in payload else None
    return None


def read_leniently(text: str, *, regions: bool, crops: bool) -> Action:
    """The first action outside the reasoning, whatever its spelling; bare words are an answer.

    The first, because a model that goes on after its search is inventing the result.
    """
    found = _ANY_ACTION.search(_HIDDEN_THOUGHT.sub("", text)) or _ANY_ACTION.search(text)
    if found is None:
        bare = _HIDDEN_THOUGHT.sub("", text).strip()
        if not bare:
            return Malformed("the turn holds neither an action nor an answer")
        return GiveUp() if gives_up(bare) else Answer(bare)
    tag, payload = found[1].lower(), " ".join(found[2].split())
    if tag == "answer":
        return GiveUp() if gives_up(payload) else Answer(payload)
    if tag == "text_search" or (tag == "search" and payload.lower() not in _WHOLE_SPELLINGS):
        return SearchByText(payload) if payload else Malformed("the text query is blank")
    region = None if payload.lower() in _WHOLE_SPELLINGS or not regions else payload
    if tag == "crop" and crops:
        return Crop(region) if region else Malformed("the crop names no region")
    return SearchByImage(region)


def write(thought: str, action: Action, image_tag: str, *, regions: bool) -> str:
    """A turn in these tags. `image_tag` is the tag of an image search; `regions` whether one may name a region."""
    match action:
        case Answer(text):
            ending = f"<answer>{text}</answer>"
        case GiveUp():
            ending = f"<answer>{GIVE_UP}</answer>"
        case SearchByText(query):
            ending = f"<text_search>{query}</text_search>"
        case SearchByImage(None):
            ending = f"<{image_tag}>{WHOLE}</{image_tag}>"
        case SearchByImage(str() as region) if regions:
            ending = f"<{image_tag}>{region}</{image_tag}>"
        case _:
            raise ValueError(f"this dialect has no words for {action!r}")
    return f"<reason>{thought}</reason>{ending}" if thought else ending
