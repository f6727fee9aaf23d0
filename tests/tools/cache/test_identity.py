"""Tools share answers only if every setting that decides an answer is the same; a tool that cannot be told is not cached."""

import copy
import enum
import functools
import json
import re
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.tools import BaseTool, Tool
from provider_contract import harness
from provider_contract.provider import Provider, everyone
from pydantic import BaseModel, Field, SecretStr

from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.tools.adapter import adapt
from lensgraph.tools.base import TextSearch
from lensgraph.tools.cache import Cache, CacheSettings
from lensgraph.tools.cache.cache import _say_uncached
from lensgraph.tools.cache.identity import identity
from lensgraph.tools.pages.summarise import Summariser
from lensgraph.tools.results import Hit, SearchResult


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(CacheSettings(folder=str(tmp_path / "cache")))


class Anything(TextSearch):
    """A tool with settings of every kind."""

    setting: Any = None

    async def asearch(self, query: str) -> SearchResult:
        return SearchResult(kind="text", query=query, hits=[Hit(title=f"{self.setting}", url="u")])


class Site:
    """A service's client, in which a foreign tool keeps its settings."""

    def __init__(self, host: str, key: str = "s3cret") -> None:
        self.host, self._api_key = host, key

    def search(self, query: str) -> str:
        return f"{self.host} {query}"

    def __call__(self, query: str) -> str:
        return self.search(query)


def plain_search(query: str, host: str = "") -> str:
    """Search."""
    return f"{host} {query}"


class Colour(enum.Enum):
    """Two settings of one value."""

    RED, CRIMSON = "red", "crimson"


class Options(BaseModel):
    """Settings inside settings; who asks decides nothing."""

    irrelevant_to_answers: ClassVar[frozenset[str]] = frozenset({"asker"})

    host: str = "a"
    asker: str = ""
    client: Any = Field(default=None, exclude=True)


class MoreOptions(Options):
    """A subclass, in a field that may hold either."""

    page: int = 1


def told(setting: Any) -> str | None:
    return identity(Anything(setting=setting))


def test_the_settings_of_a_tool_are_told_without_its_keys_and_without_what_describes_it() -> None:
    nested = {
        "headers": {"Authorization": "Bearer s3cret", "Accept": "json"}, "options": MoreOptions(client=object()),
        "set": {2, 1}, "key": SecretStr("s3cret"), "class": Options, "path": Path("a/b"), "colour": Colour.RED,
        "module": json,
    }  # fmt: skip
    text = identity(Anything(setting=nested, tags=["x"], description="d", timeout=3))
    assert text is not None
    assert "s3cret" not in text
    assert " at 0x" not in text
    setting = json.loads(text)["fields"].pop("setting")
    assert json.loads(text)["fields"].keys() == {"k", "setting"}
    assert setting["headers"] == {"Accept": "json"}
    assert setting["options"]["fields"] == {"host": "a", "page": 1}
    assert setting["set"] == [1, 2]
    assert (setting["module"], setting["path"]) == ("json", "a/b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Options(), Options(host="b")),
        (Options(), MoreOptions()),
        (MoreOptions(), MoreOptions(page=2)),
        ({"max_new_tokens": 64}, {"max_new_tokens": 2048}),
        ({"token_ids": True}, {"token_ids": False}),
        ({"n": 1}, {"n": True}),
        ({"n": 1}, {"n": "1"}),
        ({"sort_key": "date"}, {"sort_key": "name"}),
        ([1, [2]], [[1], 2]),
        (Colour.RED, Colour.CRIMSON),
        (Colour.RED, "red"),
        (b"a", b"b"),
        (Path("a"), Path("b")),
        (Options, MoreOptions),
        (Document("words", metadata={"title": "a"}), Document("words", metadata={"title": "b"})),
    ],
)
def test_tools_that_differ_in_a_setting_are_two(one: Any, other: Any) -> None:
    assert told(one) is not None
    assert told(one) != told(other)
    assert told(one) == told(copy.deepcopy(one))


