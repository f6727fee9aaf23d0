"""The same question in every embedding, on the pocket policy and the embedded world: the answer is the plain graph's.

The policy takes the likeliest token, so an embedding that changed what the policy sees would change what it says.
"""

import asyncio
import importlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from lensgraph.agent import config
from lensgraph.agent.context import Context
from lensgraph.agent.savers import saver
from lensgraph.agent.shared import _built
from lensgraph.graphs import search_agent
from lensgraph.graphs.tool import as_tool

pytestmark = pytest.mark.e2e

QUESTION = "What is the capital of the country of the second flag from the left?"
Seen = tuple[str, list[str], dict[str, int]]


def seen(result: Any) -> Seen:
    """The answer, the pages behind it and the searches made, which must be the same everywhere."""
    assert result["stop_reason"] == "answered"
    return result["answer"], [source["url"] for source in result["sources"]], result["usage"]["searches"]


@pytest.fixture(scope="module")
def picture(repository: Path) -> Path:
    return repository / "notebooks" / "flags.png"


@pytest.fixture(scope="module")
def plain(picture: Path) -> Seen:
    """The graph on its own. It searches by picture and by words, so that all of it is seen to work inside the others."""
    result = seen(asyncio.run(search_agent.graph.ainvoke({"question": QUESTION, "images": [picture]})))
    assert result[0] == "Nairobi"
    assert result[2] == {"image": 1, "text": 1}
    return result


@pytest.mark.parametrize("call", ["invoke", "ainvoke", "astream"])
async def test_in_a_chain(plain: Seen, picture: Path, call: str) -> None:
    chain = RunnableLambda(lambda text: {"question": text, "images": [picture]}) | search_agent.graph
    if call == "invoke":
        result: Any = await asyncio.to_thread(chain.invoke, QUESTION)
    elif call == "ainvoke":
        result = await chain.ainvoke(QUESTION)
    else:
        async for result in chain.astream(QUESTION):
            if "answer" in result:  # updates, the last of them the answer node's
                result = result["answer"]
    assert seen(result) == plain


class Scripted(GenericFakeChatModel):
    """A chat model that takes any tools."""

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        return self


async def test_as_a_tool_of_create_agent(plain: Seen, picture: Path) -> None:
    agents = pytest.importorskip("langchain.agents", reason="needs langchain")
    call = {"name": "ask_about_picture", "args": {"question": QUESTION, "image": picture.name}, "id": "1"}
    model = Scripted(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("done")]))
    agent = agents.create_agent(model, tools=[as_tool(files=picture.parent)])
    result = await agent.ainvoke({"messages": [{"role": "user", "content": QUESTION}]})
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "ai"]
    assert seen(result["messages"][2].artifact) == plain
    assert result["messages"][2].content.startswith("Nairobi\nSources:\n1. Flag of Kenya")


class Parent(TypedDict, total=False):
    """Shares some keys with the graph, and keeps one of its own."""

    question: str
    images: list[str]
    answer: str
    sources: list[Any]
    usage: Any
    stop_reason: str
    own: str


async def test_as_a_part_of_another_graph(plain: Seen, picture: Path) -> None:
    wiring = StateGraph(Parent)
    wiring.add_node("look", search_agent.graph)
    wiring.add_edge(START, "look")
    given: Any = {"question": QUESTION, "images": [picture], "own": "kept"}
    result = await wiring.compile().ainvoke(given)
    assert seen(result) == plain
    assert result["own"] == "kept"


async def test_a_follow_up_in_a_thread_on_disk(plain: Seen, picture: Path, tmp_path: Path) -> None:
    """Two graphs with a database and a folder in common, as two processes would have: the second finds the picture of the
    first one's question, and the database holds no picture."""
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    thread: Any = {"configurable": {"thread_id": "visitor-17"}}

    async def ask(given: Any) -> Any:
        context = Context(config=config.load_config(overrides=[f"images.folder={tmp_path}/pictures"]))
        async with saver(f"sqlite:///{tmp_path}/threads.db") as checkpoints:
            result = await search_agent.build(checkpoints).ainvoke(given, thread, context=context)
        _built.clear()  # the store of the next one knows nothing of this one's pictures
        return result

    assert seen(await ask({"question": QUESTION, "images": [picture.read_bytes()]})) == plain
    second = await ask({"question": "Which country's flag is on the far right?"})
    assert second["answer"] == "Uzbekistan"
    assert [message.type for message in second["messages"]] == ["human", "ai", "human", "ai"]
    assert picture.read_bytes()[:64] not in (tmp_path / "threads.db").read_bytes()
    assert (tmp_path / "threads.db").stat().st_size < 150_000


@pytest.fixture(scope="module")
def port(repository: Path) -> Iterator[int]:
    """`python -m lensgraph mcp --http`, on a free port."""
    pytest.importorskip("mcp", reason="needs lensgraph[mcp]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    options = ["--http", str(number), "--pictures", "notebooks", "--threads", "memory"]
    command = [sys.executable, "-m", "lensgraph", "mcp", *options]
    process = subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.25)
        yield number
    finally:
        process.terminate()
        process.communicate(timeout=30)


@asynccontextmanager
async def session(transport: str, repository: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    mcp = pytest.importorskip("mcp", reason="needs lensgraph[mcp]")
    if transport == "stdio":
        arguments = ["-m", "lensgraph", "mcp", "--pictures", "notebooks", "--threads", "memory"]
        where: Any = mcp.StdioServerParameters(
            command=sys.executable, args=arguments, cwd=repository, env=dict(os.environ)
        )
    else:
        where = f"http://127.0.0.1:{request.getfixturevalue('port')}/mcp"
    async with mcp.Client(where) as client:
        yield client


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_as_an_mcp_server_with_a_follow_up(
    plain: Seen, repository: Path, request: pytest.FixtureRequest, transport: str
) -> None:
    async with session(transport, repository, request) as client:
        first = await client.call_tool("ask", {"question": QUESTION, "image": "flags.png"})
        assert not first.is_error, first.content
        assert seen(first.structured_content) == plain
        assert first.content[0].text.startswith("Nairobi\nSources:\n1. Flag of Kenya")
        follow_up = {
            "question": "Which country's flag is on the far right?",
            "thread": first.structured_content["thread"],
        }
        second = await client.call_tool("ask", follow_up)
        assert second.structured_content["answer"] == "Uzbekistan"
        refused = await client.call_tool("ask", {"question": QUESTION, "image": "../README.md"})
        assert refused.is_error


async def test_http_refuses_a_page_of_another_site(port: int) -> None:
    """A browser that was sent to this address by a stranger's page names that page: DNS rebinding gains nothing."""
    import httpx

    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"Accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(trust_env=False) as client:
        for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            reply = await client.post(f"http://127.0.0.1:{port}/mcp", json=body, headers={**headers, **wrong})
            assert reply.status_code in (403, 421), reply.text


@pytest.mark.skipif(
    not (os.environ.get("CI") or os.environ.get("LENSGRAPH_TEST_POSTGRES")), reason="a developer may lack some extras"
)
def test_nothing_here_is_skipped_where_the_whole_suite_must_pass() -> None:
    for module in ("langchain.agents", "langgraph.checkpoint.sqlite", "langgraph.checkpoint.postgres", "mcp"):
        importlib.import_module(module)
    declared = set(re.findall(r'importorskip\("([\w.]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert declared <= {"langchain.agents", "langchain", "langgraph.checkpoint.sqlite", "mcp"}
