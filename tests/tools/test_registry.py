"""A few lines of configuration become a tool; what is wrong is said in one line with the valid values."""

import traceback
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool

from lensgraph.tools import registry
from lensgraph.tools.adapter import ForeignTextSearch
from lensgraph.tools.base import LensTool, Locator, TextSearch
from lensgraph.tools.results import Hit, SearchResult


class Mine(TextSearch):
    """A provider of somebody else's package."""

    greeting: str = "hello"

    async def asearch(self, query: str) -> SearchResult:
        return SearchResult(kind="text", query=query, hits=[Hit(title=self.greeting, url="")])


@tool
def foreign(query: str) -> str:
    """Search somewhere."""
    return f"about {query}"


@tool
def calculator(a: int, b: int) -> int:
    """Add."""
    return a + b


def test_the_default_of_each_kind_needs_no_key() -> None:
    for kind in registry.PROVIDERS:
        built = registry.build(kind)
        assert isinstance(built, LensTool)
        assert built.name == kind


def test_options_reach_the_tool(tmp_path: Path) -> None:
    built: Any = registry.build("text_search", {"use": "local", "index": str(tmp_path), "k": 3, "snippet_chars": 90})
    assert (built.index, built.k, built.snippet_chars) == (tmp_path, 3, 90)


async def test_any_class_plugs_in_by_its_import_path() -> None:
    built: Any = registry.build("text_search", {"use": f"{__name__}:Mine", "greeting": "hi"})
    assert (await built.search("q")).hits[0].title == "hi"


async def test_a_foreign_langchain_tool_plugs_in_by_its_import_path() -> None:
    built = registry.build("text_search", {"use": f"{__name__}:foreign"})
    assert isinstance(built, ForeignTextSearch)
    assert (await built.search("cats")).hits[0].snippet == "about cats"


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("text_search", {"use": "goggle"}, "unknown provider 'goggle'; valid names: local, tavily, "),
        ("text_search", {"use": "goggle"}, "wikipedia, or an import path"),
        ("text_search", {"use": 7}, "unknown provider 7"),
        ("text_search", {"use": "no_such_module:Thing"}, "needs the module 'no_such_module'"),
        ("text_search", {"use": "json:Thing"}, "module 'json' has no 'Thing'"),
        ("text_search", {"use": "json:dumps"}, "is no LangChain tool; subclass TextSearch or BaseTool"),
        ("text_search", {"use": "local", "idnex": "x"}, "unknown key 'idnex' for 'local'; valid keys: "),
        ("text_search", {"use": "local", "k": 0}, "k=0: Input should be greater than or equal to 1"),
        ("text_search", {"use": "tavily"}, "Tavily needs a key: set TAVILY_API_KEY"),
        ("text_search", {"use": f"{__name__}:foreign", "k": 3}, "is a ready tool and takes no key 'k'"),
        ("text_search", {"use": f"{__name__}:calculator"}, "one argument must be called 'query'"),
        ("locate", {"use": f"{__name__}:foreign"}, "subclass lensgraph.tools.base.Locator"),
        ("read_page", {"use": f"{__name__}:foreign"}, "subclass lensgraph.tools.pages.base.PageReader"),
        ("locate", {"use": "lensgraph.tools.base:Locator"}, "is abstract"),
        ("web", {}, "Unknown kind of tool 'web'; valid kinds: text_search, image_search, locate, read_page"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(kind: Any, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(registry.ToolConfigError) as caught:
        registry.build(kind, spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_valid_keys_of_an_error_are_the_tools_own_fields() -> None:
    with pytest.raises(registry.ToolConfigError) as caught:
        registry.build("image_search", {"colour": 1})
    listed = str(caught.value).split("valid keys: ")[1]
    assert "index" in listed
    assert "callbacks" not in listed
    assert "args_schema" not in listed


def test_every_short_name_leads_to_a_class_of_its_kind() -> None:
    for kind, names in registry.PROVIDERS.items():
        for name in names:
            provider = registry.load_provider(kind, name)
            assert issubclass(provider, registry.BASES[kind])
            assert issubclass(provider, BaseTool)
    assert issubclass(registry.load_provider("locate", "grounding_dino"), Locator)


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("text_search", {"use": "brave", "api_key": 1234567890123}, "api_key=***"),
        (
            "image_search",
            {"use": "searchapi_lens", "api_key": "k", "publisher": {"use": "s3", "secret_access_key": "1234567890123"}},
            "publisher",
        ),
        ("text_search", {"use": "brave", "api_key": "k", "k": {"password": "1234567890123"}}, "k={password: ...}"),
        ("text_search", {"use": "brave", "api_key": "k", "k": ["1234567890123"]}, "k=[1 value]"),
        ("text_search", {"read": ["1234567890123"]}, "read=[1 value]"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(kind: registry.Kind, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(registry.ToolConfigError) as caught:
        registry.build(kind, spec)
    assert words in str(caught.value)
    assert "1234567890123" not in "".join(traceback.format_exception(caught.value))
