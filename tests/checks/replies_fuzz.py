"""Servers that answer anything, through the graph: `python tests/checks replies-fuzz --count 20000 --seed 0`.

Each case is one question to the search agent, with a checkpointer. One server answers it wrongly: the policy's (a whole
answer, a stream, its list of models) or a provider's of any kind, whose answers come from `provider_contract`. The question
must end typed, with a result that is plain JSON. The same seed gives the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import random
import time
import traceback
import urllib.parse
import warnings
from collections.abc import Callable
from typing import Any

from fuzz_values import VERBATIM, Fuzzed, flaw, text, varied, written
from fuzz_wire import http, in_memory, on_a_socket
from langgraph.checkpoint.memory import InMemorySaver
from pictures_fuzz import mutate
from PIL import Image
from provider_contract.harness import build
from provider_contract.provider import Provider, everyone
from provider_contract.server import Answer, Request

from lensgraph.agent import testing
from lensgraph.agent.images import ImageStore
from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.server.detect import Detector
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.graphs import search_agent
from lensgraph.tools import registry
from lensgraph.tools.pace import Pace
from lensgraph.tools.results import Hit

PATIENCE = 30.0
"""Seconds that a tool or a turn is given; nothing here waits that long."""
HANGS = 120.0
"""Seconds after which a case counts as hanging."""
OFFLINE = "http://127.0.0.1:9"
"""Address of the servers in memory."""
REASONS = frozenset(map(str, StopReason))
TURNS = {
    "compact": ["<text_search>kenya</text_search>", "<answer>1987</answer>"],
    "mmsearch_r1": ["<reason>r</reason><text_search>kenya</text_search>", "<reason>r</reason><answer>1987</answer>"],
    "deepmmsearch_r1": [
        "<reason>r</reason><text_search>kenya</text_search>",
        "<reason>r</reason><answer>1987</answer>",
    ],
}
"""Dialect -> an honest policy's turns."""
ACTIONS = {
    "text_search": "<text_search>kenya national anthem</text_search>",
    "image_search": "<img_search><img></img_search>",
    "locate": "<img_search>the flag</img_search>",
    "read_page": "<text_search>kenya national anthem</text_search>",
}
"""Kind of provider -> a turn that calls it."""
POLICIES = ("policy whole", "policy stream", "policy models")
PROVIDERS = {f"{provider.kind} {provider.name}": provider for provider in everyone()}
OF_THE_POLICY = 0.45
"""Share of the cases in which the policy's server is the one that answers wrongly."""


def cases() -> list[str]:
    """Every kind of case: by the server that answers wrongly."""
    return [*POLICIES, *PROVIDERS]


def kind_of(number: int, seed: int) -> str:
    """The kind of a case."""
    chance = random.Random(f"{seed}/{number}/kind")
    return chance.choice(POLICIES if chance.random() < OF_THE_POLICY else list(PROVIDERS))


