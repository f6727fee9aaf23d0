"""Every tool class passes LangChain's own suites; the local ones also those that call the tool."""

from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from PIL import Image

from tools.adapter import ForeignImageSearch, ForeignTextSearch
from tools.local.image_search import LocalImageSearch
from tools.local.index import index_folder
from tools.local.locate import LocalLocator
from tools.local.text_search import LocalTextSearch
from tools.locate.grounding_dino import GroundingDinoLocator
from tools.text.tavily import TavilyTextSearch

QUERY = {"query": "kenya national anthem"}


@pytest.fixture(scope="session")
def searchable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of one page and one picture, with the embedder that ships."""
    folder = tmp_path_factory.mktemp("standard")
    (folder / "in").mkdir()
    (folder / "in" / "kenya.txt").write_text("Kenya\nNational anthem: Ee Mungu Nguvu Yetu")
    scene().save(folder / "in" / "kenya.png")
    index_folder(folder / "in", folder / "index")
    return folder


def scene() -> Image.Image:
    picture = Image.new("RGB", (120, 80), "white")
    picture.paste("red", (20, 20, 80, 60))
    return picture


@pytest.fixture(autouse=True)
def _in_reach(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, searchable: Path) -> None:
    # The suites construct tools from fixed parameters, so the index is found from the working folder.
    monkeypatch.chdir(searchable)


class TestLocalTextSearchUnit(ToolsUnitTests):
    tool_constructor = LocalTextSearch
    tool_constructor_params = {"index": "index"}
    tool_invoke_params_example = QUERY


class TestLocalTextSearch(ToolsIntegrationTests):
    tool_constructor = LocalTextSearch
    tool_constructor_params = {"index": "index"}
    tool_invoke_params_example = QUERY


class TestLocalImageSearchUnit(ToolsUnitTests):
    tool_constructor = LocalImageSearch
    tool_constructor_params = {"index": "index"}
    tool_invoke_params_example = {"image": "in/kenya.png"}


class TestLocalImageSearch(ToolsIntegrationTests):
    tool_constructor = LocalImageSearch
    tool_constructor_params = {"index": "index"}
    tool_invoke_params_example = {"image": "in/kenya.png"}


class TestLocalLocatorUnit(ToolsUnitTests):
    tool_constructor = LocalLocator
    tool_invoke_params_example = {"image": "in/kenya.png", "expression": "the item on the left"}


class TestLocalLocator(ToolsIntegrationTests):
    tool_constructor = LocalLocator
    tool_invoke_params_example = {"image": "in/kenya.png", "expression": "the item on the left"}


class TestGroundingDinoUnit(ToolsUnitTests):
    tool_constructor = GroundingDinoLocator
    tool_invoke_params_example = {"image": "in/kenya.png", "expression": "the flag"}


class TestTavilyUnit(ToolsUnitTests):
    tool_constructor = TavilyTextSearch
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = QUERY

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"TAVILY_API_KEY": "key"}, {}, {"api_key": "key"}


class TestForeignTextSearchUnit(ToolsUnitTests):
    tool_constructor = ForeignTextSearch
    tool_constructor_params = {"tool": LocalTextSearch(), "argument": "query"}
    tool_invoke_params_example = QUERY


class TestForeignImageSearchUnit(ToolsUnitTests):
    tool_constructor = ForeignImageSearch
    tool_constructor_params = {"tool": LocalImageSearch(), "argument": "image"}
    tool_invoke_params_example = {"image": "in/kenya.png"}
