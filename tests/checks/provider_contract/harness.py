"""The harness of the contract's cases: a provider as the registry builds it, its service, a call, and checks of its outcome.

Invariant: a helper raises `Broken`, in words, when an outcome is not as the contract asks.
"""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from lensgraph.tools import registry
from lensgraph.tools.base import LensTool
from lensgraph.tools.results import LocateResult, Page, Reason, SearchResult
from provider_contract.provider import Provider
from provider_contract.server import Answer, Request, Service, serve

PATIENCE = 30.0
"""Timeout of a call in seconds where time is not what is checked; busy machines are slow."""


class Broken(AssertionError):
    """A provider does not keep to the contract."""


def key_of(provider: Provider) -> str:
    """A key that no other provider has, so that it can be found wherever it should not be."""
    return f"secret/{provider.kind}-{provider.name}+key" if provider.key_variable else ""


_environment = threading.RLock()
"""Keys come from the environment, which is one for all threads."""


def build(provider: Provider, url: str, *, key: str | None = None, **options: Any) -> LensTool:
    """The provider as the registry builds it from configuration and environment; `key` None: its own, "": none."""
    spec = {"use": provider.name, **provider.options(url), **provider.fast, **options}
    with _environment, _variable(provider.key_variable, key_of(provider) if key is None else key):
        return registry.build(provider.kind, spec)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name) if name else None
    if name:
        os.environ[name] = value
    try:
        yield
    finally:
        if name:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before


@contextmanager
def service_of(provider: Provider, *script: Answer | None, key: str | None = None) -> Iterator[Service]:
    """The provider's service. It answers with `script`, the last entry again and again, where None stands for a working answer.
    Requests that its documents say it refuses are refused before all else."""
    turns = 0
    lock = threading.Lock()

    def respond(request: Request) -> Answer:
        nonlocal turns
        refusal = provider.refuses(request, key_of(provider) if key is None else key)
        if refusal is not None:
            return refusal
        if not provider.counts(request):
            return provider.works(request)
        with lock:
            turn, turns = min(turns, len(script) - 1), turns + 1
        return (script[turn] if script else None) or provider.works(request)

    with serve(respond) as service:
        yield service


class Ear(BaseCallbackHandler):
    """Writes down what LangChain tells a tracer about a call."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, **kwargs: Any) -> None:
        """Note the arguments that a run starts with."""
        self.heard.append(f"{serialized} {input_str} {kwargs}")

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        """Note the output."""
        self.heard.append(f"{output!r} {kwargs}")

    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        """Note the error."""
        self.heard.append("".join(traceback.format_exception(error)))


Result = SearchResult | LocateResult | Page


sync: ContextVar[bool] = ContextVar("sync", default=False)
"""True while the running case calls from synchronous code."""


def call(tool: LensTool, arguments: Any, *, ear: Ear | None = None) -> Result:
    """Call a tool as LangChain does, in the way that the case is run in, and return its typed result."""
    request = {"type": "tool_call", "id": "contract", "name": tool.name, "args": dict(arguments)}
    config: Any = {"callbacks": [ear] if ear else []}
    message = tool.invoke(request, config) if sync.get() else asyncio.run(tool.ainvoke(request, config))
    result = message.artifact
    if not isinstance(result, SearchResult | LocateResult | Page):
        raise Broken(f"returned {type(result).__name__}")
    return result


def described(result: Result, tool: LensTool) -> str:
    """A result in a few words, after a check that it is one."""
    if result.error is not None:
        raise Broken(f"{result.error.reason}: {result.error.message}")
    if result.price != tool.price_per_call:
        raise Broken(f"costs {result.price} instead of {tool.price_per_call}")
    if isinstance(result, SearchResult):
        if not all(hit.title and hit.url for hit in result.hits):
            raise Broken("a result without title or address")
        return _count(len(result.hits), "result")
    if isinstance(result, Page):
        if not result.title:
            raise Broken("a page without its title")
        return _count(len(result.text), "character")
    return _count(len(result.regions), "region")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def reason_of(result: Result, wanted: Sequence[str]) -> str:
    """The reason of a failed call, after a check that it is one of those wanted."""
    if result.error is None:
        raise Broken(f"a result instead of {' or '.join(wanted)}")
    if result.error.reason not in wanted:
        raise Broken(f"{result.error.reason} instead of {' or '.join(wanted)} ({result.error.message})")
    if not result.error.message or "\n" in result.error.message or result.price:
        raise Broken(f"an error of no or several lines, or one that costs: {result.error.message!r}")
    return result.error.reason


def counted(provider: Provider, service: Service) -> list[Request]:
    """The requests that were calls."""
    return [request for request in service.asked if provider.counts(request)]


def failing(provider: Provider, answer: Answer, *wanted: Reason, **options: Any) -> str:
    """The reason when the service always answers so."""
    with service_of(provider, answer) as service:
        tool = build(provider, service.url, timeout=PATIENCE, retries=0, **options)
        return reason_of(call(tool, provider.ask(service.url)), wanted)