class Fuzzer:
    """The graph with every provider before servers whose answers the current case decides."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Callable[[bytes], bytes] = lambda _: b""
        self.saver = InMemorySaver()
        self.graph = search_agent.build(self.saver)
        self.store = ImageStore(memory_bytes=4_000_000)
        buffer = io.BytesIO()
        Image.effect_noise((64, 48), 90).convert("RGB").save(buffer, "PNG")
        self.picture = buffer.getvalue()
        self.contexts: dict[str, Any] = {}

    async def case(self, number: int, seed: int) -> tuple[str, str]:
        """Run one case; returns its kind and its ending.

        Raises:
            Exception: whatever left the graph.
        """
        chance, kind = random.Random(f"{seed}/{number}"), kind_of(number, seed)
        provider = PROVIDERS.get(kind)
        dialect = chance.choice(list(TURNS)) if provider is None else "compact"
        context = self._context(kind, dialect, provider)
        wrong = chance.randrange(2)
        if provider is None:
            self.answer = _policy(kind, dialect, wrong, chance)
        else:
            self.answer = _provider(provider, chance)
        Pace._all.clear()  # a server that asks to be left alone would slow the next case down
        thread: Any = {"configurable": {"thread_id": str(number)}}
        given = {"question": "What is the anthem?", "images": [self.picture]}
        try:
            async with asyncio.timeout(HANGS):
                result = await self.graph.ainvoke(given, thread, context=context)
        finally:
            self.saver.delete_thread(str(number))
        if (wrong_with := flaw(result, REASONS)) is not None:
            raise AssertionError(wrong_with)
        return kind, result["stop_reason"]

    def _context(self, kind: str, dialect: str, provider: Provider | None) -> Any:
        name = f"{kind} {dialect}"
        if name not in self.contexts:
            tools = {} if provider is None else self._tool(provider)
            policy = self._policy(kind) if provider is None else testing.ScriptedPolicy(_script(ACTIONS[provider.kind]))
            self.contexts[name] = testing.context([], dialect, policy=policy, store=self.store, **tools)
        context = self.contexts[name]
        if provider is not None:
            context.policy.seen.clear()
        elif kind == "policy models":  # a server's kind is found out once
            context.policy._detector = Detector(context.policy._connection, "m", 0)
        return context

    def _policy(self, kind: str) -> OpenAICompatiblePolicy:
        return OpenAICompatiblePolicy(
            model="m",
            base_url=f"{self.url}/v1",
            server="auto" if kind == "policy models" else "vllm",
            retries=0,
            timeout=PATIENCE,
            start_wait=0.0,
            streaming=kind == "policy stream",
        )

    def _tool(self, provider: Provider) -> dict[str, Any]:
        tool: Any = build(provider, self.url, retries=0, timeout=PATIENCE)
        if provider.kind != "read_page":
            return {provider.kind: tool}
        pages = [Hit(title="Kenya", url=provider.ask(self.url)["url"], snippet="")]
        found = testing.FixedText(hits=pages)
        return {"text_search": registry.ReadingTextSearch(search_tool=found, reader=tool, pages=1)}


def _script(action: str) -> Callable[[Any], str]:
    return lambda messages: action if len(messages) == 1 else "<answer>1987</answer>"


def _policy(kind: str, dialect: str, wrong: int, chance: random.Random) -> Callable[[bytes], bytes]:
    """The policy's server: honest but for one turn, or for its list of models."""
    asked = 0

    def answer(request: bytes) -> bytes:
        nonlocal asked
        if request.startswith(b"GET"):
            cards = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm"}]}
            return _json(cards, chance)
        turn = TURNS[dialect][min(asked, 1)]
        honest = asked != wrong or kind == "policy models"
        asked += 1
        calls = []
        if dialect == "tools":
            given = {"text_search": {"query": "kenya"}, "answer": {"text": "1987"}}[turn]
            arguments = json.dumps(given) if honest or chance.random() < 0.5 else written(varied(given, chance), chance)
            calls = [{"index": 0, "id": "a1", "type": "function", "function": {"name": turn, "arguments": arguments}}]
            calls, turn = calls * (1 if honest else chance.choice((0, 1, 1, 3))), ""
        if not honest and chance.random() < 0.4:
            turn = text(chance)
        streamed = b'"stream":true' in request or b'"stream": true' in request
        events = _events(turn, calls) if streamed else [_completion(turn, calls)]
        if honest:
            body = _written_events(events) if streamed else json.dumps(events[0]).encode()
            return http(body, "text/event-stream" if streamed else "application/json", chance, honest=True)
        return _stream(events, chance) if streamed else _json(events[0], chance)

    return answer


