"""Every tool class passes LangChain's own suites; the local ones also those that call the tool."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from PIL import Image

from lensgraph.tools.adapter import ForeignImageSearch, ForeignTextSearch
from lensgraph.tools.local.index.index_folder import index_folder
from lensgraph.tools.local.search_pages import LocalTextSearch
from lensgraph.tools.local.search_pictures import LocalImageSearch
from lensgraph.tools.locate.grounding_dino import GroundingDinoLocator
from lensgraph.tools.locate.local_locator import LocalLocator
from lensgraph.tools.pages.fetch import FetchPageReader
from lensgraph.tools.pages.jina import JinaPageReader
from lensgraph.tools.pages.reading import ReadingTextSearch
from lensgraph.tools.pages.tavily_extract import TavilyPageReader
from lensgraph.tools.text.brave import BraveTextSearch
from lensgraph.tools.text.duckduckgo import DuckDuckGoTextSearch
from lensgraph.tools.text.searxng import SearxngTextSearch
from lensgraph.tools.text.serpapi import SerpApiTextSearch
from lensgraph.tools.text.tavily import TavilyTextSearch
from lensgraph.tools.text.wikipedia import WikipediaTextSearch

pytestmark = pytest.mark.contract

QUERY = {"query": "kenya national anthem"}
PAGE = {"url": "https://example.org/kenya"}


def scene() -> Image.Image:
    picture = Image.new("RGB", (120, 80), "white")
    picture.paste("red", (20, 20, 80, 60))
    return picture


def data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


KENYA = data_uri(scene())


@pytest.fixture(scope="session")
def searchable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of one page and one picture, with the embedder that ships."""
    folder = tmp_path_factory.mktemp("standard")
    (folder / "in").mkdir()
    (folder / "in" / "kenya.txt").write_text("Kenya\nNational anthem: Ee Mungu Nguvu Yetu")
    scene().save(folder / "in" / "kenya.png")
    index_folder(folder / "in", folder / "index")
    return folder


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
    tool_invoke_params_example = {"image": KENYA}


class TestLocalImageSearch(ToolsIntegrationTests):
    tool_constructor = LocalImageSearch
    tool_constructor_params = {"index": "index"}
    tool_invoke_params_example = {"image": KENYA}


class TestLocalLocatorUnit(ToolsUnitTests):
    tool_constructor = LocalLocator
    tool_invoke_params_example = {"image": KENYA, "expression": "the item on the left"}


class TestLocalLocator(ToolsIntegrationTests):
    tool_constructor = LocalLocator
    tool_invoke_params_example = {"image": KENYA, "expression": "the item on the left"}


class TestGroundingDinoUnit(ToolsUnitTests):
    tool_constructor = GroundingDinoLocator
    tool_invoke_params_example = {"image": KENYA, "expression": "the flag"}


class TestTavilyUnit(ToolsUnitTests):
    tool_constructor = TavilyTextSearch
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = QUERY

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"TAVILY_API_KEY": "key"}, {}, {"api_key": "key"}


class TestSerpApiUnit(ToolsUnitTests):
    tool_constructor = SerpApiTextSearch
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = QUERY

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"SERPAPI_API_KEY": "key"}, {}, {"api_key": "key"}


class TestBraveUnit(ToolsUnitTests):
    tool_constructor = BraveTextSearch
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = QUERY

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"BRAVE_SEARCH_API_KEY": "key"}, {}, {"api_key": "key"}


class TestSearxngUnit(ToolsUnitTests):
    tool_constructor = SearxngTextSearch
    tool_constructor_params = {"base_url": "http://127.0.0.1:8080"}
    tool_invoke_params_example = QUERY

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"SEARXNG_URL": "http://127.0.0.1:8080"}, {}, {"base_url": "http://127.0.0.1:8080"}


class TestWikipediaUnit(ToolsUnitTests):
    tool_constructor = WikipediaTextSearch
    tool_invoke_params_example = QUERY


class TestDuckDuckGoUnit(ToolsUnitTests):
    tool_constructor = DuckDuckGoTextSearch
    tool_invoke_params_example = QUERY


class TestFetchPageReaderUnit(ToolsUnitTests):
    tool_constructor = FetchPageReader
    tool_invoke_params_example = PAGE


class TestTavilyPageReaderUnit(ToolsUnitTests):
    tool_constructor = TavilyPageReader
    tool_constructor_params = {"api_key": "key"}
    tool_invoke_params_example = PAGE

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"TAVILY_API_KEY": "key"}, {}, {"api_key": "key"}


class TestJinaPageReaderUnit(ToolsUnitTests):
    tool_constructor = JinaPageReader
    tool_invoke_params_example = PAGE

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"JINA_API_KEY": "key"}, {}, {"api_key": "key"}


class TestReadingTextSearchUnit(ToolsUnitTests):
    tool_constructor = ReadingTextSearch
    tool_constructor_params = {"search_tool": LocalTextSearch(), "reader": FetchPageReader()}
    tool_invoke_params_example = QUERY


class TestReadingTextSearch(ToolsIntegrationTests):
    tool_constructor = ReadingTextSearch
    tool_constructor_params = {"search_tool": LocalTextSearch(index="index"), "reader": FetchPageReader()}  # type: ignore[arg-type]
    tool_invoke_params_example = QUERY


class TestForeignTextSearchUnit(ToolsUnitTests):
    tool_constructor = ForeignTextSearch
    tool_constructor_params = {"tool": LocalTextSearch(), "argument": "query"}
    tool_invoke_params_example = QUERY


class TestForeignImageSearchUnit(ToolsUnitTests):
    tool_constructor = ForeignImageSearch
    tool_constructor_params = {"tool": LocalImageSearch(), "argument": "image"}
    tool_invoke_params_example = {"image": KENYA}


class TestForeignTextSearch(ToolsIntegrationTests):
    tool_constructor = ForeignTextSearch
    tool_constructor_params = {"tool": LocalTextSearch(index="index"), "argument": "query"}
    tool_invoke_params_example = QUERY


class TestForeignImageSearch(ToolsIntegrationTests):
    tool_constructor = ForeignImageSearch
    tool_constructor_params = {"tool": LocalImageSearch(index="index"), "argument": "image"}
    tool_invoke_params_example = {"image": KENYA}
