"""Questions about the world, made from scenes, facts and wordings.

Invariant: a task is a function of (split, family, seed) and of the shipped data, so everybody gets the same ones. An
entity is asked about in its own split only; `known` is the exception and the point of it: its entities are training
entities, and the test asks about them with drawings and wordings that training never showed. The family is a label
for analysis: neither the policy nor the reward reads it.

Families: `visible` is answered from the pixels; `known` from memory; `image` needs an image search; `image_text` an image
and then a text search; `crop_text` a crop first; `correction` begins with words that do not find the page.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from lensgraph.tools.local.world import entities as world_entities
from lensgraph.tools.local.world import facts as world_facts
from lensgraph.tools.local.world import phrasings, pictures, scenes
from lensgraph.tools.local.world.entities import DATA, Entity, Split
from lensgraph.tools.local.world.facts import Fact, Tolerance
from lensgraph.tools.local.world.phrasings import Phrasing
from lensgraph.tools.local.world.scenes import Item, Scene

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

Family = Literal["visible", "known", "image", "image_text", "crop_text", "correction"]
FAMILIES: tuple[Family, ...] = get_args(Family)

_BALANCED: dict[Family, float] = {
    "visible": 0.28, "known": 0.22, "image": 0.14, "image_text": 0.16, "crop_text": 0.10, "correction": 0.10,
}  # fmt: skip
SHARES: dict[Split, dict[Family, float]] = {
    "train": {
        "visible": 0.15, "known": 0.12, "image": 0.20, "image_text": 0.23, "crop_text": 0.15, "correction": 0.15,
    },
    "validation": _BALANCED,
    "test": _BALANCED,
}  # fmt: skip
"""Share of each family in a split. Training draws more of what takes longer to learn. What is measured is search-balanced:
half of the questions need no search and half do (50:50, as DeepMMSearchVQA, arXiv 2510.12801, section 2), so that
searching too much costs as much as searching too little."""

SIZES: dict[Split, int] = {"train": 16000, "validation": 400, "test": 1200}
"""Tasks in each split."""

KNOWN_RELATIONS = {"flag": ("capital", "currency", "domain"), "thing": ("kind",)}
"""What a known entity is asked closed book, besides its name."""

MODE_CAP = 0.12
"""No answer may be right for more than this share of a split's facts of one relation in the searching families."""

RESERVED_SHARE = 0.4
"""Share of test tasks that use a reserved wording; training and validation use none."""


@dataclass(frozen=True)
class WorldTask:
    """One question with its picture and its answers."""

    id: str
    """`world/test/image_text/00017`."""
    split: Split
    family: Family
    question: str
    picture: Scene
    golds: tuple[str, ...]
    """Accepted answers, the page's own spelling first."""
    tolerance: Tolerance | None
    relation: str
    """Key of `facts.RELATIONS`, or `name_flag`, `name_thing`, `count_items`, `background`, ..."""
    phrasing: str
    """Id of the wording."""
    entity_id: str | None
    """What is asked about. None: the whole picture."""
    target: str | None
    """The expression that singles the item out (`the second flag from the left`). None: no crop is needed."""
    query_formal: str
    """A query that finds the page. Empty: no text search is needed."""
    query_lay: str
    """The query that the wording suggests and that misses. Empty outside `correction`."""
    page_id: str | None
    """The page that states the answer. None: no page does."""

    @property
    def knowledge(self) -> Literal["visible", "known", "unknown"]:
        """Where the answer can come from without a search; `unknown`: nowhere."""
        return self.family if self.family in ("visible", "known") else "unknown"  # type: ignore[return-value]

    @property
    def items(self) -> tuple[Item, ...]:
        """The drawings in the picture, with their boxes."""
        return self.picture.items

    @property
    def item(self) -> Item | None:
        """The drawing that is asked about."""
        return next((item for item in self.items if item.entity_id == self.entity_id), None)

    def render(self) -> Image.Image:
        """The picture, RGB."""
        return self.picture.render()


def load(split: str, family: str | None = None, limit: int | None = None, seed: int = 0) -> list[WorldTask]:
    """Tasks of a split; every prefix of the list keeps the families' shares."""
    if split not in SIZES:
        raise ValueError(f"no split {split!r} in the world; there are {', '.join(SIZES)}")
    if family is not None and family not in FAMILIES:
        raise ValueError(f"no family {family!r} in the world; there are {', '.join(FAMILIES)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all tasks")
    wanted = [task for task in _split(split, seed) if family is None or task.family == family]  # type: ignore[arg-type]
    return wanted[:limit]