def _completion(turn: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """A whole answer with the fields of all servers that are known."""
    token = {"token": "a", "logprob": -0.1, "id": 5, "bytes": [97], "top_logprobs": []}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": turn, "reasoning_content": "hm", "tool_calls": calls},
        "finish_reason": "stop",
        "stop_reason": "</answer>",
        "matched_stop": 151645,
        "logprobs": {"content": [token, token]},
        "token_ids": [5, 6],
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def _events(turn: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same as a stream's events."""
    whole = _completion(turn, calls)
    choice = whole["choices"][0]
    third = max(1, len(turn) // 3)
    parts = [turn[at : at + third] for at in range(0, len(turn), third)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": part} for part in parts)]
    deltas += [{"tool_calls": [call]} for call in calls]
    events = [
        {**whole, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    events[-1]["choices"][0] |= {key: choice[key] for key in ("finish_reason", "stop_reason", "token_ids", "logprobs")}
    return [*events, {**whole, "choices": []}]


def _written_events(events: list[Any], separator: str = "\n\n") -> bytes:
    return "".join(f"data: {json.dumps(event)}{separator}" for event in [*events]).encode() + b"data: [DONE]\n\n"


def _stream(events: list[Any], chance: random.Random) -> bytes:
    lines = [f"data: {json.dumps(event)}" for event in events]
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(
                    at, chance.choice((": ping", "event: x", "error: {}", "data:", "data: [DONE]", "id: 1", "\0"))
                )
            case 2:
                lines.insert(at, lines[chance.randrange(len(lines))])
            case _:
                lines[at] = f"data: {written(varied(events[min(at, len(events) - 1)], chance), chance)}"
        lines = lines or ["data: {}"]
    separator = chance.choice(("\n\n", "\n\n", "\r\n\r\n", "\n", "\r\r"))
    body = separator.join([*lines, "data: [DONE]", ""]).encode("utf-8", "surrogatepass")
    if chance.random() < 0.5:
        body = body[: chance.randrange(len(body) + 1)]  # the stream breaks off anywhere
    if chance.random() < 0.1:
        body = mutate(body, chance)
    return http(body, "text/event-stream", chance)


def _json(tree: Any, chance: random.Random) -> bytes:
    if chance.random() < 0.08:
        return http(chance.choice(VERBATIM).encode(), "application/json", chance)
    body = written(varied(tree, chance), chance).encode("utf-8", "surrogatepass")
    if chance.random() < 0.15:
        body = mutate(body, chance)
    if chance.random() < 0.03:
        body = body.decode("utf-8", "replace").encode("utf-16")
    return http(body, "application/json", chance)


def _provider(provider: Provider, chance: random.Random) -> Callable[[bytes], bytes]:
    """A provider's service: one of its answers, changed."""

    def answer(raw: bytes) -> bytes:
        request = _request(raw)
        try:
            works = provider.works(request)
        except (KeyError, TypeError):  # the entry reads a request of another form
            works = provider.empty
        chosen = chance.choice(
            (works, works, works, provider.empty, provider.busy, provider.broken, *provider.malformed)
        )
        if isinstance(chosen.body, dict | list):
            return _json(chosen.body, chance)
        body, content_type = Answer.encoded(chosen)
        for _ in range(chance.randint(0, 2)):
            at = chance.randrange(len(body) + 1)
            body = body[:at] + text(chance).encode("utf-8", "surrogatepass") + body[at:]
        return http(mutate(body, chance) if chance.random() < 0.5 else body, content_type, chance)

    return answer


def _request(raw: bytes) -> Request:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    parts = urllib.parse.urlsplit(target)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    return Request(method, urllib.parse.unquote(parts.path), query, headers, body, 0.0)


def run(count: int, seed: int, *, sockets: float = 0.0, only: int | None = None) -> Fuzzed:
    """Run the cases; a share of `sockets` over real sockets of this machine, the others in memory."""
    numbers = range(count) if only is None else [only]
    found = Fuzzed()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(_run(numbers, seed, sockets, found))
    finally:
        logging.disable(logging.NOTSET)
    return found


async def _run(numbers: Any, seed: int, sockets: float, found: Fuzzed) -> None:
    real: list[Fuzzer] = []
    async with on_a_socket(lambda request: real[0].answer(request)) as port:
        real.append(Fuzzer(f"http://127.0.0.1:{port}"))
        memory = Fuzzer(OFFLINE)
        for number in numbers:
            on_socket = random.Random(f"{seed}/{number}/socket").random() < sockets
            began = time.perf_counter()
            with contextlib.nullcontext() if on_socket else in_memory(lambda request: memory.answer(request)):
                await _one(real[0] if on_socket else memory, number, seed, found, " (socket)" if on_socket else "")
            found.slowest = max(found.slowest, time.perf_counter() - began)


async def _one(fuzzer: Fuzzer, number: int, seed: int, found: Fuzzed, where: str) -> None:
    try:
        kind, ending = await fuzzer.case(number, seed)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            raise
        kind, ending = "raised", type(error).__name__
        found.raw.append(f"case {number}{where}: {traceback.format_exc(limit=-6)}")
    found.kinds[kind + where] += 1
    found.endings[ending] += 1
