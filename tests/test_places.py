"""A newcomer is sent to the right place: the tables of files and names in the guides are the repository's."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

CONTRIBUTING = ".github/CONTRIBUTING.md"


def places(repository: Path) -> list[tuple[str, str, list[str], str]]:
    """The rows of "Where things go": the thing, its file, the names there, its test."""
    text = (repository / CONTRIBUTING).read_text(encoding="utf-8").split("| you add |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return [(row[0], row[1].strip("`"), re.findall(r"`([\w.]+)`", row[2]), row[3].strip("`")) for row in rows]


def test_every_file_name_and_test_of_the_table_exists(repository: Path) -> None:
    found = places(repository)
    assert len(found) >= 18
    for thing, file, names, test in found:
        assert (repository / file).is_file() and (repository / test).is_file(), thing
        module = import_module("lensgraph." + file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        assert names, thing
        for name in names:
            holder, _, field = name.partition(".")
            assert hasattr(module, holder), f"{thing}: {name}"
            assert not field or field in getattr(module, holder).__annotations__, f"{thing}: {name}"


@pytest.mark.parametrize(
    "thing",
    [
        "provider", "dialect", "action", "limit", "hits", "command", "graph", "reward", "retry", "wording", "metric",
        "setting", "policy", "recipe",
    ],
)  # fmt: skip
def test_the_table_has_a_row_for(thing: str, repository: Path) -> None:
    assert any(thing in row[0] for row in places(repository))


@pytest.mark.parametrize("room", ["graphs", "tools"])
def test_the_map_of_a_room_is_what_lies_in_it(room: str, repository: Path) -> None:
    text = (repository / room / "README.md").read_text(encoding="utf-8")
    rows = text.split("## Where things are")[1].split("\n## ")[0].splitlines()
    listed = [
        path for row in rows if row.startswith("| `") for path in re.findall(r"`([\w.]+/?)`", row.split(" | ")[0])
    ]
    there = {
        path.name + "/" * path.is_dir()
        for path in (repository / room).iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.name.startswith("_")
    }
    assert sorted(listed) == sorted(there)
