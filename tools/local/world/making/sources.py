"""The registry packages the world is made of, at pinned versions, and how artwork is found in them.

Invariant: a package is fetched by its registry's own client (`npm pack`) and read from the tarball in memory; nothing is
installed and no script of a package runs. `ARTISTS` is the one list of sets, licences and credits: the attribution file
is written from it.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image

from lensgraph.tools.local.world.making import rasterise

COUNTRIES = ("countries-list", "3.4.1")
"""npm package and version that names the countries."""
EMOJI = ("unicode-emoji-json", "0.9.0")
"""npm package and version that names and groups the emoji."""


@dataclass(frozen=True)
class Artist:
    """One set of drawings, shipped as the rendition `name`."""

    name: str
    """Name of the rendition and of its archive."""
    package: tuple[str, str]
    """npm package and version."""
    licence: str
    """SPDX identifier, as the package states it."""
    credit: str
    """Author and origin, for the attribution file."""
    kinds: tuple[str, ...]
    """Kinds of entity that it draws."""
    quality: int
    """Quality of the stored webp: flat art survives less, gradients need more."""


ARTISTS: tuple[Artist, ...] = (
    Artist("flag_icons", ("flag-icons", "7.5.0"), "MIT", "flag-icons, (c) 2013 Panayiotis Lipiridis, https://github.com/lipis/flag-icons", ("flag",), 80),
    Artist("twemoji", ("@iconify-json/twemoji", "1.2.5"), "CC-BY-4.0", "Twemoji, (c) Twitter, Inc. and other contributors, https://github.com/jdecked/twemoji", ("flag", "thing"), 80),
    Artist("noto", ("@iconify-json/noto", "1.2.9"), "Apache-2.0", "Noto Emoji, (c) Google Inc., https://github.com/googlefonts/noto-emoji", ("thing",), 80),
    Artist("emojione", ("@iconify-json/emojione", "1.2.3"), "CC-BY-4.0", "EmojiOne 2 / EmojiTwo, (c) Emoji One and EmojiTwo contributors, https://github.com/EmojiTwo/emojitwo", ("flag", "thing"), 80),
    Artist("flagpack", ("@iconify-json/flagpack", "1.2.8"), "MIT", "Flagpack, (c) Yummygum, https://github.com/Yummygum/flagpack-core", ("flag",), 80),
    Artist("fluent_3d", ("@lobehub/fluent-emoji-3d", "1.1.0"), "MIT", "Fluent Emoji 3D, (c) Microsoft Corporation, https://github.com/microsoft/fluentui-emoji, packaged by LobeHub, https://github.com/lobehub/fluent-emoji", ("thing",), 80),
    Artist("circle_flags", ("circle-flags", "2.8.3"), "MIT", "circle-flags, (c) HatScripts, https://github.com/HatScripts/circle-flags", ("flag",), 80),
)  # fmt: skip
"""Every set of drawings in the world."""


class Package:
    """One npm tarball, downloaded once into `cache`."""

    def __init__(self, name: str, version: str, cache: Path) -> None:
        self.name, self.version = name, version
        self._tarball = cache / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
        if not self._tarball.exists():
            cache.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "pack", f"{name}@{version}"], cwd=cache, check=True, capture_output=True)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Path inside the package -> bytes."""
        with tarfile.open(self._tarball) as tar:
            members = [m for m in tar.getmembers() if m.isfile()]
            return {m.name.partition("/")[2]: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]

    def json(self, path: str) -> Any:
        """A JSON file of the package, parsed."""
        return json.loads(self.files[path])


class Emoji:
    """Code points, names and groups of every emoji, without skin tones."""

    def __init__(self, package: Package) -> None:
        self.rows: dict[str, dict[str, str]] = {}
        for character, row in package.json("data-by-emoji.json").items():
            self.rows[bare(character)] = {**row, "character": character}


def bare(character: str) -> str:
    """Lower-case hexadecimal code points joined by `-`, without the variation selector: the key used everywhere."""
    return "-".join(f"{ord(c):x}" for c in character if ord(c) != 0xFE0F)


def regional(iso: str) -> str:
    """The code points of a country's flag emoji."""
    return "-".join(f"{0x1F1E6 + ord(letter) - ord('A'):x}" for letter in iso)


