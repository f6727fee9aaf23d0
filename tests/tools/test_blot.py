"""Logins in addresses do not come back in messages; addresses without one are shown as they are."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config import load
from agent.errors import UserError
from agent.policy import PolicyError
from agent.policy.openai_compatible import OpenAICompatiblePolicy
from tools import registry
from tools.base import TextSearch
from tools.blot import shown, without_keys, without_logins
from tools.results import SearchResult, ToolFailure


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no answer at postgresql://me:hunter2@db/x; start it", "no answer at postgresql://***@db/x; start it"),
        ("http://me:hunter2@127.0.0.1:8080/search?q=a@b", "http://***@127.0.0.1:8080/search?q=a@b"),
        ("'https://hunter2@host' and //me:hunter2@other", "'https://***@host' and //***@other"),
        ("postgresql://me:hun/ter2@db/x", "postgresql://***@db/x"),
        ("postgresql://me:hun@ter2@db/x", "postgresql://***@db/x"),
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
        lambda: load(overrides=["policy.base_url=ftp://me:hunter2@host"], environ={}),
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
