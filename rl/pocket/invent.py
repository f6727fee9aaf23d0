"""Rewrite demonstrations to tell of invented entities, so that a small policy learns to read and not to remember.

With a few hundred pages a small model memorises the facts of the training entities. So most training rows replace the
entity's name, the answer and every other number by inventions of the same shape, consistently in queries, results and
turns. The form stays: the tools, the wording, and the place of the answer in a page.

Invariants (tested): a rewritten row differs from its source only in names and values; the answer still stands
in the last result letter for letter; no name in `forbidden` (the validation and test entities) survives in a
row that searches.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from lensgraph.tools.local.world.world_index import FLAG_OF

MONTHS = ("January February March April May June July August September October November December").split()
KEPT = frozenset(
    "a an the of and in on for to de la le du des el al km sq m metres years year people tonnes % percent total none "
    "thousand million billion trillion est BC AD degrees".split()
)
"""Words of an answer that belong to its form and not to its content: units and small words."""
FREQUENT = 4000
"""Number of words that count as frequent: about the tokens of a small vocabulary."""
_NAME, _GOLD = "\x01", "\x02"
_IMAGE_HIT = re.compile(r"^(?P<lead>(?:<information>)?(?P<rank>\d)\. )(?P<title>.+?) \((?P<score>-?\d\.\d\d)\)", re.M)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_ONSETS = "b br c ch d dr f g gr h j k kh kl l m n p pr qu r s sh st t th tr v w y z".split() + [""] * 4
_VOWELS = "a e i o u a e i o ai au ea ei ia io oa ou ue aa".split()
_CODAS = "b d g k l ld m n nd ng nt r rd rk rn s sh sk st t th x".split() + [""] * 14

Manner = Literal["plain", "eager", "frugal"]
"""Manner of acting in a demonstration that searches: `plain`; `eager`, with a search that was not needed;
`frugal`, with a lay question asked in the page's own words at once. The cold start shows known or visible
answers and lay questions both ways, and online training finds the better one."""


@dataclass(frozen=True)
class Message:
    """One message of a demonstration's dialogue."""

    role: str
    """`user` (the environment) or `assistant` (the policy)."""
    text: str
    """As the dialect wrote it."""
    pictures: tuple[int, ...] = ()
    """Numbers of the pictures before the text: 0 is the question's picture, n the n-th crop."""


@dataclass(frozen=True)
class Demonstration:
    """A right run of the graph under the oracle, without the pixels."""

    task: str
    """Id of the task that was demonstrated."""
    workflow: str
    """The graph that ran: `search_agent`, `rag` or `direct`."""
    family: str
    """The task's family, for balance and analysis."""
    scene: dict[str, Any]
    """The question's picture as a scene of `lensgraph.tools.local.world.questions.scenes`, rendered when it is needed."""
    messages: tuple[Message, ...]
    """The policy's whole conversation."""
    crops: tuple[tuple[int, int, int, int], ...] = ()
    """Boxes (left, top, right, bottom) in pixels of the question's picture, in the order in which they were made."""
    name: str | None = None
    """The entity as the search named it; None: nothing was searched."""
    answer: str = ""
    """The answer, as the policy wrote it."""
    manner: Manner = "plain"
    """The oracle's manner of acting."""


@dataclass(frozen=True)
class Lexicon:
    """Names and words that rewriting may and must not use."""

    names: tuple[str, ...] = ()
    """Names of training entities, which rows may hold."""
    words: tuple[str, ...] = ()
    """Words to invent names and values from, the frequent ones first. Syllables alone use few of a vocabulary's
    tokens, and a policy does not copy a token that it never copied in training."""
    forbidden: tuple[str, ...] = ()
    """Names of validation and test entities, which no training row may hold."""
    pieces: tuple[str, ...] = ()
    """Letters-only tokens of the vocabulary, to build words from, so that every token is copied now and then."""


def rewrite(demo: Demonstration, rng: random.Random, lexicon: Lexicon, *, share: float = 0.85) -> Demonstration:
    """The demonstration, with probability `share` about an invented entity.

    A run without a search is returned as it is. The other entities in image results are always renamed, and forbidden
    names are always replaced.
    """
    if demo.name is None or demo.workflow == "direct":
        return demo
    invent = rng.random() < share
    name = _subject(demo.name, rng, lexicon) if invent else demo.name
    aliases: dict[str, str] = {}
    scrub = _matcher(lexicon.forbidden)
    held = _word(demo.name)
    gold_form = held.sub(_NAME, demo.answer)
    gold = _value(gold_form, rng, lexicon) if invent and gold_form != _NAME else gold_form
    numbers: dict[str, str] = {}
    strange = replace(lexicon, names=())

    def scrubbed(text: str) -> str:
        if scrub is None:
            return text
        return scrub.sub(lambda found: aliases.setdefault(found[0], _subject(found[0], rng, strange)), text)

    gold = scrubbed(gold)

    def one(message: Message) -> Message:
        text = message.text
        text = held.sub(_NAME, text)
        if gold_form != _NAME:
            text = re.sub(rf"(?<!\w){re.escape(gold_form)}(?!\w)", _GOLD, text)
        text = _IMAGE_HIT.sub(lambda hit: _neighbour(hit, rng, lexicon), text)
        if invent:
            text = _digits(text, rng, numbers)
        return replace(message, text=scrubbed(text).replace(_GOLD, gold).replace(_NAME, name))

    first, *rest = demo.messages
    # the question never names the entity, but the RAG workflow's first message holds results
    head = one(first) if demo.workflow == "rag" else first
    messages = (head, *map(one, rest))
    return replace(demo, messages=messages, name=name, answer=gold.replace(_NAME, name))