@pytest.mark.parametrize("key", ["api_key", "_api_key", "Authorization"])
def test_another_key_is_the_same_tool(key: str) -> None:
    assert told({key: "a"}) == told({key: "b"})
    assert told(SecretStr("a")) == told(SecretStr("b"))


def test_a_field_that_is_declared_to_decide_nothing_does_not_tell_tools_apart() -> None:
    assert told(Options(asker="me", client=object())) == told(Options())


def _made_anew() -> type[BaseModel]:
    class Local(Options):
        """One of many of this name."""

    return Local


ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    "setting",
    [
        lambda query: query, plain_search, functools.partial(plain_search, host="a"), Site("a").search, Site("a"), len,
        object(), threading.Lock(), ITSELF, [Options(), object()], {"deep": {"er": Site("a")}}, _made_anew(), _made_anew()(),
        re.compile("a"), (n for n in range(3)), np.zeros(3),
        Tool(name="t", description="d", func=plain_search),
    ],
)  # fmt: skip
def test_a_setting_that_is_no_plain_value_cannot_be_told(setting: Any) -> None:
    assert told(setting) is None


async def test_a_tool_that_cannot_be_told_is_asked_every_time_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _say_uncached.cache_clear()
    cache = Cache(CacheSettings(folder=str(tmp_path)))
    for n in range(2):
        found = await Anything(setting=lambda n=n: n).use_cache(cache).search("q")
        assert not found.cached
    assert caplog.text.count("Anything is not cached") == 1
    replay = Cache(CacheSettings(folder=str(tmp_path), mode="replay"))
    error = (await Anything(setting=lambda: "a").use_cache(replay).search("q")).error
    assert error is not None
    assert "a replay asks nobody" in error.message


async def test_foreign_tools_of_one_method_do_not_share_answers(cache: Cache) -> None:
    for host in ("a.example", "b.example"):
        foreign = Tool(name="site", description="d", func=Site(host).search)
        adapted = adapt("text_search", foreign).use_cache(cache)
        assert isinstance(adapted, TextSearch)
        assert (await adapted.search("q")).hits[0].snippet == f"{host} q"


class ForeignSite(BaseTool):
    """A foreign tool whose fields are its settings."""

    name: str = "site"
    description: str = "Search a site."
    host: str = "a.example"

    def _run(self, query: str) -> str:
        return f"{self.host} {query}"


async def test_a_foreign_tool_whose_fields_are_plain_values_is_cached(cache: Cache) -> None:
    for host in ("a.example", "b.example"):
        adapted = adapt("text_search", ForeignSite(host=host)).use_cache(cache)
        assert isinstance(adapted, TextSearch)
        first, second = await adapted.search("q"), await adapted.search("q")
        assert (first.hits[0].snippet, first.cached, second.cached) == (f"{host} q", False, True)


def test_summaries_of_different_length_are_two_questions() -> None:
    made = {identity(Summariser(model=OpenAICompatiblePolicy(model="m", max_new_tokens=n))) for n in (64, 2048)}
    assert len(made) == 2
    assert None not in made


@pytest.mark.parametrize("provider", list(everyone()), ids=lambda provider: f"{provider.kind}-{provider.name}")
def test_every_provider_that_ships_can_be_told(provider: Provider) -> None:
    """Or it would not be cached."""
    tool = harness.build(provider, "http://127.0.0.1:9")
    text = identity(tool)
    assert text is not None
    patient = tool.model_copy(update={"timeout": 1.5, "price_per_call": 9.0, "retries": 7, "backoff": 3.0, "name": "n"})
    assert identity(patient) == text
    assert identity(tool.model_copy(update={"base_url": "http://elsewhere", "k": 99, "max_chars": 200})) != text or (
        not {"base_url", "k", "max_chars"} & type(tool).model_fields.keys()
    )
