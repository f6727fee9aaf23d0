"""Facts about countries: values of the Factbook, each reduced to one short answer by the parser of its relation."""

from __future__ import annotations

import re
from collections.abc import Callable

from lensgraph.tools.local.world import pages
from lensgraph.tools.local.world.entities import Entity
from lensgraph.tools.local.world.facts.relations import Fact, Parsed, Relation, Tolerance

# A parser takes a whole cleaned value and returns the answer with its aliases, or None: not one short answer.
_DATE = r"\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NUMBER = r"\$?-?\d[\d,]*(?:\.\d+)?(?: (?:thousand|million|billion|trillion))?"
_ASIDE = r"(?: \([^()]*\))?"


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


def _country(
    name: str,
    chapter: str,
    path: str,
    parse: Callable[[str], Parsed | None],
    tolerance: Tolerance | None = None,
) -> Relation:
    return Relation(name, "flag", chapter, tuple(path.split(" > ")), parse, tolerance)


def _close(unit: str, relative: float = 0.01) -> Tolerance:
    return {"relative": relative, "unit": unit}


RELATIONS = [
    _country("capital", "Government", "Capital > name", _capital),
    _country("official_name", "Government", "Country name > conventional long form", _official),
    _country("former_name", "Government", "Country name > former", _former),
    _country("independence", "Government", "Independence", _independence),
    _country("holiday", "Government", "National holiday", _holiday),
    _country("anthem", "Government", "National anthem(s) > title", _anthem),
    _country("symbol", "Government", "National symbol(s)", _symbol),
    _country("legislature", "Government", "Legislative branch > legislature name", _legislature),
    _country("seats", "Government", "Legislative branch > number of seats", _seats),
    _country("lower_seats", "Government", "Legislative branch - lower chamber > number of seats", _seats),
    _country("time_zone", "Government", "Capital > time difference", _utc),
    _country("heritage", "Government", "National heritage > total World Heritage Sites", _heritage),
    _country("highest_point", "Geography", "Elevation > highest point", _high_place),
    _country("highest_metres", "Geography", "Elevation > highest point", _high_metres, _close("m")),
    _country("lowest_point", "Geography", "Elevation > lowest point", _low_place),
    _country("mean_elevation", "Geography", "Elevation > mean elevation", _amount(" m"), _close("m")),
    _country("area", "Geography", "Area > total", _amount(" sq km"), _close("sq km", 0.02)),
    _country("coastline", "Geography", "Coastline", _amount(" km"), _close("km", 0.02)),
    _country("land_boundary", "Geography", "Land boundaries > total", _amount(" km"), _close("km", 0.02)),
    _country("forest", "Geography", "Land use > forest", _amount("%"), _close("%")),
    _country("population", "People and Society", "Population > total", _amount(""), _close("people", 0.03)),
    _country("median_age", "People and Society", "Median age > total", _amount(" years"), _close("years")),
    _country("life_expectancy", "People and Society", "Life expectancy at birth > total population", _amount(" years"),
          _close("years")),
    _country("fertility", "People and Society", "Total fertility rate", _amount(""), _close("children")),
    _country("urban", "People and Society", "Urbanization > urban population", _amount("%"), _close("%")),
    _country("nationality", "People and Society", "Nationality > noun", _nationality),
    _country("currency", "Economy", "Exchange rates > Currency", _currency),
    _country("currency_code", "Economy", "Exchange rates > Currency", _currency_code),
    _country("gdp", "Economy", "GDP (official exchange rate)", _amount(""), _close("US dollars", 0.02)),
    _country("export_partner", "Economy", "Exports - partners", _partner),
    _country("export_commodity", "Economy", "Exports - commodities", _first),
    _country("farm_product", "Economy", "Agricultural products", _first),
    _country("domain", "Communications", "Internet country code", _domain),
    _country("internet_users", "Communications", "Internet users > percent of population", _amount("%"), _close("%")),
    _country("mobile_phones", "Communications", "Telephones - mobile cellular > total subscriptions", _amount(""),
          _close("subscriptions", 0.02)),
    _country("airports", "Transportation", "Airports", _amount("")),
    _country("heliports", "Transportation", "Heliports", _amount("")),
    _country("railways", "Transportation", "Railways > total", _amount(" km"), _close("km", 0.02)),
    _country("aircraft_prefix", "Transportation", "Civil aircraft registration country code prefix", _prefix),
    _country("merchant_ships", "Transportation", "Merchant marine > total", _amount("")),
    _country("ports", "Transportation", "Ports > total ports", _amount("")),
]  # fmt: skip
"""Every relation of countries, with the place of its value in a profile."""


def fact_of(entity: Entity, relation: Relation) -> Fact | None:
    """The country's fact of this relation; None where its profile has no value, or none that is one short answer."""
    gec = entity.gec
    if gec is None:
        return None
    value = pages.value_of(gec, relation.chapter, relation.path)
    parsed = relation.parse(value) if value else None
    if not parsed or not value:
        return None
    gold, aliases = parsed
    label = pages.label_of(relation.chapter, relation.path)
    line = f"{label}: {pages.trim(value)}"
    if gold not in line[len(label) :] or line not in pages.lines_of(gec, relation.chapter):
        return None
    return Fact(
        entity_id=entity.id,
        relation=relation.name,
        gold=gold,
        aliases=tuple(dict.fromkeys(alias for alias in aliases if alias and alias != gold)),
        tolerance=relation.tolerance,
        page_id=pages.profile_page_id(gec, relation.chapter),
        page_title=f"{entity.name}: {relation.chapter}",
        line=line,
    )
