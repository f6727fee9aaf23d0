"""`lensgraph siblings`: many trajectories that ask few questions make few calls, and their replay makes none.

Invariants: the calls are counted by the service, a server on this machine that speaks SearXNG's format, not by the cache;
the tools come from a configuration, as a user's do; the policy answers with the code that its search returned, so equal
answers mean equal results. The replay runs after the service has stopped.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.messages import BaseMessage
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.chat.tool_calls import as_text
from lensgraph.agent.config import Config
from lensgraph.agent.context import Context
from lensgraph.agent.images import ImageStore
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.graphs import search_agent

SERVICE_SECONDS = 0.2
"""Seconds before an answer: long enough that all siblings ask before the first is answered."""
_NUMBER = re.compile(r"number (\d+)")
_FOUND = re.compile(r"is (code-\d+)")


class Service(http.server.ThreadingHTTPServer):
    """Answers with a code for every number, and records the queries."""

    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer one search."""
        assert isinstance(self.server, Service)
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["q"][0]
        self.server.asked.append(query)
        time.sleep(SERVICE_SECONDS)
        number = _NUMBER.search(query)
        code = f"The code of number {number[1]} is code-{int(number[1]) * 7919 % 1000}." if number else ""
        found = {"results": [{"title": query, "url": "https://example.org/", "content": code}]}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print no access log."""


@contextmanager
def serving() -> Iterator[Service]:
    """Run the service."""
    service = Service()
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()


def turn(messages: list[BaseMessage]) -> str:
    """The policy: search for the number in the question, then answer with the code that the search returned."""
    told = [as_text(message) for message in messages]
    found = _FOUND.search(told[-1]) if len(told) > 1 else None
    if found:
        return f"<answer>{found[1]}</answer>"
    number = _NUMBER.search(told[0])
    if len(told) > 1 or number is None:
        return "<answer>nothing was found</answer>"
    return f"<text_search>code of number {number[1]}</text_search>"


async def trajectories(
    count: int, distinct: int, address: str, folder: str, mode: str
) -> tuple[list[str | None], float]:
    """Answers of `count` trajectories that run at once, and the price of their searches in USD."""
    graph = search_agent.graph
    config = Config.model_validate(
        {
            "tools": {
                "text_search": {"use": "searxng", "base_url": address, "price_per_call": 0.005, "timeout": 60},
                "cache": {"mode": mode, "folder": folder},
            }
        }
    )
    context = Context(config=config, policy=ScriptedPolicy(turn), image_search=testing.FixedImage(), store=ImageStore())
    picture = Image.new("RGB", (32, 32), "navy")
    states = await asyncio.gather(
        *(
            graph.ainvoke(
                {"question": f"What is the code of number {n % distinct}?", "images": [picture]}, context=context
            )
            for n in range(count)
        )
    )
    return [state["answer"] for state in states], sum(sum(state["usage"]["price"].values()) for state in states)


def measure(count: int, distinct: int) -> dict[str, Any]:
    """Run the trajectories, stop the service, replay them; returns the figures."""
    with tempfile.TemporaryDirectory() as folder:
        with serving() as service:
            address = f"http://127.0.0.1:{service.server_address[1]}"
            answers, price = asyncio.run(trajectories(count, distinct, address, folder, "use"))
        calls = len(service.asked)
        replayed, replayed_price = asyncio.run(trajectories(count, distinct, address, folder, "replay"))
    return {
        "trajectories": count,
        "distinct": distinct,
        "calls": calls,
        "price": round(price, 6),
        "right": sum(answer == f"code-{n % distinct * 7919 % 1000}" for n, answer in enumerate(answers)),
        "replay_calls": len(service.asked) - calls,
        "replay_price": replayed_price,
        "replay_same": sum(one == other for one, other in zip(answers, replayed, strict=True)),
    }


def kept(figures: dict[str, Any]) -> bool:
    """Whether every distinct query was sent once, and the replay sent none and gave the same answers."""
    return (
        figures["calls"] == figures["distinct"]
        and figures["replay_calls"] == 0
        and figures["right"] == figures["replay_same"] == figures["trajectories"]
    )


def report(figures: dict[str, Any]) -> str:
    """The figures in words."""
    return (
        f"{figures['trajectories']} trajectories at once with {figures['distinct']} distinct queries: "
        f"{figures['calls']} calls of the provider, {figures['price']:g} USD, {figures['right']} right answers\n"
        f"replayed with the provider gone: {figures['replay_calls']} calls, {figures['replay_price']:g} USD, "
        f"{figures['replay_same']} of {figures['trajectories']} answers the same"
    )
