"""A provider as the contract sees it: the options that build it, and its service's answers in each situation."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lensgraph.tools.registry import Kind
from provider_contract.server import Answer, Request

QUERY = "kenya national anthem"
"""Query of every text search."""


def _with_retry_after(body: Answer) -> Callable[[float], Answer]:
    return lambda seconds: body.with_headers(Retry_After=f"{seconds:g}")


@dataclass(frozen=True)
class Provider:
    """A provider and its service."""

    name: str
    """Its short name in the registry."""
    kind: Kind
    documents: str
    """Documents that the answers below were checked against."""
    options: Callable[[str], Mapping[str, Any]]
    """Options that point it at the server with this address."""
    works: Callable[[Request], Answer]
    """The service's answer to a right request."""
    empty: Answer
    """Its answer when it finds nothing."""
    refuses: Callable[[Request, str], Answer | None]
    """Its answer to a wrong request, such as one with another key than this; None for a right one."""
    busy: Answer
    """Its 429, without the header that says how long to wait."""
    broken: Answer
    """Its 5xx."""
    malformed: tuple[Answer, ...]
    """Answers of status 200 that cannot be read."""
    ask: Callable[[str], Mapping[str, Any]] = lambda _: {"query": QUERY}
    """Arguments of a call, from the address of the server."""
    busy_for: Callable[[float], Answer] | None = None
    """Its 429 that asks to wait so many seconds. None: `busy` with Retry-After."""
    key_variable: str = ""
    """Environment variable of its key. Empty: it takes none."""
    key_needed: bool = True
    """True: it is not built without the key."""
    size_option: str = "max_body_bytes"
    """Option that caps the size of an answer."""
    fast: Mapping[str, Any] = field(default_factory=dict)
    """Options that lift a client-side rate limit, so that the contract need not wait for it."""
    counts: Callable[[Request], bool] = lambda _: True
    """True for a request that counts as a call (one for robots.txt does not)."""
    too_large: str = "malformed"
    """Reason of the failure when an answer is too large."""

    def when_busy(self, seconds: float) -> Answer:
        """Its 429 that asks to wait."""
        return (self.busy_for or _with_retry_after(self.busy))(seconds)


def everyone() -> Iterator[Provider]:
    """Every provider in `provider_contract.providers`: each file there holds one `PROVIDER`."""
    package = importlib.import_module("provider_contract.providers")
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        provider = importlib.import_module(f"{package.__name__}.{found.name}").PROVIDER
        assert isinstance(provider, Provider)
        yield provider
