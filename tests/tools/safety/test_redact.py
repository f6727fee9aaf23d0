"""Logins in addresses do not come back in messages; addresses without one are shown as they are."""

from __future__ import annotations

import base64
import random
import traceback
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import StructuredTool, ToolException
from pydantic import ValidationError

from lensgraph.agent import nodes
from lensgraph.agent.config import load_config
from lensgraph.agent.errors import UserError
from lensgraph.agent.policy import PolicyError
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.tools import registry
from lensgraph.tools.adapter import adapt
from lensgraph.tools.base import TextSearch
from lensgraph.tools.image.publish import S3Publisher
from lensgraph.tools.locate.served_policy import ServedPolicyLocator
from lensgraph.tools.pages.summarise import Summariser
from lensgraph.tools.results import SearchResult, ToolFailure
from lensgraph.tools.safety import redact
from lensgraph.tools.safety.redact import hide_data, is_secret, shown, without_data, without_keys, without_logins
from lensgraph.tools.text.searxng import SearxngTextSearch


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no answer at postgresql://me:hunter2@db/x; start it", "no answer at postgresql://***@db/x; start it"),
        ("http://me:hunter2@127.0.0.1:8080/search?q=a@b", "http://***@127.0.0.1:8080/search?q=a@b"),
        ("'https://hunter2@host' and //me:hunter2@other", "'https://***@host' and //***@other"),
        ("postgresql://me:hun/ter2@db/x", "postgresql://***@db/x"),
        ("postgresql://me:hun@ter2@db/x", "postgresql://***@db/x"),
        ("403 at https://host/v1?key=hunter2&cx=1", "403 at https://host/v1?key=***&cx=1"),
        ("https://host/v1?appid=hunter2&x=1&X-Amz-Signature=hunter2", "https://host/v1?appid=***&x=1&X-Amz-Signature=***"),
        ("postgresql://db/x?user=me&password=hunter2&sslmode=require", "postgresql://db/x?user=me&password=***&sslmode=require"),
    ],
)  # fmt: skip
def test_a_login_is_hidden(text: str, left: str) -> None:
    assert without_logins(text) == left
    assert "hunter2" not in without_keys(text) + shown(("base_url",), text)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8000/v1", "https://medium.com/@someone/a", "http://host:8080/@someone?q=1", "me@example.org // it",
        "http://[::1]:80/x#a@b", "https://example.org/?token_count=3&q=a=b",
    ],
)  # fmt: skip
def test_an_address_without_a_login_is_shown_as_it_is(text: str) -> None:
    assert without_logins(text) == text


@pytest.mark.parametrize(
    ("name", "secret"),
    [("key", True), ("api_keys", True), ("X-Subscription-Token", True), ("access_token", True), ("max_new_tokens", False),
     ("token_ids", False), ("eos_token", False), ("api_key_env", False), ("tokens", False)],
)  # fmt: skip
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_what_stands_behind_a_hidden_key_stays() -> None:
    assert without_keys("https://host/v1?q=1&x=AIzaSyA1b2&cx=1") == "https://host/v1?q=1&x=***&cx=1"


KEY = "SUPERSECRET-KEYVALUE"


@pytest.mark.parametrize(
    "make",
    [
        lambda: S3Publisher(bucket="b", endpoint="minio.local", access_key_id=KEY, secret_access_key=KEY),
        lambda: OpenAICompatiblePolicy(model="m", base_url="localhost:8000/v1", api_key=KEY),
        lambda: SearxngTextSearch(base_url="http//x", api_key=KEY),
        lambda: ServedPolicyLocator(model="m", api_key=KEY),
        lambda: Summariser(sentences=5, api_key=KEY),
    ],
    ids=["publisher", "policy", "search", "locator", "summariser"],
)
def test_a_key_beside_a_wrong_setting_is_not_in_the_error(make: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    assert "KEYVALUE" not in str(caught.value)
    assert "SUPERSECRET" not in str(caught.value)


class Listener(BaseCallbackHandler):
    """Writes down what a tracer is told when a model is asked."""

    def __init__(self) -> None:
        self.heard = ""

    def on_chat_model_start(self, serialized: dict[str, Any], messages: Any, **kwargs: Any) -> None:
        self.heard += f"{serialized} {kwargs}"


async def test_a_tracer_is_not_told_the_login_of_a_policys_server() -> None:
    listener = Listener()
    policy: Any = OpenAICompatiblePolicy(
        model="m", base_url="http://me:hunter2@127.0.0.1:9/v1", start_wait=0, retries=0
    )
    with pytest.raises(PolicyError):
        await policy.ainvoke("?", {"callbacks": [listener]})
    assert "http://***@127.0.0.1:9/v1" in listener.heard
    assert "hunter2" not in listener.heard + repr(policy) + str(policy)


GOOGLE = "403 for url: https://host/v1?q=1&key=AIzaSyA1b2c3&cx=1"


class KeyInItsError(TextSearch):
    """Fails as a library does that names the whole address."""

    async def asearch(self, query: str) -> SearchResult:
        raise RuntimeError(GOOGLE)


def foreign(answers: Any, **options: Any) -> TextSearch:
    def search(query: str) -> Any:
        """Search."""
        if isinstance(answers, Exception):
            raise answers
        return answers

    adapted = adapt("text_search", StructuredTool.from_function(search, **options))
    assert isinstance(adapted, TextSearch)
    return adapted


@pytest.mark.parametrize(
    "tool",
    [
        KeyInItsError(), foreign(RuntimeError(GOOGLE)), foreign({"error": GOOGLE}),
        foreign(ToolException(GOOGLE), response_format="content_and_artifact"),
    ],
    ids=["ours", "raises", "says", "as a message"],
)  # fmt: skip
async def test_a_foreign_tools_key_is_in_no_error(tool: TextSearch) -> None:
    error = (await tool.search("x")).error
    assert error is not None
    assert "AIza" not in error.message
    assert "key=***&cx=1" in error.message


class Foreign(KeyInItsError):
    """A tool whose failure is not even caught by its own base class."""

    async def search(self, query: str) -> SearchResult:
        raise RuntimeError(GOOGLE)


async def test_the_graph_records_no_key_of_a_tool_that_raises() -> None:
    result = await nodes.call(Foreign(), {"query": "x"}, SearchResult(kind="text", query="x"), turn=1)
    assert result.error is not None
    assert "AIza" not in result.error.message
    assert "key=***&cx=1" in result.error.message


class Broken(TextSearch):
    """Fails as a library does that names the address."""

    async def asearch(self, query: str) -> SearchResult:
        raise RuntimeError("cannot reach http://me:hunter2@host/x")


async def test_failures_show_no_login() -> None:
    address = "ftp://me:hunter2@host/x"
    for kind in (UserError, PolicyError, registry.ToolConfigError):
        assert str(kind(f"{address}: no")) == "ftp://***@host/x: no"
    assert str(ToolFailure("unavailable", f"{address}: no")) == "ftp://***@host/x: no"
    error = (await Broken().search("x")).error
    assert error is not None and error.message.endswith("cannot reach http://***@host/x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: registry.build("text_search", {"use": "searxng", "base_url": "ftp://me:hunter2@host/x"}),
        lambda: load_config(overrides=["policy.base_url=ftp://me:hunter2@host"], environ={}),
    ],
    ids=["searxng", "policy"],
)
def test_an_address_that_cannot_be_used_is_named_without_its_login(make: Any) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert "host" in str(caught.value) and "hunter2" not in str(caught.value)


