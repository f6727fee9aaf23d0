"""The lines and sentences of a page, scored by how well they answer a query.

Invariant: a snippet is made of whole lines or sentences of the page, in page order, cut only when a single one is longer than
the snippet may be. Words of the title are ignored: they fit every line of the page, so they do not tell which line answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from lensgraph.tools.documents.words import WORD, fold, stem

_LINE = re.compile(r"[^\n]+")
# A sentence ends before white space and a capital or a digit; single letters ("J. K. Rowling") do not
# end one.
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b[A-Z][a-z]\.)\s+(?=[\"'(\[A-Z0-9])")
_LABEL = re.compile(r"[^:]{1,60}: ")
LONG_LINE = 160
"""A line longer than this is split into sentences."""
LABEL_BONUS = 0.25
"""Extra weight of a match in the label of a `Label: value` line, because the label names the line's subject."""
DENSITY_WEIGHT = 0.15
"""Weight of the share of matching words: the line `Highest point` goes before a paragraph that mentions one."""
KEEP = 0.6
"""A passage joins the snippet when it scores at least this share of the best one."""


@dataclass(frozen=True)
class Passage:
    """One line or sentence with its score."""

    start: int
    """Position in the page's text."""
    end: int
    """One past the last character."""
    score: float
    """Weight of the query's words found here, as a share of all of them; 0 to about 1.4."""


def query_pattern(weights: Mapping[str, float]) -> re.Pattern[str] | None:
    """A pattern for words that may have one of the stems; None if there are no stems."""
    starts = {key[:-1] if key.endswith("y") and len(key) > 3 else key for key in weights}
    if not starts:
        return None
    return re.compile(r"(?<![^\W_])(?:" + "|".join(re.escape(s) for s in sorted(starts, key=len)) + r")[^\W_]*")


def score_passages(text: str, weights: Mapping[str, float], pattern: re.Pattern[str] | None) -> list[Passage]:
    """Every passage of a page with its score. `weights` maps the stems of the query to their rarity."""
    total = sum(weights.values())
    spans = _split(text)
    if pattern is None or total <= 0:
        return [Passage(start, end, 0.0) for start, end in spans]
    folded = fold(text)
    hits = [(match.start(), found) for match in pattern.finditer(folded) if (found := stem(match.group())) in weights]
    passages, at = [], 0
    for start, end in spans:
        while at < len(hits) and hits[at][0] < start:
            at += 1
        here = at
        while here < len(hits) and hits[here][0] < end:
            here += 1
        found_here = hits[at:here]
        at = here
        if not found_here:
            passages.append(Passage(start, end, 0.0))
            continue
        label = _LABEL.match(text, start, end)
        label_end = label.end() if label else start
        best: dict[str, float] = {}
        for position, key in found_here:
            best[key] = max(best.get(key, 0.0), weights[key] * (1 + LABEL_BONUS * (position < label_end)))
        length = len(WORD.findall(folded, start, label_end if label else end))
        density = min(1.0, len(best) / max(length, 1))
        passages.append(Passage(start, end, sum(best.values()) / total + DENSITY_WEIGHT * density))
    return passages


def snippet(text: str, passages: list[Passage], limit: int) -> str:
    """The best passages that fit into `limit` characters, in page order."""
    best = max((passage.score for passage in passages), default=0.0)
    if best == 0.0:
        return shorten(text.strip().replace("\n", " "), 0, limit)
    ranked = sorted((p for p in passages if p.score >= KEEP * best), key=lambda p: (-p.score, p.start))
    chosen: list[Passage] = []
    used = 0
    for passage in ranked:
        need = passage.end - passage.start + (5 if chosen else 0)
        if used + need <= limit:
            chosen.append(passage)
            used += need
    if not chosen:
        top = ranked[0]
        return shorten(text[top.start : top.end], 0, limit)
    chosen.sort(key=lambda passage: passage.start)
    out = text[chosen[0].start : chosen[0].end]
    for before, passage in pairwise(chosen):
        between = text[before.end : passage.start]
        gap = "\n" if "\n" in between else " " if not between.strip() else " ... "
        out += gap + text[passage.start : passage.end]
    return out


def shorten(text: str, centre: int, limit: int) -> str:
    """A window of whole words around `centre`, with `...` where something was cut."""
    if len(text) <= limit:
        return text
    start = max(0, min(centre - limit // 3, len(text) - limit))
    if start > 0:
        start = text.find(" ", start) + 1 or start
    room = limit - (4 if start else 0) - 4
    end = min(len(text), start + room)
    if end < len(text):
        end = max(text.rfind(" ", start, end), start + 1)
    return ("... " if start else "") + text[start:end].strip() + (" ..." if end < len(text) else "")


def _split(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for line in _LINE.finditer(text):
        start, end = line.span()
        if end - start <= LONG_LINE:
            spans.append((start, end))
            continue
        for gap in _SENTENCE_END.finditer(text, start, end):
            spans.append((start, gap.start()))
            start = gap.end()
        if start < end:
            spans.append((start, end))
    return spans
