"""A policy and a text search for servers that tests start: by import path, also in another process.

A question with "slow tool" or "slow policy" in it makes that one take a minute; it writes down in the file that `SLOW_LOG` names
when it begins, and how it ends."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.tools.base import TextSearch
from lensgraph.tools.results import Hit, SearchResult

SETTINGS = [
    "policy.kind=slow_backends:SlowPolicy",
    "tools.text_search.use=slow_backends:SlowText",
    "tools.image_search.use=lensgraph.agent.testing:FixedImage",
]


@contextmanager
def recorded(what: str) -> Iterator[None]:
    """Write down that something began, and whether it finished or was stopped."""
    with Path(os.environ["SLOW_LOG"]).open("a") as log:
        print(what, "began", file=log, flush=True)
        try:
            yield
        except asyncio.CancelledError:
            print(what, "was stopped", file=log, flush=True)
            raise
        print(what, "finished", file=log, flush=True)


def next_turn(messages: list[BaseMessage]) -> str:
    """Search for whatever should be searched for, then answer."""
    if "tool" in messages[0].text and "<information>" not in messages[-1].text:
        return f"<text_search>{messages[0].text[-60:]}</text_search>"
    return "<answer>1987</answer>"


class SlowPolicy(ScriptedPolicy):
    """Answers at once, unless it is asked to be slow."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(next_turn, **fields)

    async def _agenerate(self, messages: list[BaseMessage], *arguments: Any, **keywords: Any) -> ChatResult:
        if "slow policy" in messages[0].text:
            with recorded("policy"):
                await asyncio.sleep(60)
        return await super()._agenerate(messages, *arguments, **keywords)


class SlowText(TextSearch):
    """Finds one page, at once unless the query asks it to be slow; fails as a broken disk would for a query with "broken"."""

    async def asearch(self, query: str) -> SearchResult:
        """One page."""
        if "slow" in query:
            with recorded("tool"):
                await asyncio.sleep(60)
        if "broken" in query:
            raise FileNotFoundError(2, "No such file or directory", "/srv/ann smith/index/pages.db")
        hit = Hit(title="Kestrel Point Light", url="https://example.org/kestrel", snippet="Automated in 1987.")
        return SearchResult(kind="text", query=query, hits=[hit])
