"""The part of a page that answers a query: what the local engine shows of its own pages, for pages of the web."""

from __future__ import annotations

import math

from lensgraph.tools.documents.passages import query_pattern, score_passages, shorten, snippet
from lensgraph.tools.documents.words import query_words, stem, stems


def passage(text: str, query: str, title: str = "", limit: int = 600) -> str:
    """The best lines and sentences of `text` for `query`, at most `limit` characters, in page order.

    Words of the title are ignored, because every line is about them, unless the query has no others; a word that
    stands in few lines weighs more than one that stands in many. Without a match: the beginning of the page.
    """
    wanted = {stem(word) for word in query_words(query)}
    wanted = wanted - set(stems(title)) or wanted
    weights = _rarity(text, wanted)
    scored = score_passages(text, weights, query_pattern(weights))
    if not any(part.score for part in scored):
        return shorten(" ".join(text.split()), 0, limit)
    return snippet(text, scored, limit)


def _rarity(text: str, wanted: set[str]) -> dict[str, float]:
    lines = [set(stems(line)) for line in text.splitlines() if line.strip()]
    return {word: math.log(1 + len(lines) / (1 + sum(word in line for line in lines))) for word in wanted}
