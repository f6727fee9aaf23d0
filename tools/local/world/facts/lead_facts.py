"""Facts about things: found in the first sentences of a Wikipedia article by a pattern, and reviewed by a person."""

from __future__ import annotations

import re

from lensgraph.tools.local.world import pages
from lensgraph.tools.local.world.entities import Entity
from lensgraph.tools.local.world.facts.relations import Fact, Relation

_STOP = (
    r"(?= (?:that|which|who|used|with|in|of|for|made|designed|consisting|from|where|worn|played|intended|typically"
    r"|usually|often|having|known|native|belonging|characteri[sz]ed|capable|held|based|produced|producing|containing"
    r"|on|to|by|and|covered|covering|featuring|since|formed|grown|located|has|was|resembling|widely|specifically"
    r"|driven|operated|equipped|developed|whose|supported|composed|between|attached|when|at|into|powered|connecting"
    r"|involving|occurring|without|served|operating|comprising|cooked|inhabiting|derived|created|given|as|under"
    r"|constructed|fitted|within|placed|such|about|over|so|carved|rolled|invented|caused|originating|endemic|found|brewed|designated"
    r"|utilizing|using|embedded|worn)\b|[,.;(])"
)
_ANY = r"(?:an? |the |any |one of the )?"
_SORT = r"(?:type|form|kind|species|genus|variety|breed|style|genre|family|group)s? of "
_WORDS = r"((?:[a-z'-]+ ){0,3}?[a-z'-]+)"

LEAD_PATTERNS: dict[str, str] = {
    "family": r"\bfamily ([A-Z][a-z]+(?:idae|aceae))\b",
    "genus": r"\bgenus ([A-Z][a-z]+)\b",
    "order": r"\border ([A-Z][a-z]+)\b",
    "native": r"\b(?:native|endemic|indigenous) to (?:the )?([^.;(),]+?)(?=[.;(,]| (?:that|where|which|from|in|has)\b"
    r"| and (?:has|is|are|was|have|its|parts|nearby|no)\b)",
    "species_count": r"\b((?:about |over |around |approximately |some |more than )?"
    r"(?:\d[\d,]*|two|three|four|five|six|seven|eight)) (?:(?:living|extant|known|surviving|described) )*species\b",
    "made_of": r"\bmade (?:up )?(?:of|from|with) ((?:[a-z-]+ ){0,3}?[a-z-]+)" + _STOP,
    "kind": rf"^(?:[^.(]|\([^)]*\))*?\b(?:is|are) (?:typically |usually )?{_ANY}(?:{_SORT})?(?:an? )?{_WORDS}{_STOP}",
}
"""Relation of things -> what finds its answer in a lead. `REJECTED` and `CHOSEN` hold what the review changed."""

REJECTED: dict[str, str] = {
    "family": "1F357 1F99A",
    "genus": "1F994 1F341 1F99C 1FABF 1F421 1F40F 1F411",
    "order": "1F357 1FAB1 1F400 1F40B",
    "native": "1F98F 1F400 1F43F 1F994 1F341 1F375 1F9A9 1F413 1F330 1F43B-200D-2744",
    "species_count": "1F98D 1F993 1F9AC 1F992 1F98F 1F99B 1F43B-200D-2744 1F983 1F9A9 1F41C 1F42C 1FAB2 1F334 1FAB1",
    "made_of": "1FABC 1F991 1F341 1F953 1F374 1F944 1F52A 1F3D6 1F9F1 1FA82 1F38E 1F3C0 1FA86 1F9F5 1FAA1 1F9F6 1F9E3 "
    "1F9E6 1F97E 1F462 1F6AA 1F35E 1F9C8 1F48E 1F6E4 1FA9C 1F3E0 1F3E1 1F3D8 1FA91",
    "kind": "1F3BE 1F3CF 1F3AE 1F95B 1F377 1F95F 26F0 1F6B2 1F6F6 1F691 1F363 1FAA8 1F962 231A 1F3F0 1F36F 1F32A 1F525 1F300 1F406 1F98D 1F415 1F98F 1F414 1F413 1F965 1F438 1FABC 1F42C 1F427 1F43C 1F9A1 1F9AC 1F403",
}
"""Code points whose match answers another question (an extinct cousin, one species among several, one use)."""