async def test_a_policys_server_that_is_down_is_named_without_its_login(caplog: pytest.LogCaptureFixture) -> None:
    policy: Any = OpenAICompatiblePolicy(model="m", base_url="http://me:hunter2@127.0.0.1:9/v1", start_wait=0.2)
    with pytest.raises(PolicyError) as caught:
        await policy.ainvoke("?")
    assert "http://***@127.0.0.1:9/v1" in str(caught.value)
    assert "is not there yet" in caplog.text
    assert "hunter2" not in str(caught.value) + caplog.text + str(policy._identifying_params)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No such file or directory: '/srv/ann smith/index/a.db'", "No such file or directory: (a path)"),
        ("/srv/lens/x.db: cannot be read; check", "(a path): cannot be read; check"),
        ("see file:///srv/x.pdf, or ~/y (/tmp)", "see (a path), or (a path) ((a path))"),
        (r"open C:\Users\ann\x", "open (a path)"),
        ("https://example.org/a/b, http://127.0.0.1:8000/v1, text/plain, 5/3, either/or, </answer>", None),
        ("it's 'fine' / not 'fine'", None),
    ],
)
def test_a_message_without_paths_keeps_everything_else(text: str, shown: str | None) -> None:
    assert redact.without_paths(text) == (shown or text)


def test_a_path_that_its_reader_wrote_is_kept() -> None:
    assert redact.without_paths("/a/b.png: no such file in /srv/pictures", known="/a/b.png") == (
        "/a/b.png: no such file in (a path)"
    )


def test_data_that_a_server_repeats_is_hidden_and_paths_and_names_are_not() -> None:
    data = base64.b64encode(random.Random(0).randbytes(300)).decode()
    assert without_data(f"cannot read data:image/png;base64,{data}, sorry") == (
        "cannot read data:image/png;base64,***, sorry"
    )
    assert without_data(f"at {data[31:160]}") == "at ***"
    for kept in (
        "/Users/Mike/Projects2024/pictures/store is no folder",
        "Qwen/Qwen2-VL-7B-Instruct-AWQ-with-a-long-name is not there",
        "the request has 9000 tokens, which are more than max-model-len",
    ):
        assert without_data(kept) == kept


def test_data_in_an_exception_and_in_those_behind_it_is_hidden() -> None:
    data = base64.b64encode(random.Random(0).randbytes(300)).decode()
    error, behind = ValueError(f"bad {data}"), KeyError(data, 3)
    error.__cause__ = behind
    assert hide_data(error) is error
    assert (str(error), behind.args) == ("bad ***", ("***", 3))


def test_data_in_an_exception_of_any_form_is_hidden() -> None:
    raw = random.Random(0).randbytes(300)
    data = base64.b64encode(raw).decode()

    class Own(Exception):
        def __str__(self) -> str:
            return f"sent {data}"

    noted = ValueError("x")
    noted.add_note(data)
    forms = [
        ValueError({"messages": [data]}), ValueError([{"url": data}]), ValueError("x", raw), Own(), noted,
        ExceptionGroup("several", [ValueError(data), KeyError({"a": data})]),
    ]  # fmt: skip
    for form in forms:
        try:
            try:
                raise form
            except Exception as caught:
                raise hide_data(caught) from None
        except Exception as told:
            kept = "".join(traceback.format_exception(told)) + repr(told)
            assert data[:40] not in kept and repr(raw)[:40] not in kept
