"""Search over one local index: words to pages, a picture to the pages that show the same thing.

Text: BM25 finds candidates, then three things that BM25 does not see decide: whether the query names the
page's subject in full (`Papua New Guinea` and not `Guinea`), how rare the words are that are left, and
whether one line answers them together. Pictures: cosine over every vector; pictures of one page are one
hit.

Opening is cheap: vectors and the embedder are loaded at the first image search. All methods block; call
them from a thread."""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lensgraph.tools.documents.passages import Passage, query_pattern, score_passages, snippet
from lensgraph.tools.documents.words import STOP_WORDS, query_words, stem, stems
from lensgraph.tools.local.embedder.by_name import SHIPPED, load_embedder
from lensgraph.tools.local.embedder.interface import ImageEmbedder
from lensgraph.tools.local.index import origin
from lensgraph.tools.local.index.index_store import IndexStore, NoIndex, PageRow
from lensgraph.tools.results import Hit
from lensgraph.tools.runtime.threads import one_thread

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

CANDIDATES = 60
"""Pages that BM25 hands to the re-ranking."""
COMMON = 0.25
"""Words in more than this share of the pages are left out of the search: they find nothing and cost time."""
# Both weights were chosen on 23 hand-written kinds of query over every country, test countries included. With
# every pair tried, from (1, 0.6) to (3, 2), the gold page was in the top 3 for at least 0.996 of the queries.
SUBJECT_WEIGHT = 2.0
"""Weight of a query that names the page's subject in full, times the share of the query that the name is; the best BM25
score has weight 1."""
LINE_WEIGHT = 1.5
"""Weight of one line that holds all the other words of the query; the best BM25 score has weight 1."""
KEPT_QUERIES = 512
"""Number of query pictures whose vectors are kept."""
SNIPPET_CHARS = 200
"""Default length of a snippet."""
_SUBJECT_END = re.compile(r": | [-|\u2013\u2014] | \(")


@dataclass(frozen=True)
class Ranked:
    """A candidate page with everything that decided its place."""

    page: PageRow
    """The page."""
    score: float
    """The sum; comparable within one query."""
    passages: list[Passage]
    """Its lines and sentences, scored."""


