"""Referring expressions: which words mean a kind, an order, a side, a size or a colour.

`parse` reads an expression into a `Wanted` and never fails: words it does not know are kept in `unknown`, and the
locator decides whether enough was understood. `the second flag from the left` becomes noun `flag`, rank 2, side `left`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lensgraph.tools.locate.colours import SYNONYMS, WORDS

Noun = Literal["flag", "other", "any"]
"""Kinds of region that an expression can name."""
Side = Literal["left", "right", "top", "bottom"]
"""Sides of a picture."""

_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
_SIDES: dict[str, Side] = {
    "left": "left", "lefthand": "left", "right": "right", "righthand": "right", "top": "top", "upper": "top",
    "above": "top", "bottom": "bottom", "lower": "bottom", "below": "bottom",
}  # fmt: skip
_EXTREMES: dict[str, Side] = {
    "leftmost": "left", "rightmost": "right", "topmost": "top", "uppermost": "top", "highest": "top",
    "bottommost": "bottom", "lowermost": "bottom", "lowest": "bottom",
}  # fmt: skip
_SIZES = {
    "largest": "large", "biggest": "large", "large": "large", "big": "large", "bigger": "large", "larger": "large",
    "smallest": "small", "littlest": "small", "tiniest": "small", "small": "small", "little": "small", "tiny": "small",
    "smaller": "small", "tallest": "tall", "widest": "wide",
}  # fmt: skip
_MIDDLES = {"middle", "centre", "center", "central", "centermost", "middlemost"}
_FLAGS = {"flag", "flags", "banner", "banners", "ensign"}
_OTHERS = {"animal", "animals", "creature", "plant", "food", "fruit", "vehicle", "tool", "instrument"}
_ANY = {
    "thing", "things", "object", "objects", "item", "items", "picture", "pictures", "drawing", "drawings", "icon",
    "icons", "image", "images", "symbol", "symbols", "shape", "shapes", "figure", "figures", "one", "ones", "emoji",
    "element", "elements", "sticker", "logo", "region", "part",
}  # fmt: skip
_FILLER = {
    "the", "a", "an", "of", "in", "on", "at", "to", "from", "with", "by", "and", "is", "are", "that", "which", "this",
    "it", "its", "there", "please", "counting", "starting", "far", "very", "most", "mostly", "mainly", "only", "single",
    "side", "hand", "end", "edge", "corner", "row", "column", "line", "number", "no", "colored", "coloured", "color",
    "colour", "s", "near", "towards", "along", "shown", "displayed", "located", "placed", "positioned", "country",
    "national", "whole", "photo", "scene", "canvas", "own", "all", "be", "main",
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """An expression, parsed. A field is None where the expression says nothing about it."""

    noun: Noun = "any"
    """Flags only, anything but flags, or any region."""
    rank: int | None = None
    """Counted from 1, from the side; negative counts back from the other end (-1 is the last)."""
    side: Side | None = None
    """Side that counting starts from, or the side named (`on the far left` is rank 1 from the left)."""
    corner: tuple[Side, Side] | None = None
    """Vertical and horizontal side of a corner."""
    band: Side | None = None
    """Row or column to look in: `in the top row`."""
    middle: bool = False
    """In the middle of the others."""
    size: str | None = None
    """`large`, `small`, `tall` or `wide`; with `rank`, the rank-th such."""
    colours: tuple[str, ...] = ()
    """Basic colour words."""
    unknown: tuple[str, ...] = ()
    """Words that mean nothing here."""

    @property
    def specific(self) -> bool:
        """Whether the expression asks anything that a region can satisfy."""
        return bool(
            self.noun == "flag" or self.rank or self.side or self.corner or self.middle or self.size or self.colours
        )


def parse(expression: str) -> Wanted:
    """Read an expression; see the module."""
    text = re.sub(r"[^a-z0-9 ]+", " ", expression.lower().replace("'s", ""))
    text = re.sub(r"\b(left|right|top|bottom|upper|lower)\s*(?:hand)?\s*most\b", r"\1most", text)
    words = text.split()
    band, words = _band(words)
    rank, words = _rank(words)
    noun: Noun = "any"
    sides: list[Side] = []
    colours: list[str] = []
    size: str | None = None
    middle = False
    unknown: list[str] = []
    for word in words:
        if word in _FLAGS:
            noun = "flag"
        elif word in _OTHERS and noun == "any":
            noun = "other"
        elif word in _EXTREMES:
            sides.append(_EXTREMES[word])
        elif word in _SIDES:
            sides.append(_SIDES[word])
        elif word in _SIZES:
            size = _SIZES[word]
        elif word in _MIDDLES:
            middle = True
        elif word in WORDS or word in SYNONYMS:
            colours.append(SYNONYMS.get(word, word))
        elif word not in _ANY and word not in _FILLER and word not in _OTHERS:
            unknown.append(word)
    vertical = next((side for side in sides if side in ("top", "bottom")), None)
    horizontal = next((side for side in sides if side in ("left", "right")), None)
    corner: tuple[Side, Side] | None = None
    side: Side | None = horizontal or vertical
    if vertical and horizontal:
        if rank is None:
            corner = (vertical, horizontal)
        else:
            # "the second flag from the left at the top": count along one side in the band of the other.
            band = band or vertical
    if rank is None and side and corner is None:
        rank = 1
    return Wanted(noun, rank, side, corner, band, middle, size, tuple(dict.fromkeys(colours)), tuple(unknown))


def _band(words: list[str]) -> tuple[Side | None, list[str]]:
    """`in the top row` / `right column`, taken out of the words."""
    for i, word in enumerate(words[:-1]):
        if words[i + 1] in ("row", "line", "column") and word in _SIDES:
            return _SIDES[word], words[:i] + words[i + 2 :]
    return None, words


def _rank(words: list[str]) -> tuple[int | None, list[str]]:
    """The ordinal, taken out of the words; `second to last` is -2."""
    for i, word in enumerate(words):
        number = _number(word)
        if number is None and word == "number" and i + 1 < len(words):
            after = words[i + 1]
            number = int(after) if after.isdigit() else _NUMBERS.index(after) + 1 if after in _NUMBERS else None
            if number:
                return number, words[:i] + words[i + 2 :]
        if word in ("penultimate",):
            return -2, words[:i] + words[i + 1 :]
        if word == "next" and words[i + 1 : i + 3] == ["to", "last"]:
            return -2, words[:i] + words[i + 3 :]
        if word == "last":
            return -1, words[:i] + words[i + 1 :]
        if number is None:
            continue
        rest = words[i + 1 :]
        if rest[:2] == ["to", "last"] or rest[:3] == ["to", "the", "last"]:
            return -number, words[:i] + rest[2 if rest[1] == "last" else 3 :]
        if rest[:1] == ["last"]:
            return -number, words[:i] + rest[1:]
        return number, words[:i] + rest
    return None, words


def _number(word: str) -> int | None:
    if word in _ORDINALS:
        return _ORDINALS.index(word) + 1
    match = re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)", word)
    return int(match[1]) if match and int(match[1]) else None


def ordinal(number: int) -> str:
    """The word for a rank, for messages."""
    if number < 0:
        return "last" if number == -1 else f"{ordinal(-number)} to last"
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"