@lru_cache(maxsize=4)
def _split(split: Split, seed: int) -> tuple[WorldTask, ...]:
    rows: list[tuple[float, WorldTask]] = []
    for family in FAMILIES:
        count = round(SHARES[split][family] * SIZES[split])
        made = _Maker(split, family, seed).make(count)
        rows += [((k + 0.5) / len(made), task) for k, task in enumerate(made)]
    # Evenly interleaved: the first 100 tasks have the same mix as all of them.
    return tuple(task for _, task in sorted(rows, key=lambda row: (row[0], row[1].id)))


def _deck(cards: Sequence[T], rng: random.Random) -> Iterator[T]:
    """Deal every card once in random order, then shuffle and begin again."""
    if not cards:
        raise ValueError("nothing to deal: the world has no fact or entity for this kind of question")
    while True:
        yield from rng.sample(list(cards), len(cards))


@cache
def held_out_names() -> frozenset[str]:
    """Names of validation and test entities, in lower case: in training none of them is the answer of a fact."""
    held = (e for e in world_entities.load() if e.split != "train")
    return frozenset(name.lower() for entity in held for name in names_of(entity))


@cache
def capped(split: Split, relation: str) -> tuple[Fact, ...]:
    """Facts of a relation for the searching families: unknown entities, no answer above `MODE_CAP`; in training none whose
    answer names an entity of another split (a partner in trade, a kind of animal)."""
    found = [
        fact
        for fact in world_facts.facts()
        if fact.relation == relation
        and (entity := world_entities.get(fact.entity_id)).split == split
        and not entity.known
        and _query_renditions(split, entity)
        and not (split == "train" and held_out_names() & {name.lower() for name in (fact.gold, *fact.aliases)})
    ]
    random.Random(f"cap/{split}/{relation}").shuffle(found)
    room = max(1, int(MODE_CAP * len(found)))
    seen: Counter[str] = Counter()
    kept = []
    for fact in found:
        seen[fact.gold] += 1
        if seen[fact.gold] <= room:
            kept.append(fact)
    return tuple(kept)


@cache
def verified() -> dict[str, tuple[str, ...]]:
    """Lay wording -> entities for which its words miss the answer in the real index and the formal ones find it."""
    path = DATA / "corrections.json"
    if not path.exists():
        return {}
    return {key: tuple(ids.split()) for key, ids in json.loads(path.read_text(encoding="utf-8")).items()}


def _query_renditions(split: Split, entity: Entity) -> list[str]:
    """Renditions a question about this entity may show. Training: what no other split shows."""
    table = pictures.TRAIN_QUERIES if split == "train" else pictures.TEST_QUERIES
    return [name for name in table[entity.kind] if f"{name}/{entity.id}" in scenes.pixels()]


def _any_rendition(split: Split, entity: Entity) -> list[str]:
    """Renditions where no search follows: in training the indexed drawings too, for more artists to learn from."""
    extra = pictures.INDEXED[entity.kind] if split == "train" else ()
    found = [name for name in extra if f"{name}/{entity.id}" in scenes.pixels()]
    return [*_query_renditions(split, entity), *found]


_PLANTS = frozenset(
    "1F331 1F332 1F333 1F334 1F335 1F337 1F338 1F339 1F33A 1F33B 1F33C 1F33E 1F33F 1F340 1F341 1F342 1F343 1F344 "
    "1F490 1F940 1FAB4 1FAB7 1FABB 1F3F5 2618 1F384".split()
)
_NO_ANIMAL = frozenset("1F43E 1FAB6 1FABD 1F578 1F41A 1FAB8 1FAB9 1FABA 1F4AE 1F9A0 1FABE 1FABC".split())
_NO_FOOD = re.compile(
    r"\b(chopsticks|fork|spoon|knife|plate|jar|amphora|glass(es)?|cup|mugs?|bottle|cocktail|drink|tea(pot)?|mate|ice)\b"
)
_VEHICLES = frozenset(
    "1F680 1F681 1F682 1F683 1F685 1F686 1F687 1F68A 1F68C 1F68E 1F690 1F691 1F692 1F693 1F695 1F697 1F699 1F69A 1F69B "
    "1F69C 1F69D 1F69E 1F69F 1F6A0 1F6A1 1F6A2 1F6A4 1F6B2 1F6F3 1F6F4 1F6F5 1F6F6 1F6F8 1F6F9 1F6FA 1F6FB 1F6E5 1F6E9 "
    "26F5 26F4 2708 1F3CD 1F3CE".split()
)
_BUILDINGS = frozenset(
    "1F3D8 1F3E0 1F3E1 1F3E2 1F3E3 1F3E4 1F3E5 1F3E6 1F3E8 1F3EA 1F3EB 1F3EC 1F3ED 1F3EF 1F3F0 1F3DB 1F492 26EA 1F54C "
    "1F54D 1F6D5 1F3DF 1F6D6".split()
)