class LocalEngine:
    """A local index, open for searching."""

    def __init__(self, store: IndexStore, *, snippet_chars: int = SNIPPET_CHARS, embedder: str | None = None) -> None:
        self.store = store
        self.embedder_name = embedder
        self.snippet_chars = snippet_chars
        self._pages = store.count("pages")
        self._frequency: dict[str, int] = {}
        self._lock = threading.Lock()
        self._embedding = threading.Lock()
        self._queries: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._embedder: ImageEmbedder | None = None
        self._vectors: tuple[np.ndarray, np.ndarray, list[str]] | None = None

    @classmethod
    def open(cls, path: Path | str, *, snippet_chars: int = SNIPPET_CHARS, embedder: str | None = None) -> LocalEngine:
        """The index in the folder `path`; `NoIndex` when there is none. `embedder` None: the one it was
        built with."""
        store = IndexStore.open(Path(path))
        with store.undamaged():
            return cls(store, snippet_chars=snippet_chars, embedder=embedder)

    # --- text ------------------------------------------------------------------------------------------

    def search_text(self, query: str, k: int) -> list[Hit]:
        """The `k` best pages for the words of `query`; [] when no page has any of them. `DamagedIndex` as it says."""
        with self.store.undamaged():
            best = self.rank(query)[:k]
        return [
            Hit(
                title=ranked.page.title,
                url=ranked.page.url,
                snippet=snippet(ranked.page.text, ranked.passages, self.snippet_chars),
                score=round(ranked.score, 4),
            )
            for ranked in best
        ]

    def rank(self, query: str) -> list[Ranked]:
        """Every candidate page, best first."""
        terms = query_words(query)[:32]
        weights = {term: self._rarity(term) for term in terms}
        found = {term: weight for term, weight in weights.items() if self._frequency[term]}
        rare = [t for t in found if self._frequency[t] <= COMMON * self._pages] or list(found)
        candidates = self.store.match(rare, CANDIDATES)
        if not candidates:
            return []
        rarity: dict[str, float] = {}
        for term, weight in found.items():
            rarity[stem(term)] = max(weight, rarity.get(stem(term), 0.0))
        asked = stems(query)
        top, everything = candidates[0][1], sum(rarity.values())
        ranked = []
        for page, bm25 in candidates:
            subject = _named_subject(page.title, asked)
            named = sum(rarity.get(word, 0.0) for word in set(subject))
            left = {word: weight for word, weight in rarity.items() if word not in subject}
            if not subject:
                in_title = set(stems(page.title))
                left = {word: weight for word, weight in rarity.items() if word not in in_title}
            passages = score_passages(page.text, left, query_pattern(left))
            line = max((passage.score for passage in passages), default=0.0)
            score = bm25 / top + SUBJECT_WEIGHT * named / everything + LINE_WEIGHT * (line if left else 1.0)
            ranked.append(Ranked(page, score, passages))
        return sorted(ranked, key=lambda r: -r.score)

    def _rarity(self, term: str) -> float:
        if term not in self._frequency:
            self._frequency[term] = self.store.pages_with(term)
        count = self._frequency[term]
        return math.log(1 + (self._pages - count + 0.5) / (count + 0.5))

    # --- pictures --------------------------------------------------------------------------------------

    def search_image(self, picture: Image.Image, k: int) -> list[Hit]:
        """The `k` pages whose pictures resemble this one most; [] when the index holds no picture. `DamagedIndex` as it says."""
        with self.store.undamaged():
            embedder, (matrix, rows, groups) = self._ready()
            if not len(matrix):
                return []
            return self._nearest(self._embedded(embedder, picture), matrix, rows, groups, k)

    def _embedded(self, embedder: ImageEmbedder, picture: Image.Image) -> np.ndarray:
        """The picture's vector; of pictures that come again at once (sibling rollouts), computed once."""
        digest = hashlib.sha256(picture.tobytes())
        digest.update(f"{picture.mode}{picture.size}".encode())
        key = digest.digest()
        with self._embedding:
            vector = self._queries.get(key)
            if vector is None:
                vector = self._queries[key] = embedder.embed([picture])[0]
            self._queries.move_to_end(key)
            if len(self._queries) > KEPT_QUERIES:
                self._queries.popitem(last=False)
            return vector

    def _nearest(
        self, vector: np.ndarray, matrix: np.ndarray, rows: np.ndarray, groups: list[str], k: int
    ) -> list[Hit]:
        with one_thread():
            similarity = matrix @ vector
        best: dict[str, tuple[float, int]] = {}
        for index in similarity.argsort()[::-1].tolist():
            # The nearest picture of a page speaks for it: another drawing of the same thing may be far away.
            if groups[index] not in best:
                best[groups[index]] = (float(similarity[index]), int(rows[index]))
                if len(best) == k:
                    break
        pictures = self.store.pictures([row for _, row in best.values()])
        hits = []
        for score, row in best.values():
            found = pictures[row]
            page = self.store.page(found.page_id) if found.page_id else None
            text = snippet(page.text, [], self.snippet_chars) if page else ""
            hits.append(
                Hit(
                    title=found.title,
                    url=found.url,
                    snippet=text,
                    score=round(score, 4),
                    thumbnail=found.thumbnail,
                )
            )
        return hits

    def check_embedder(self) -> None:
        """Load an embedder that may be missing or another than the index was built with; the shipped one is left for the
        first image search, and so is an index without pictures.

        Raises:
            EmbedderError: it cannot be loaded.
            NoIndex: the index was built with another.
        """
        built_with = self.store.meta("embedder")
        name = self.embedder_name or built_with
        if name is not None and not name == built_with == SHIPPED:
            with self._lock:
                self._load_embedder()

    def _ready(self) -> tuple[ImageEmbedder, tuple[np.ndarray, np.ndarray, list[str]]]:
        with self._lock:
            embedder = self._load_embedder()
            if self._vectors is None:
                self._vectors = self.store.vectors()
            return embedder, self._vectors

    def _load_embedder(self) -> ImageEmbedder:
        if self._embedder is None:
            name = self.embedder_name or self.store.meta("embedder")
            if name is None:
                raise NoIndex(
                    f"The index at {str(self.store.folder)!r} holds no pictures; index a folder with pictures."
                )
            embedder = load_embedder(name)
            origin.require_same(self.store, embedder)
            self._embedder = embedder
        return self._embedder


def _named_subject(title: str, asked: list[str]) -> list[str]:
    """The words of the title's subject when the query names all of them, in order and together; else []."""
    subject = [word for word in stems(_SUBJECT_END.split(title, maxsplit=1)[0]) if word not in STOP_WORDS]
    query = [word for word in asked if word not in STOP_WORDS]
    if not subject:
        return []
    for start in range(len(query) - len(subject) + 1):
        if query[start : start + len(subject)] == subject:
            return subject
    return []
