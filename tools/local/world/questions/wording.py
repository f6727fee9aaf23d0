"""The words of a question and of its searches: a wording with its placeholders filled, an entity's names, two queries."""

from __future__ import annotations

from collections.abc import Callable

from lensgraph.tools.local.world import entities
from lensgraph.tools.local.world.entities import Entity
from lensgraph.tools.local.world.facts.relations import Fact
from lensgraph.tools.local.world.questions import phrasings
from lensgraph.tools.local.world.questions.phrasings import Phrasing
from lensgraph.tools.local.world.sorts import sort_of


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


def names_of(entity: Entity) -> list[str]:
    """Every name that answers what the entity is called."""
    extra = [entity.wiki_title] if entity.wiki_title and entity.kind == "flag" else []
    return list(dict.fromkeys([entity.name, *entity.aliases, *extra]))


def formal_query(fact: Fact) -> str:
    """The entity and what the page calls the relation."""
    name = entities.get(fact.entity_id).name
    # The kind of a thing needs no query word: its page begins with the definition.
    return f"{name} {phrasings.wordings()[fact.relation].formal_query}".strip()


def lay_query(fact: Fact, lay: Phrasing) -> str:
    """The entity and the words a person would type first."""
    return f"{entities.get(fact.entity_id).name} {lay.lay_query}"
