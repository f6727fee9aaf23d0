"""A client that waits is told what is being done; one that cancels stops the run, the policy and the tool in it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from mcp import Client

from lensgraph.agent import testing
from lensgraph.agent.policy.in_process import Tell
from lensgraph.agent.policy.light.policy import LightPolicy
from lensgraph.agent.policy.render import Rendered
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.graphs import direct, search_agent
from lensgraph.graphs.program.mcp_server.ask_server import AskServer
from lensgraph.graphs.program.mcp_server.watched_run import to_its_end

from .conftest import TRANSPORTS

Log = Callable[[], list[str]]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_node_and_turn_is_told_as_it_begins(uri: str, mode: Any) -> None:
    turns = ["<img_search>the tower</img_search>", "<text_search>\x1b[31mlights</text_search>", "<answer>1987</answer>"]
    told: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, total, message))

    async with Client(AskServer(search_agent.graph, testing.context(turns)), mode=mode) as client:
        await client.call_tool("ask", {"question": "When?", "image": uri}, progress_callback=progress)
    assert told == [
        (1, None, "reading the question"),
        (2, None, "turn 1: thinking"),
        (3, None, "turn 1: looking closer at the tower"),
        (4, None, "turn 1: searching by image: the tower"),
        (5, None, "turn 2: thinking"),
        (6, None, "turn 2: searching by text: [31mlights"),
        (7, None, "turn 3: thinking"),
        (8, None, "writing the answer"),
    ]


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 - it is a file that another process writes
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("transport", "mode"), [("http", "auto"), ("http", "legacy"), ("stdio", "auto")])
async def test_a_client_that_cancels_stops_the_policy_and_the_tool(
    transport: str, mode: Any, uri: str, log: Log
) -> None:
    """Over the wire, in both eras of the protocol: the call ends in the server, which goes on serving."""
    async with TRANSPORTS[transport](mode) as client:
        for slow in ("tool", "policy"):
            asked = {"question": f"When? Use the slow {slow}.", "image": uri}
            call = asyncio.create_task(client.call_tool("ask", asked))
            await until(lambda: f"{slow} began" in log())  # noqa: B023
            call.cancel()
            await until(lambda: f"{slow} was stopped" in log())  # noqa: B023
            after = await client.call_tool("ask", {"question": "When?", "image": uri})
            assert after.structured_content["answer"] == "1987"
    assert log() == ["tool began", "tool was stopped", "policy began", "policy was stopped"]


async def test_a_cancelled_question_leaves_no_episode_and_no_tool_of_its_run(uri: str, log: Log) -> None:
    async with TRANSPORTS["http"]() as client:
        call = asyncio.create_task(client.call_tool("ask", {"question": "The slow tool?", "image": uri}))
        await until(lambda: "tool began" in log())
        call.cancel()
        await until(lambda: "tool was stopped" in log())
        assert (await client.list_resources()).resources == []


class Endless(LightPolicy):
    """Samples in a thread for 20 seconds, a token at a time."""

    def turn(self, rendered: Rendered, stops: Sequence[str] = (), tell: Tell | None = None) -> Sampled:
        """2,000 tokens."""
        turn = Sampled([], [])
        while len(turn.ids) < 2_000:
            turn.ids.append(0)
            tokens.append(0)
            time.sleep(0.01)
            if tell is not None:
                tell(turn)
        return turn


tokens: list[int] = []


async def test_a_policy_that_samples_in_a_thread_stops_at_its_next_token(uri: str) -> None:
    tokens.clear()
    given: Any = {"question": "When?", "images": [uri]}
    context = testing.context([], policy=Endless())
    run = asyncio.create_task(to_its_end(direct.graph.ainvoke(given, context=context)))
    await until(lambda: len(tokens) > 5)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.sleep(0.1)
    stopped_at = len(tokens)
    await asyncio.sleep(0.2)
    assert len(tokens) == stopped_at < 2_000


async def test_what_was_cancelled_has_ended_when_its_caller_goes_on() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)  # a graph puts its things away
            ended.append(True)

    caller = asyncio.create_task(to_its_end(work()))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [True]