CHOSEN: dict[str, dict[str, str]] = {
    "native": {
        "1F403": "South and Southeast Asia",
        "1F34E": "Central Asia",
        "1F34F": "Central Asia",
        "1FAD2": "Asia Minor",
        "1F98D": "equatorial Africa",
        "1F981": "Sub-Saharan Africa and India",
        "1F43C": "China",
        "1F9A1": "Europe and West Asia",
    },
    "made_of": {"1F35E": "water, flour", "1F363": "vinegared rice", "1F35D": "unleavened dough"},
    "order": {"1F408": "Carnivora"},
    "kind": {"1F98D": "great apes", "1F40E": "hoofed mammal", "1F427": "flightless semi-aquatic sea birds",
             "1F43C": "bear species", "1F403": "domesticated bovine"},
}  # fmt: skip
"""Relation -> code point -> answer read off the lead by a person."""

_VAGUE = re.compile(
    r"^(common|large|small|widely?|various|several|different|long|thin|flat|round|simple|any|one|set|other|term)$"
    r"|\b(name|member|members|group|form|forms|family|genus|piece|item|use|act|method|system|means|part|one|name for"
    r"|something|practice|process|term|place|descendant|collection|set|series|way|combination|work|large|small"
    r"|domesticated|omnivorous|aquatic|marine|widespread|distributed|perennial|elongated|edible|fleshy|called"
    r"|tallest|icy|vertical|hinged|edged|mechanical|writing|built-in|sized|medium-sized|soft-bodied|ubiquitous"
    r"|medusa-phase|varieties|roll|usually|typically|animals|object|material|source|activity|technology|range"
    r"|area|structure|opening|length|sheet|strand|cylinder|assembly|complication|space|entity|region|end)$"
)
_SENTENCE = re.compile(r"(?<=[a-z)\d\"][.!?]) (?=[A-Z])")


def _same_subject(entity: Entity) -> bool:
    """Whether the lead is about the thing drawn, not about what it is used for (a tennis ball's lead is Tennis)."""
    title = re.sub(r" \(.*\)$", "", entity.wiki_title or "").lower()
    names = {name.lower() for name in (entity.name, *entity.aliases)}
    return title in names or title.rstrip("s") in names


def _spellings(relation: str, gold: str) -> list[str]:
    """Other answers for a fact read from a lead."""
    words = gold.split(" ")
    if relation == "kind":
        # "brass instrument" is also an "instrument"; singular and plural are the same answer.
        tails = [" ".join(words[i:]) for i in range(len(words))]
        return [*tails[1:], *(tail[:-1] if tail.endswith("s") else tail + "s" for tail in tails)]
    if relation == "species_count":
        figure = words[-1]
        return [figure, f"{gold} species", f"{figure} species"]
    if relation in ("family", "genus", "order"):
        return [f"{relation} {gold}", f"the {relation} {gold}"]
    if relation == "made_of" and gold == "water, flour":
        return ["flour and water", "water and flour", "flour"]
    if relation == "native":
        return [re.sub(r"^(much of|steppes of|rainforests of|temperate regions of)\s*(the )?", "", gold)]
    return []


RELATIONS = [Relation(name, "thing") for name in LEAD_PATTERNS]
"""Every relation of things."""


def fact_of(entity: Entity, relation: Relation) -> Fact | None:
    """The thing's fact of this relation; None where its lead does not state one that can be asked about."""
    if not entity.wiki_title or (lead := pages.leads().get(entity.wiki_title)) is None:
        return None
    name, point = relation.name, entity.codepoint
    chosen = CHOSEN.get(name, {}).get(point)
    if chosen:
        gold = chosen
    else:
        if point in REJECTED[name].split() or (
            name in ("kind", "made_of", "species_count") and not _same_subject(entity)
        ):
            return None
        found = re.search(LEAD_PATTERNS[name], lead)
        if not found or (name in ("kind", "made_of") and _VAGUE.search(found[1])):
            return None
        gold = found[1].strip()
    at = lead.find(gold)
    if at < 0 or gold.lower() == entity.name.lower() or len(gold) > 45:
        return None
    line = next(s for s in _SENTENCE.split(lead) if gold in s)
    return Fact(
        entity_id=entity.id,
        relation=name,
        gold=gold,
        aliases=tuple(dict.fromkeys(a for a in _spellings(name, gold) if a and a != gold)),
        tolerance=None,
        page_id=pages.lead_page_id(entity.wiki_title),
        page_title=entity.wiki_title,
        line=line,
    )
