"""What the pages say about the entities, one short clean answer each.

Invariant: `fact.gold` stands letter for letter in `fact.line`, which is a line (or sentence) of the page
`fact.page_id`; whatever cannot be reduced to one short answer is dropped, so a reader of the right line is never
marked wrong. Relations whose answer can be seen in the picture (national colours) or guessed from the relation alone
(government type, suffrage) are not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from typing_extensions import TypedDict

from lensgraph.tools.local.world import entities as world_entities
from lensgraph.tools.local.world import pages
from lensgraph.tools.local.world.entities import Entity


class Tolerance(TypedDict, total=False):
    """How far an answer may be from the gold and still be right. An absent key grants nothing."""

    relative: float
    """Largest relative error of a number, for example 0.02."""
    unit: str
    """Unit of the gold: `km`, `sq km`, `m`, `years`, `%`, ... The answer may leave it out or use a unit of the same
    dimension."""
    unordered: bool
    """The gold is a list joined by commas whose order does not matter."""


@dataclass(frozen=True)
class Fact:
    """One answer about one entity."""

    entity_id: str
    relation: str
    """Key of `RELATIONS`."""
    gold: str
    """The answer as the page writes it."""
    aliases: tuple[str, ...]
    """Other answers a fair person accepts; never holds `gold`."""
    tolerance: Tolerance | None
    """None: the words must match."""
    page_id: str
    """Page that states it."""
    page_title: str
    line: str
    """The line or sentence of the page, verbatim, that holds the gold."""


Parsed = tuple[str, list[str]]
"""Gold and aliases."""


@dataclass(frozen=True)
class Relation:
    """A kind of question about countries or about things."""

    name: str
    kind: world_entities.Kind
    chapter: str = ""
    """Factbook chapter; empty for things."""
    path: tuple[str, ...] = ()
    """Keys under the chapter; empty for things."""
    parse: Callable[[str], Parsed | None] = field(default=lambda value: None)
    """Whole cleaned value -> answer, or None when it is not one short answer."""
    tolerance: Tolerance | None = None


# --- parsers of Factbook values -----------------------------------------------------------------------------------

_DATE = r"\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NUMBER = r"\$?-?\d[\d,]*(?:\.\d+)?(?: (?:thousand|million|billion|trillion))?"
_ASIDE = r"(?: \([^()]*\))?"


def _name(value: str) -> Parsed | None:
    """A proper name, with an optional other spelling in brackets behind it."""
    found = re.fullmatch(rf"(The )?([^;,()\[\]\d/]{{2,40}}?){_ASIDE}", value)
    if not found or re.match(r"none|no |unnamed|various|NA$", value, re.I):
        return None
    aside = re.search(r"\(([^(),;]{2,30})\)$", value)
    others = [aside[1]] if aside and aside[1][0].isupper() else []
    return found[2], others


def _capital(value: str) -> Parsed | None:
    found = re.fullmatch(r"([^;,()\[\]\d]{2,40}?|Washington, D\.C\.)(?: \(([^()]*)\))?", value)
    if not found or value.startswith("no "):
        return None
    others = [o.strip() for o in re.split(r"[,/]", found[2] or "") if o.strip()]
    # "(on Efate)", "(city)", "(Kiev is the transliteration ...)" are remarks, not names
    others = [o for o in others if re.fullmatch(r"[A-Z][\w' -]{2,24}", o)]
    return found[1], others


def _independence(value: str) -> Parsed | None:
    found = re.match(rf"({_DATE} \d{{4}})(?= \(|$)", value)
    if not found or ";" in value:
        return None
    return found[1], []


def _holiday(value: str) -> Parsed | None:
    dates = re.findall(_DATE, value)
    found = re.search(rf", ({_DATE})(?: \((\d{{4}})\))?(?=$|,| \()", value)
    if not found or len(dates) != 1 or ";" in value or "previous" in value:
        return None
    return found[1], [f"{found[1]} {found[2]}"] if found[2] else []


def _anthem(value: str) -> Parsed | None:
    found = re.match(r'"([^"]{2,60})"(?: ?\(([^()]{2,60})\))?$', value)
    if not found:
        return None
    title = found[1].strip(" ,")
    return title, [found[2].strip("\"' ")] if found[2] and not found[2].startswith("National Anthem") else []


def _symbol(value: str) -> Parsed | None:
    found = re.fullmatch(rf"([a-zA-Z][^;,()\d]{{2,34}}?){_ASIDE}", value)
    if not found or re.match(r"no |none", value):
        return None
    return re.sub(r"^(an?|the) ", "", found[1]), []


def _former(value: str) -> Parsed | None:
    if not re.fullmatch(r"[A-Z][^;()\d]{2,60}", value) or value.count(",") > 1 or "formerly" in value:
        return None
    parts = value.split(", ")
    return parts[0], [*parts[1:], *([value] if len(parts) > 1 else [])]


def _official(value: str) -> Parsed | None:
    if not re.fullmatch(r"[A-Z][^;()\d,/]{5,60}", value):
        return None
    return value, []


def _legislature(value: str) -> Parsed | None:
    found = re.fullmatch(r"(?:The )?([A-Z][^()\-;,/]{3,45}?)(?: \(([^()\-;,]{3,45})\))?", value)
    # Half of all countries have a "Parliament" or a "National Assembly": a guess would be right too often.
    if not found or found[1] in ("Parliament", "National Assembly", "National Parliament"):
        return None
    return found[1], [found[2]] if found[2] else []


def _high_place(value: str) -> Parsed | None:
    found = re.match(r"([A-Z][^()\d;,]{2,40}?)(?: \(| on [A-Z]|,? [\d,]+ ?m\b|,? [\d,]+$)", value)
    if not found or ";" in value[:60] or re.search(r"unnamed|volcano pre|village|course| of ", value[:60]):
        return None
    name = found[1]
    aside = re.match(re.escape(name) + r" \((?:Mt\. )?([A-Z][\w'. -]{2,30})\)", value)
    others = [aside[1]] if aside else []
    if "/" in name:
        others += [part.strip() for part in name.split("/")]
    # A person may give the height as well.
    height = re.search(r"([\d,]+ m)\b", value)
    others += [f"{name} {height[1]}", f"{name}, {height[1]}", f"{name} ({height[1]})"] if height else []
    return name, others


def _low_place(value: str) -> Parsed | None:
    found = re.fullmatch(rf"([A-Z][\w'. -]{{2,40}}?){_ASIDE} -?[\d,.]+ m", value)
    return (found[1], [f"{found[1]} {value.rsplit(' ', 2)[1]} m"]) if found else None


def _high_metres(value: str) -> Parsed | None:
    numbers = re.findall(r"[\d,]+ m\b", value)
    return (numbers[0], []) if len(numbers) == 1 and ";" not in value else None


def _amount(pattern: str, *, zero: bool = False) -> Callable[[str], Parsed | None]:
    """A number at the beginning of the value, followed by `pattern` (its unit)."""

    def parse(value: str) -> Parsed | None:
        found = re.match(rf"({_NUMBER}{pattern})(?![\w.%])", value)
        if not found or (not zero and not re.search(r"[1-9]", found[1])):
            return None
        return found[1], []

    return parse


def _nationality(value: str) -> Parsed | None:
    found = re.fullmatch(r"([A-Z][\w'. -]{2,30}?)(?:\(s\)| \(singular and plural\))?", value)
    if not found or value.startswith("none"):
        return None
    return found[1], [found[1] + "s", found[1] + "(s)"] if "(s)" in value else []


def _currency(value: str) -> Parsed | None:
    found = re.match(r"([A-Za-z][\w'. -]{2,40}?)(?: \(([A-Z]{2,3})\))? per US dollar", value)
    if not found or " or " in found[1]:
        return None
    name = found[1]
    last = name.rsplit(" ", 1)[-1]
    singular = {"kroner": "krone", "kronor": "krona", "leke": "lek", "leva": "lev", "koruny": "koruna", "lei": "leu",
                "maloti": "loti", "emalangeni": "lilangeni", "colones": "colon", "zlotych": "zloty",
                "quetzales": "quetzal", "kronur": "krona"}.get(last, re.sub(r"s$", "", last))  # fmt: skip
    others = [name[: len(name) - len(last)] + singular] if singular != last else []
    if found[2]:
        others += [found[2], f"{name} ({found[2]})"]
    return name, others


def _currency_code(value: str) -> Parsed | None:
    found = re.search(r"\(([A-Z]{3})\) per US dollar", value)
    return (found[1], []) if found else None


def _first(value: str) -> Parsed | None:
    """The first of a ranked list: "Jordan 34%, Colombia 31%" or "crude petroleum, gold"."""
    found = re.match(r"([A-Za-z][\w'. /-]{1,30}?)(?: \d+%|(?=,))", value)
    return (found[1], [f"{found[0]}"] if found[0] != found[1] else []) if found and "," in value else None


def _partner(value: str) -> Parsed | None:
    found = _first(value)
    if not found:
        return None
    others = {"USA": ["United States", "US", "United States of America"], "UK": ["United Kingdom"],
              "UAE": ["United Arab Emirates"], "Czechia": ["Czech Republic"], "Burma": ["Myanmar"],
              "Turkey": ["Türkiye"]}.get(found[0], [])  # fmt: skip
    return found[0], [*found[1], *others]


def _domain(value: str) -> Parsed | None:
    return (value, [value[1:]]) if re.fullmatch(r"\.[a-z]{2}", value) else None


def _prefix(value: str) -> Parsed | None:
    return (value, []) if re.fullmatch(r"[A-Z0-9]{1,3}(?:-[A-Z0-9]{1,2})?", value) else None


def _utc(value: str) -> Parsed | None:
    found = re.match(r"(UTC ?[+-]?\d+(?:[.:]\d+)?)(?: \(|$)", value)
    return (
        (found[1], [found[1].replace("UTC", "GMT"), found[1].replace("UTC", "UTC ").replace("  ", " ")])
        if found
        else None
    )


def _seats(value: str) -> Parsed | None:
    found = re.match(r"(\d{1,4})(?: \(|$)", value)
    return (found[1], [found[1] + " seats"]) if found else None


def _heritage(value: str) -> Parsed | None:
    found = re.match(r"(\d{1,2}) ?\(", value)
    return (found[1], []) if found and found[1] != "0" else None


def _flag(
    name: str,
    chapter: str,
    path: str,
    parse: Callable[[str], Parsed | None],
    tolerance: Tolerance | None = None,
) -> Relation:
    return Relation(name, "flag", chapter, tuple(path.split(" > ")), parse, tolerance)


def _close(unit: str, relative: float = 0.01) -> Tolerance:
    return {"relative": relative, "unit": unit}


_COUNTRY = [
    _flag("capital", "Government", "Capital > name", _capital),
    _flag("official_name", "Government", "Country name > conventional long form", _official),
    _flag("former_name", "Government", "Country name > former", _former),
    _flag("independence", "Government", "Independence", _independence),
    _flag("holiday", "Government", "National holiday", _holiday),
    _flag("anthem", "Government", "National anthem(s) > title", _anthem),
    _flag("symbol", "Government", "National symbol(s)", _symbol),
    _flag("legislature", "Government", "Legislative branch > legislature name", _legislature),
    _flag("seats", "Government", "Legislative branch > number of seats", _seats),
    _flag("lower_seats", "Government", "Legislative branch - lower chamber > number of seats", _seats),
    _flag("time_zone", "Government", "Capital > time difference", _utc),
    _flag("heritage", "Government", "National heritage > total World Heritage Sites", _heritage),
    _flag("highest_point", "Geography", "Elevation > highest point", _high_place),
    _flag("highest_metres", "Geography", "Elevation > highest point", _high_metres, _close("m")),
    _flag("lowest_point", "Geography", "Elevation > lowest point", _low_place),
    _flag("mean_elevation", "Geography", "Elevation > mean elevation", _amount(" m"), _close("m")),
    _flag("area", "Geography", "Area > total", _amount(" sq km"), _close("sq km", 0.02)),
    _flag("coastline", "Geography", "Coastline", _amount(" km"), _close("km", 0.02)),
    _flag("land_boundary", "Geography", "Land boundaries > total", _amount(" km"), _close("km", 0.02)),
    _flag("forest", "Geography", "Land use > forest", _amount("%"), _close("%")),
    _flag("population", "People and Society", "Population > total", _amount(""), _close("people", 0.03)),
    _flag("median_age", "People and Society", "Median age > total", _amount(" years"), _close("years")),
    _flag("life_expectancy", "People and Society", "Life expectancy at birth > total population", _amount(" years"),
          _close("years")),
    _flag("fertility", "People and Society", "Total fertility rate", _amount(""), _close("children")),
    _flag("urban", "People and Society", "Urbanization > urban population", _amount("%"), _close("%")),
    _flag("nationality", "People and Society", "Nationality > noun", _nationality),
    _flag("currency", "Economy", "Exchange rates > Currency", _currency),
    _flag("currency_code", "Economy", "Exchange rates > Currency", _currency_code),
    _flag("gdp", "Economy", "GDP (official exchange rate)", _amount(""), _close("US dollars", 0.02)),
    _flag("export_partner", "Economy", "Exports - partners", _partner),
    _flag("export_commodity", "Economy", "Exports - commodities", _first),
    _flag("farm_product", "Economy", "Agricultural products", _first),
    _flag("domain", "Communications", "Internet country code", _domain),
    _flag("internet_users", "Communications", "Internet users > percent of population", _amount("%"), _close("%")),
    _flag("mobile_phones", "Communications", "Telephones - mobile cellular > total subscriptions", _amount(""),
          _close("subscriptions", 0.02)),
    _flag("airports", "Transportation", "Airports", _amount("")),
    _flag("heliports", "Transportation", "Heliports", _amount("")),
    _flag("railways", "Transportation", "Railways > total", _amount(" km"), _close("km", 0.02)),
    _flag("aircraft_prefix", "Transportation", "Civil aircraft registration country code prefix", _prefix),
    _flag("merchant_ships", "Transportation", "Merchant marine > total", _amount("")),
    _flag("ports", "Transportation", "Ports > total ports", _amount("")),
]  # fmt: skip


def _country_facts(entity: Entity, relation: Relation) -> Iterator[Fact]:
    gec = entity.gec
    if gec is None:
        return
    value = pages.value_of(gec, relation.chapter, relation.path)
    parsed = relation.parse(value) if value else None
    if not parsed or not value:
        return
    gold, aliases = parsed
    label = pages.label_of(relation.chapter, relation.path)
    line = f"{label}: {pages.trim(value)}"
    if gold not in line[len(label) :] or line not in pages.lines_of(gec, relation.chapter):
        return
    yield Fact(
        entity_id=entity.id,
        relation=relation.name,
        gold=gold,
        aliases=tuple(dict.fromkeys(alias for alias in aliases if alias and alias != gold)),
        tolerance=relation.tolerance,
        page_id=pages.profile_page_id(gec, relation.chapter),
        page_title=f"{entity.name}: {relation.chapter}",
        line=line,
    )


# --- patterns over Wikipedia leads --------------------------------------------------------------------------------

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


_THING = [Relation(name, "thing") for name in LEAD_PATTERNS]
RELATIONS: dict[str, Relation] = {relation.name: relation for relation in [*_COUNTRY, *_THING]}
"""Every relation by its name, countries first."""


def _thing_fact(entity: Entity, relation: Relation) -> Fact | None:
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


@cache
def facts() -> tuple[Fact, ...]:
    """Every fact of every entity: entities in their order, relations in theirs."""
    found: list[Fact] = []
    for entity in world_entities.load():
        for relation in RELATIONS.values():
            if relation.kind != entity.kind:
                continue
            if relation.kind == "flag":
                found.extend(_country_facts(entity, relation))
            elif fact := _thing_fact(entity, relation):
                found.append(fact)
    return tuple(found)


@cache
def _by_entity() -> dict[str, dict[str, Fact]]:
    table: dict[str, dict[str, Fact]] = {}
    for fact in facts():
        table.setdefault(fact.entity_id, {})[fact.relation] = fact
    return table


def of(entity_id: str) -> dict[str, Fact]:
    """The facts of one entity by relation; empty when its pages say nothing that can be asked."""
    return _by_entity().get(entity_id, {})