def sort_of(entity: Entity) -> str | None:
    """`flag`, `animal`, `plant`, `food`, `vehicle`, `building` or `object`; None where people would disagree."""
    point = entity.codepoint
    if entity.kind == "flag":
        return "flag"
    if point in _PLANTS:
        return "plant"
    if point in _VEHICLES:
        return "vehicle"
    if point in _BUILDINGS:
        return "building"
    if entity.group == "Animals & Nature":
        return None if point in _NO_ANIMAL else "animal"
    if entity.group == "Food & Drink":
        return None if _NO_FOOD.search(entity.name) else "food"
    return "object" if entity.group == "Objects" else None


NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


class _Maker:
    """Makes the tasks of one family of one split."""

    def __init__(self, split: Split, family: Family, seed: int) -> None:
        self.split: Split = split
        self.family: Family = family
        self.rng = random.Random(f"{split}/{family}/{seed}")
        members = [e for e in world_entities.select(split=split) if _query_renditions(split, e)]
        self.flags = [e for e in members if e.kind == "flag"]
        self.things = [e for e in members if e.kind == "thing"]
        self.unknown_flags = _deck([e for e in self.flags if not e.known], self.rng)
        self.unknown_things = _deck([e for e in self.things if not e.known], self.rng)

    def make(self, count: int) -> list[WorldTask]:
        """`count` tasks."""
        one: Callable[[], Iterator[WorldTask | None]] = getattr(self, f"_{self.family}")
        made: list[WorldTask] = []
        for task in one():
            if task is not None:
                made.append(task)
            if len(made) == count:
                break
        return [_numbered(task, k) for k, task in enumerate(made)]

    # --- wordings ---

    def _wording(self, options: Sequence[Phrasing]) -> Phrasing:
        reserved = [p for p in options if p.reserved]
        open_ = [p for p in options if not p.reserved]
        if self.split == "test" and reserved and (not open_ or self.rng.random() < RESERVED_SHARE):
            return self.rng.choice(reserved)
        return self.rng.choice(open_)

    def _frame(self, name: phrasings.Frames) -> str:
        return self.rng.choice(phrasings.frames(name, reserved=self.split == "test"))

    def _question(self, phrasing: Phrasing, entity: Entity | None, target: str | None) -> str:
        return worded(phrasing.text, entity, target, self._frame)

    # --- pictures ---

    def _alone(self, entity: Entity, *, any_artist: bool = False, plain: bool = False) -> Scene:
        options = (_any_rendition if any_artist else _query_renditions)(self.split, entity)
        augment = self.split == "train" and not plain and self.rng.random() < 0.6
        return scenes.compose([(entity.id, self.rng.choice(options))], self.rng, augment=augment, scale=(0.75, 1.0))

    def _group(
        self, entity: Entity | None, count: int, *, any_artist: bool = False, plain: bool = False
    ) -> tuple[Scene, int]:
        """A scene of `count` items with `entity` at a random place, and that place."""
        share = self.rng.choice((0.25, 0.5, 0.75))
        others: list[Entity] = []
        while len(others) < count - (entity is not None):
            other = self.rng.choice(self.flags if self.rng.random() < share else self.things)
            if other not in others and other != entity:
                others.append(other)
        place = self.rng.randrange(count)
        cast = others if entity is None else [*others[:place], entity, *others[place:]]
        pick = _any_rendition if any_artist else _query_renditions
        drawn = [(e.id, self.rng.choice(pick(self.split, e))) for e in cast]
        augment = self.split == "train" and not plain and self.rng.random() < 0.6
        scale = self.rng.choice(((0.8, 1.0), (0.55, 1.0)))
        return scenes.compose(drawn, self.rng, augment=augment, scale=scale), place

    def _task(self, phrasing: Phrasing, picture: Scene, golds: Sequence[str], **rest: object) -> WorldTask:
        entity = rest.pop("entity", None)
        target = rest.pop("target", None)
        assert entity is None or isinstance(entity, Entity)
        assert target is None or isinstance(target, str)
        fields: dict[str, object] = {
            "tolerance": None, "relation": phrasing.relation, "query_formal": "", "query_lay": "", "page_id": None, **rest
        }  # fmt: skip
        return WorldTask(
            id="",
            split=self.split,
            family=self.family,
            question=self._question(phrasing, entity, target),
            picture=picture,
            golds=tuple(dict.fromkeys(golds)),
            phrasing=phrasing.id,
            entity_id=entity.id if entity else None,
            target=target,
            **fields,  # type: ignore[arg-type]
        )

    def _naming(self, entity: Entity, picture: Scene, target: str | None = None) -> WorldTask:
        relation = f"name_{entity.kind}" + ("_crop" if target else "")
        phrasing = self._wording(phrasings.wordings()[relation].formal)
        return self._task(
            phrasing, picture, names_of(entity), relation=f"name_{entity.kind}", entity=entity, target=target
        )

    def _asking(self, fact: Fact, picture: Scene, target: str | None = None, lay: Phrasing | None = None) -> WorldTask:
        entity = world_entities.get(fact.entity_id)
        wordings = phrasings.wordings()[fact.relation]
        return self._task(
            lay or self._wording(wordings.formal),
            picture,
            [fact.gold, *fact.aliases],
            tolerance=fact.tolerance,
            entity=entity,
            target=target,
            query_formal=formal_query(fact),
            query_lay=lay_query(fact, lay) if lay else "",
            page_id=fact.page_id,
        )

    # --- families ---

    def _image(self) -> Iterator[WorldTask]:
        while True:
            entity = next(self.unknown_flags if self.rng.random() < 0.45 else self.unknown_things)
            yield self._naming(entity, self._alone(entity))

    def _facts(self) -> Iterator[Fact]:
        """Facts to ask about: relations in turn, four out of five about countries."""
        decks = {
            kind: [
                _deck(capped(self.split, relation.name), self.rng)
                for relation in world_facts.RELATIONS.values()
                if relation.kind == kind and capped(self.split, relation.name)
            ]
            for kind in ("flag", "thing")
        }
        flags, kinds = _deck(decks["flag"], self.rng), _thing_relations(self.split, self.rng)
        while True:
            yield next(next(flags)) if self.rng.random() < 0.8 else next(kinds)

    def _image_text(self) -> Iterator[WorldTask]:
        for fact in self._facts():
            yield self._asking(fact, self._alone(world_entities.get(fact.entity_id)))

    def _crop_text(self) -> Iterator[WorldTask | None]:
        for fact in self._facts():
            naming = self.rng.random() < 0.4
            entity = (
                next(self.unknown_flags if self.rng.random() < 0.5 else self.unknown_things)
                if naming
                else world_entities.get(fact.entity_id)
            )
            picture, place = self._group(entity, self.rng.choice((2, 2, 3, 3, 3, 4, 4, 5, 6)))
            options = scenes.targets(picture, place)
            if not options:
                yield None
                continue
            # Nobody asks for the capital of "the country of the picture": flags are called flags, or items.
            flags = [text for text in options if "flag" in text]
            if entity.kind == "flag":
                options = flags if flags and self.rng.random() < 0.8 else [o for o in options if "item" in o] or options
            target = self.rng.choice(options)
            yield self._naming(entity, picture, target) if naming else self._asking(fact, picture, target)

    def _correction(self) -> Iterator[WorldTask]:
        table = {(fact.entity_id, fact.relation): fact for fact in world_facts.facts()}
        allowed = {(f.entity_id, f.relation) for name in world_facts.RELATIONS for f in capped(self.split, name)}
        decks: list[Iterator[tuple[Phrasing, Fact]]] = []
        for wordings in phrasings.wordings().values():
            for lay in wordings.lay:
                if lay.reserved and self.split != "test":
                    continue
                keys = [(entity, lay.relation) for entity in verified().get(lay.id, ())]
                cards = [(lay, table[key]) for key in keys if key in allowed]
                if cards:
                    # Reserved wordings come up as often as in the other families.
                    decks += [_deck(cards, self.rng)] * (2 if lay.reserved else 1)
        if not decks:
            return
        for deck in _deck(decks, self.rng):
            lay, fact = next(deck)
            yield self._asking(fact, self._alone(world_entities.get(fact.entity_id)), lay=lay)

    def _known(self) -> Iterator[WorldTask]:
        cards: list[tuple[Entity, str]] = []
        for entity in world_entities.select(known=True):
            # Naming comes up as often as all the facts together.
            relations = [r for r in KNOWN_RELATIONS[entity.kind] if r in world_facts.of(entity.id)]
            cards += [(entity, "name")] * max(1, len(relations)) + [(entity, relation) for relation in relations]
        for entity, relation in _deck(cards, self.rng):
            if not _query_renditions(self.split, entity):
                continue
            picture = self._alone(entity, any_artist=True)
            if relation == "name":
                yield self._naming(entity, picture)
                continue
            task = self._asking(world_facts.of(entity.id)[relation], picture)
            yield task

    def _visible(self) -> Iterator[WorldTask | None]:
        for relation in _deck(
            ("count_items", "count_flags", "count_things", "background", "main_colour", "kind_at"), self.rng
        ):
            yield self._seen(relation)

    def _seen(self, relation: str) -> WorldTask | None:
        phrasing = self._wording(phrasings.wordings()[relation].formal)
        if relation == "main_colour":
            return self._colour(phrasing)
        count = self.rng.randint(2, 6) if relation != "background" else self.rng.randint(1, 4)
        picture, place = self._group(None, count, any_artist=True, plain=True)
        if relation == "background":
            golds = [picture.background, *(["gray"] if picture.background == "grey" else [])]
            return self._task(phrasing, picture, golds)
        if relation == "kind_at":
            item = picture.items[place]
            sort, options = sort_of(world_entities.get(item.entity_id)), scenes.targets(picture, place)
            options = [text for text in options if "flag" not in text]
            if sort is None or not options or (sort == "flag" and self.rng.random() < 0.6):
                return None
            return self._task(phrasing, picture, [sort], target=self.rng.choice(options))
        flags = sum(item.is_flag for item in picture.items)
        number = {"count_items": count, "count_flags": flags, "count_things": count - flags}[relation]
        return self._task(phrasing, picture, [str(number), NUMBERS[number], *(["none"] if number == 0 else [])])

    def _colour(self, phrasing: Phrasing) -> WorldTask | None:
        picture, place = self._group(None, self.rng.choice((1, 2, 3)), any_artist=True, plain=True)
        item = picture.items[place]
        colour = scenes.pixels()[f"{item.rendition}/{item.entity_id}"].colour
        options = scenes.targets(picture, place) if len(picture.items) > 1 else [
            "the flag" if item.is_flag else "the item"
        ]  # fmt: skip
        options = [text for text in options if "mostly" not in text and not text.endswith((f"{colour} flag",))]
        if colour is None or not options:
            return None
        golds = [colour, *(["gray"] if colour == "grey" else [])]
        return self._task(phrasing, picture, golds, target=self.rng.choice(options))


