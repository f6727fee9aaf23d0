"""Makes the tasks of one family of one split from scenes, facts and wordings."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from lensgraph.tools.local.world import entities, measures
from lensgraph.tools.local.world.entities import Entity, Split
from lensgraph.tools.local.world.facts import gather
from lensgraph.tools.local.world.facts.relations import Fact, Tolerance
from lensgraph.tools.local.world.questions import phrasings, scenes
from lensgraph.tools.local.world.questions.eligibility import any_renditions, capped, query_renditions, verified
from lensgraph.tools.local.world.questions.expressions import targets
from lensgraph.tools.local.world.questions.phrasings import Phrasing
from lensgraph.tools.local.world.questions.scenes import Scene
from lensgraph.tools.local.world.questions.wording import formal_query, lay_query, names_of, worded
from lensgraph.tools.local.world.questions.world_task import Family, WorldTask
from lensgraph.tools.local.world.sorts import sort_of

T = TypeVar("T")

KNOWN_RELATIONS = {"flag": ("capital", "currency", "domain"), "thing": ("kind",)}
"""Relations that are asked about a known entity without a search, besides its name."""

RESERVED_SHARE = 0.4
"""Share of test tasks that use a reserved wording; training and validation use none."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
"""Words for the counts of up to six items."""


class QuestionMaker:
    """Makes the tasks of one family of one split."""

    def __init__(self, split: Split, family: Family, seed: int) -> None:
        self.split: Split = split
        self.family: Family = family
        self.rng = random.Random(f"{split}/{family}/{seed}")
        members = [e for e in entities.select(split=split) if query_renditions(split, e)]
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
        return [replace(task, id=f"world/{self.split}/{self.family}/{k:05d}") for k, task in enumerate(made)]

    # --- wordings ---

    def _wording(self, options: Sequence[Phrasing]) -> Phrasing:
        reserved = [p for p in options if p.reserved]
        open_ = [p for p in options if not p.reserved]
        if self.split == "test" and reserved and (not open_ or self.rng.random() < RESERVED_SHARE):
            return self.rng.choice(reserved)
        return self.rng.choice(open_)

    def _frame(self, name: phrasings.Frames) -> str:
        return self.rng.choice(phrasings.frames(name, reserved=self.split == "test"))

    # --- pictures ---

    def _alone(self, entity: Entity, *, any_artist: bool = False, plain: bool = False) -> Scene:
        options = (any_renditions if any_artist else query_renditions)(self.split, entity)
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
        pick = any_renditions if any_artist else query_renditions
        drawn = [(e.id, self.rng.choice(pick(self.split, e))) for e in cast]
        augment = self.split == "train" and not plain and self.rng.random() < 0.6
        scale = self.rng.choice(((0.8, 1.0), (0.55, 1.0)))
        return scenes.compose(drawn, self.rng, augment=augment, scale=scale), place

    def _task(
        self,
        phrasing: Phrasing,
        picture: Scene,
        golds: Sequence[str],
        *,
        relation: str | None = None,
        entity: Entity | None = None,
        target: str | None = None,
        tolerance: Tolerance | None = None,
        query_formal: str = "",
        query_lay: str = "",
        page_id: str | None = None,
    ) -> WorldTask:
        """A task without its number; `relation` None: the wording's own."""
        return WorldTask(
            id="",
            split=self.split,
            family=self.family,
            question=worded(phrasing.text, entity, target, self._frame),
            picture=picture,
            golds=tuple(dict.fromkeys(golds)),
            tolerance=tolerance,
            relation=relation or phrasing.relation,
            phrasing=phrasing.id,
            entity_id=entity.id if entity else None,
            target=target,
            query_formal=query_formal,
            query_lay=query_lay,
            page_id=page_id,
        )

    def _naming(self, entity: Entity, picture: Scene, target: str | None = None) -> WorldTask:
        relation = f"name_{entity.kind}" + ("_crop" if target else "")
        phrasing = self._wording(phrasings.wordings()[relation].formal)
        return self._task(
            phrasing, picture, names_of(entity), relation=f"name_{entity.kind}", entity=entity, target=target
        )

    def _asking(self, fact: Fact, picture: Scene, target: str | None = None, lay: Phrasing | None = None) -> WorldTask:
        entity = entities.get(fact.entity_id)
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
                for relation in gather.RELATIONS.values()
                if relation.kind == kind and capped(self.split, relation.name)
            ]
            for kind in ("flag", "thing")
        }
        flags, kinds = _deck(decks["flag"], self.rng), _thing_relations(self.split, self.rng)
        while True:
            yield next(next(flags)) if self.rng.random() < 0.8 else next(kinds)

    def _image_text(self) -> Iterator[WorldTask]:
        for fact in self._facts():
            yield self._asking(fact, self._alone(entities.get(fact.entity_id)))

    def _crop_text(self) -> Iterator[WorldTask | None]:
        for fact in self._facts():
            naming = self.rng.random() < 0.4
            entity = (
                next(self.unknown_flags if self.rng.random() < 0.5 else self.unknown_things)
                if naming
                else entities.get(fact.entity_id)
            )
            picture, place = self._group(entity, self.rng.choice((2, 2, 3, 3, 3, 4, 4, 5, 6)))
            options = targets(picture, place)
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
        table = {(fact.entity_id, fact.relation): fact for fact in gather.facts()}
        allowed = {(f.entity_id, f.relation) for name in gather.RELATIONS for f in capped(self.split, name)}
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
            yield self._asking(fact, self._alone(entities.get(fact.entity_id)), lay=lay)

    def _known(self) -> Iterator[WorldTask]:
        cards: list[tuple[Entity, str]] = []
        for entity in entities.select(known=True):
            # Naming comes up as often as all the facts together.
            relations = [r for r in KNOWN_RELATIONS[entity.kind] if r in gather.of(entity.id)]
            cards += [(entity, "name")] * max(1, len(relations)) + [(entity, relation) for relation in relations]
        for entity, relation in _deck(cards, self.rng):
            if not query_renditions(self.split, entity):
                continue
            picture = self._alone(entity, any_artist=True)
            if relation == "name":
                yield self._naming(entity, picture)
                continue
            yield self._asking(gather.of(entity.id)[relation], picture)

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
            sort, options = sort_of(entities.get(item.entity_id)), targets(picture, place)
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
        colour = measures.shipped()[f"{item.rendition}/{item.entity_id}"].colour
        options = targets(picture, place) if len(picture.items) > 1 else [
            "the flag" if item.is_flag else "the item"
        ]  # fmt: skip
        options = [text for text in options if "mostly" not in text and not text.endswith((f"{colour} flag",))]
        if colour is None or not options:
            return None
        golds = [colour, *(["gray"] if colour == "grey" else [])]
        return self._task(phrasing, picture, golds, target=self.rng.choice(options))


def _deck(cards: Sequence[T], rng: random.Random) -> Iterator[T]:
    """Deal every card once in random order, then shuffle and begin again."""
    if not cards:
        raise ValueError("nothing to deal: the world has no fact or entity for this kind of question")
    while True:
        yield from rng.sample(list(cards), len(cards))


def _thing_relations(split: Split, rng: random.Random) -> Iterator[Fact]:
    """Facts about things; a relation comes up by the square root of how many facts it has, so that no one rules."""
    names = [r.name for r in gather.RELATIONS.values() if r.kind == "thing" and capped(split, r.name)]
    decks = [_deck(capped(split, name), rng) for name in names]
    weights = [len(capped(split, name)) ** 0.5 for name in names]
    while True:
        yield next(rng.choices(decks, weights)[0])
