"""Decisions of a person about the world's entities, read from `data/curation.yaml`, whose head gives their rules.

Needed when `data/` is remade and in tests only; nothing on the way to an answer reads them.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Annotated

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

from lensgraph.tools.local.world.entities import DATA, Kind


def _split(text: object) -> object:
    return text.split() if isinstance(text, str) else text


Codes = Annotated[list[str], BeforeValidator(_split)]
"""ISO codes or code points, written as one text with spaces between them."""


class _Strict(BaseModel):
    """Refuses a misspelled key, and a code that YAML read as a number or a truth value."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Dropped(_Strict):
    """Emoji that are no entity, for one reason."""

    why: str
    codes: Codes


class Decisions(_Strict):
    """The file's tables; what each holds is said above it there."""

    shared_flags: dict[str, str]
    country_names: dict[str, str]
    country_aliases: dict[str, list[str]]
    former_names: list[str]
    country_wiki: dict[str, str | None]
    dropped: list[Dropped]
    thing_names: dict[str, str]
    thing_aliases: dict[str, list[str]]
    wiki: dict[str, str | None]
    known_flags: Codes
    known_things: Codes
    known_counts: dict[Kind, int]

    @cached_property
    def dropped_codes(self) -> frozenset[str]:
        """Code points of every emoji that is no entity."""
        return frozenset(code for row in self.dropped for code in row.codes)


@cache
def decisions() -> Decisions:
    """The decisions that ship.

    Raises:
        pydantic.ValidationError: the file has an unknown table, or a value of another type.
    """
    return Decisions.model_validate(yaml.safe_load((DATA / "curation.yaml").read_text(encoding="utf-8")))
