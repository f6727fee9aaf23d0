"""Facts of the pages about the entities, one short clean answer each.

Invariant: `fact.gold` stands letter for letter in `fact.line`, which is a line (or sentence) of the page
`fact.page_id`; whatever cannot be reduced to one short answer is dropped, so a reader of the right line is never
marked wrong. Relations whose answer can be seen in the picture (national colours) or guessed from the relation alone
(government type, suffrage) are not here.
"""

from __future__ import annotations

from functools import cache

from lensgraph.tools.local.world import entities
from lensgraph.tools.local.world.facts import country_facts, lead_facts
from lensgraph.tools.local.world.facts.relations import Fact, Relation

RELATIONS: dict[str, Relation] = {row.name: row for row in [*country_facts.RELATIONS, *lead_facts.RELATIONS]}
"""Every relation by its name, countries first."""


@cache
def facts() -> tuple[Fact, ...]:
    """Every fact of every entity: entities in their order, relations in theirs."""
    makers = {"flag": country_facts.fact_of, "thing": lead_facts.fact_of}
    return tuple(
        fact
        for entity in entities.load_entities()
        for relation in RELATIONS.values()
        if relation.kind == entity.kind and (fact := makers[entity.kind](entity, relation))
    )


@cache
def _by_entity() -> dict[str, dict[str, Fact]]:
    table: dict[str, dict[str, Fact]] = {}
    for fact in facts():
        table.setdefault(fact.entity_id, {})[fact.relation] = fact
    return table


def of(entity_id: str) -> dict[str, Fact]:
    """The facts of one entity by relation; empty when its pages say nothing that can be asked."""
    return _by_entity().get(entity_id, {})