def worded(text: str, entity: Entity | None, target: str | None, frame: Callable[[phrasings.Frames], str]) -> str:
    """A wording with its placeholders filled; `frame` chooses how the entity is spoken of."""
    if entity is not None and entity.kind == "flag":
        subject = frame("country in a scene" if target else "country")
    elif entity is not None:
        subject = "{T}" if target else frame("thing").replace("{N}", sort_of(entity) or "thing")
    else:
        subject = ""
    text = text.replace("{C}", subject).replace("{X}", subject).replace("{T}", target or "this picture")
    return text[:1].upper() + text[1:]


def _thing_relations(split: Split, rng: random.Random) -> Iterator[Fact]:
    """Facts about things; a relation comes up by the square root of how many facts it has, so that no one rules."""
    names = [r.name for r in world_facts.RELATIONS.values() if r.kind == "thing" and capped(split, r.name)]
    decks = [_deck(capped(split, name), rng) for name in names]
    weights = [len(capped(split, name)) ** 0.5 for name in names]
    while True:
        yield next(rng.choices(decks, weights)[0])


def _numbered(task: WorldTask, number: int) -> WorldTask:
    fields = {**task.__dict__, "id": f"world/{task.split}/{task.family}/{number:05d}"}
    return WorldTask(**fields)


def names_of(entity: Entity) -> list[str]:
    """Every name that answers what the entity is called."""
    extra = [entity.wiki_title] if entity.wiki_title and entity.kind == "flag" else []
    return list(dict.fromkeys([entity.name, *entity.aliases, *extra]))


def formal_query(fact: Fact) -> str:
    """The entity and what the page calls the relation."""
    name = world_entities.get(fact.entity_id).name
    # What a thing is by definition needs no word for it: a page begins with that.
    return f"{name} {phrasings.wordings()[fact.relation].formal_query}".strip()


def lay_query(fact: Fact, lay: Phrasing) -> str:
    """The entity and the words a person would type first."""
    return f"{world_entities.get(fact.entity_id).name} {lay.lay_query}"