class Iconify:
    """An `@iconify-json` set: icons by name, found by code point through `chars.json`, the Unicode name and aliases."""

    def __init__(self, package: Package, friends: list[Iconify] = []) -> None:  # noqa: B006 (never changed)
        self._data = package.json("icons.json")
        self._icons: dict[str, Any] = self._data["icons"]
        self._aliases: dict[str, Any] = self._data.get("aliases", {})
        self.names: dict[str, str] = package.json("chars.json") if "chars.json" in package.files else {}
        self._friends = friends  # sets of the same emoji whose names help to find this one's

    def find(self, code: str, name: str) -> str | None:
        """Name of the icon for a code point, or None."""
        slug = name.lower().replace("’", "").replace(":", "").replace(" ", "-")
        candidates = [self.names.get(code), slug]
        for other in (self, *self._friends):
            known = {other.names.get(code), slug} - {None}
            candidates += sorted(known)  # type: ignore[type-var]
            for alias, target in sorted(other._aliases.items()):
                if alias in known:
                    candidates.append(target["parent"])
                if target["parent"] in known:
                    candidates.append(alias)
        # EmojiOne says "flag-for-kenya" where the others say "flag-kenya"
        candidates += [f"flag-for-{c.removeprefix('flag-')}" for c in candidates if c and c.startswith("flag-")]
        return next((c for c in candidates if c in self._icons or c in self._aliases), None)

    def svg(self, name: str) -> str:
        """The icon as a whole SVG document."""
        if name in self._icons:
            icon = self._icons[name]
        else:
            alias = self._aliases[name]
            icon = {**self._icons[alias["parent"]], **alias}
        width = icon.get("width", self._data.get("width", 16))
        height = icon.get("height", self._data.get("height", 16))
        view = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        return f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{view}">{icon["body"]}</svg>'


Draw = Callable[[str, str], Image.Image | None]
"""(key, name) -> picture, or None when the artist did not draw it. Key: ISO code of a flag, code points of a thing."""


class Studio:
    """All artists, opened: draws any emoji or flag in any rendition."""

    def __init__(self, cache: Path) -> None:
        self._packages = {a.name: Package(*a.package, cache) for a in ARTISTS}
        twemoji, noto = (Iconify(self._packages[n]) for n in ("twemoji", "noto"))
        self._icons = {
            "twemoji": twemoji,
            "noto": noto,
            "emojione": Iconify(self._packages["emojione"], [twemoji, noto]),
            "flagpack": Iconify(self._packages["flagpack"]),
        }
        self._cache = cache

    def licences(self) -> Iterator[tuple[str, str]]:
        """(artist, text of the licence file) for those that ship one."""
        for artist in ARTISTS:
            for path, data in self._packages[artist.name].files.items():
                if path.lower() in ("license", "license.md", "license.txt"):
                    yield artist.name, data.decode()

    def flag(self, artist: str, iso: str, country: str) -> Image.Image | None:
        """The flag of a country as this artist draws it."""
        code = iso.lower()
        if artist == "flagpack":
            icons = self._icons[artist]
            name = icons.find("", "gb-ukm" if code == "gb" else code)  # their "gb" is England's
            return rasterise.svg(icons.svg(name)) if name else None
        if artist in self._icons:
            return self.emoji(artist, regional(iso), f"flag {country}")
        path = {"flag_icons": f"flags/4x3/{code}.svg", "circle_flags": f"flags/{code}.svg"}[artist]
        data = self._packages[artist].files.get(path)
        return rasterise.svg(data.decode()) if data else None

    def emoji(self, artist: str, code: str, name: str) -> Image.Image | None:
        """An emoji as this artist draws it."""
        if artist == "fluent_3d":
            return self._fluent(code)
        icon = self._icons[artist].find(code, name)
        return rasterise.svg(self._icons[artist].svg(icon)) if icon else None

    def _fluent(self, code: str) -> Image.Image | None:
        files = self._packages["fluent_3d"].files
        # their file names keep variation selectors: compare without
        wanted = [p for p in files if p.startswith("assets/") and p[7:-5].replace("-fe0f", "") == code]
        return rasterise.bitmap(files[min(wanted, key=len)]) if wanted else None


def installed(distribution: str, path: str) -> Path:
    """A data file of an installed Python package, without importing the package."""
    try:
        found = metadata.distribution(distribution).locate_file(path)
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(f"{distribution} is not installed: pip install {distribution}") from None
    return Path(str(found))
