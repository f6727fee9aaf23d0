"""The changelog tells a user of the flat names where each module is now."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def changelog(repository: Path) -> str:
    return (repository / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_module_that_it_sends_to_exists(changelog: str) -> None:
    table = changelog.split("| import before | import now |")[1].split("\n\n")[0]
    rows = [re.findall(r"`([\w.]+)`", row) for row in table.splitlines()[2:]]
    assert len(rows) > 100
    assert [row for row in rows if any(find_spec(new) is None for new in row[1:])] == []
    assert {row[0].split(".")[0] for row in rows} == {"agent", "graphs", "rl", "tools"}


def test_every_name_that_it_sends_to_exists(changelog: str) -> None:
    table = changelog.split("| name before | name now |")[1].split("\n\n")[0]
    for new in re.findall(r"\| `([\w.]+)` \|$", table, flags=re.MULTILINE):
        module, _, name = new.rpartition(".")
        assert hasattr(import_module(module), name), new