def worn(question: str, rng: random.Random) -> str:
    """The question without about one word in ten, so that a policy does not depend on one wording."""
    words = question.split(" ")
    kept = [word for word in words if rng.random() >= 0.1]
    return " ".join(kept) if len(kept) > 2 else question


def _drawn(rng: random.Random, words: Sequence[str]) -> str:
    """A word, in 7 of 10 draws a frequent one: those are single tokens, and an even draw would hardly ever give
    one."""
    return rng.choice(words[:FREQUENT] if rng.random() < 0.7 else words)


def invented(rng: random.Random, words: Sequence[str] = (), pieces: Sequence[str] = (), *, capital: bool = True) -> str:
    """An invented word: one of `words`, the halves of two of them, one to three `pieces`, or one to four
    syllables."""
    shares = {"word": 2 * bool(words), "halves": bool(words), "pieces": 2 * bool(pieces), "syllables": 1}
    kind = rng.choices(list(shares), list(shares.values()))[0]
    if kind == "pieces":
        word = "".join(rng.choice(pieces) for _ in range(rng.choice((1, 2, 2, 3))))
    elif kind == "syllables":
        syllables = rng.choices((1, 2, 3, 4), (1, 4, 3, 1))[0]
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))
    else:
        word = _drawn(rng, words)
        if kind == "halves":
            other = _drawn(rng, words)
            word = word[: rng.randint(2, max(2, len(word) - 1))] + other[rng.randint(1, max(1, len(other) - 2)) :]
    word = word if len(word) > 2 else word + "ra"
    return word[:1].upper() + word[1:] if capital else word[:1].lower() + word[1:]


def _subject(name: str, rng: random.Random, lexicon: Lexicon) -> str:
    """Another name in the letter case of `name`: one of the lexicon's, or mostly an invented one."""
    capital = name[:1].isupper()
    if lexicon.names and rng.random() < 0.3:
        other = rng.choice(lexicon.names)
        if other[:1].isupper() == capital:
            return other
    words = rng.choices((1, 2, 3), (6, 3, 1))[0]
    made = " ".join(invented(rng, lexicon.words, lexicon.pieces, capital=capital) for _ in range(words))
    scrub = _matcher(lexicon.forbidden)
    return made if scrub is None or not scrub.search(made) else _subject(name, rng, lexicon)


def _value(gold: str, rng: random.Random, lexicon: Lexicon) -> str:
    """Another answer of the same shape; the placeholder of the entity's name stays in place."""
    numbers: dict[str, str] = {}
    return _WORD.sub(lambda found: _other_word(found[0], rng, lexicon), _digits(gold, rng, numbers))


def _other_word(word: str, rng: random.Random, lexicon: Lexicon) -> str:
    if word in KEPT or word.lower() in KEPT:
        return word
    if word in MONTHS:
        return rng.choice(MONTHS)
    if word.isupper() and len(word) <= 4:
        return "".join(rng.choice("ABCDEFGHIJKLMNOPRSTUVWYZ") for _ in word)
    return invented(rng, lexicon.words, lexicon.pieces, capital=word[:1].isupper())


def _neighbour(hit: re.Match[str], rng: random.Random, lexicon: Lexicon) -> str:
    """An image result with a score changed at random, and another name unless it shows the subject."""
    title = hit["title"]
    if _NAME not in title:
        prefix = FLAG_OF if title.startswith(FLAG_OF) else ""
        title = prefix + _subject(title.removeprefix(FLAG_OF), rng, lexicon)
    score = min(0.99, max(0.0, float(hit["score"]) + rng.uniform(-0.04, 0.04)))
    return f"{hit['lead']}{title} ({score:.2f})"


def _digits(text: str, rng: random.Random, known: dict[str, str]) -> str:
    """Replace every number by another of as many digits, equal numbers equally. Ranks and scores of results stay."""

    def number(found: re.Match[str]) -> str:
        old = found[0]
        if old not in known:
            first = "0" if old[0] == "0" else rng.choice("123456789")
            known[old] = first + "".join(rng.choice("0123456789") for _ in old[1:])
        return known[old]

    return re.sub(r"(?<![\d\w])\d+(?!\.\s|\d|\.\d\d\))", number, text)


def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")


@lru_cache(maxsize=8)
def _matcher(forbidden: tuple[str, ...]) -> re.Pattern[str] | None:
    """One pattern for all forbidden names, longest first, in either letter case."""
    if not forbidden:
        return None
    longest = sorted(forbidden, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)
