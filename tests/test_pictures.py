"""The README's pictures are drawn from the code, and are what the code would draw now."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from lensgraph.graphs import search_agent


@pytest.fixture(scope="module")
def architecture(repository: Path) -> ModuleType:
    """The script that draws the architecture; it lies outside the package."""
    path = repository / ".github" / "assets" / "draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_architecture_is_drawn_as_the_code_is_now(architecture: ModuleType) -> None:
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.draw(), (
        "run `python .github/assets/draw_architecture.py` and look at the picture"
    )


def test_a_node_without_a_place_in_the_picture_is_told(
    architecture: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = {name: node for name, node in architecture.NODES.items() if name != "crop"}
    monkeypatch.setattr(architecture, "NODES", fewer)
    with pytest.raises(ValueError, match="crop"):
        architecture.draw()


def test_every_edge_of_the_graph_is_an_arrow(architecture: ModuleType) -> None:
    edges = {(one.source, one.target) for one in search_agent.graph.get_graph().edges}
    heads = [part for part in architecture.graph() if part.startswith("<polygon")]
    assert len(heads) == len(edges)


@pytest.mark.parametrize("name", ["architecture.svg", "run.svg"])
def test_a_picture_is_whole_and_fetches_nothing(repository: Path, name: str) -> None:
    path = repository / ".github" / "assets" / name
    ElementTree.parse(path)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(h|<script|href=", text)


def test_the_run_shows_the_readmes_question(repository: Path) -> None:
    question = "What is the capital of the country of the second flag from the left?"
    assert question in (repository / "README.md").read_text(encoding="utf-8")
    drawn = (repository / ".github" / "assets" / "run.svg").read_text(encoding="utf-8")
    words = " ".join(re.findall(r">([^<>]+)</text>", drawn)).replace("&#160;", " ")
    assert "lensgraph ask notebooks/flags.png" in words and "Nairobi" in words
