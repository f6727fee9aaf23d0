"""The graph as one tool of another agent: arguments, pictures of the chat, files, failures."""

import asyncio
import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import names_file, read_named
from lensgraph.graphs import direct
from lensgraph.graphs.tool import AskTool, as_tool
from lensgraph.tools.guard import Refused
from lensgraph.tools.results import SearchResult

TURNS = ["<img_search><img></img_search>", "<answer>1987</answer>"]


def png(colour: str = "navy") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


URI = f"data:image/png;base64,{base64.b64encode(png()).decode()}"


class Caller(BaseChatModel):
    """A chat model that calls the tool with `arguments`, then repeats what it was told."""

    arguments: Any
    bound: list[Any] = []

    @property
    def _llm_type(self) -> str:
        return "caller"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        self.bound = list(tools)
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            reply = AIMessage(f"told: {messages[-1].content}")
        else:
            call = {"name": "ask_about_picture", "args": self.arguments, "id": "1"}
            reply = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=reply)])


class Asking(testing.FixedText):
    """A search that asks a person."""

    async def asearch(self, query: str) -> SearchResult:
        interrupt("may I?")
        return await super().asearch(query)


def chat(*pictures: bytes) -> dict[str, Any]:
    blocks = [{"type": "image", "base64": base64.b64encode(p).decode(), "mime_type": "image/png"} for p in pictures]
    return {"messages": [HumanMessage([*blocks, {"type": "text", "text": "When?"}])]}


class TestAskTool(ToolsUnitTests):
    """LangChain's own suite for tools."""

    @property
    def tool_constructor(self) -> Callable[..., AskTool]:
        return as_tool

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": "When?", "image": URI}


def test_a_model_sees_two_typed_arguments() -> None:
    tool = as_tool()
    schema = tool.tool_call_schema.model_json_schema()
    assert list(schema["properties"]) == ["question", "image"]
    assert schema["required"] == ["question"]
    assert all(field["description"] for field in schema["properties"].values())


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_the_text_has_sources_and_the_artifact_the_numbers(mode: str) -> None:
    tool = as_tool(context=testing.context(TURNS))
    call = {"type": "tool_call", "id": "1", "name": tool.name, "args": {"question": "When?", "image": URI}}
    message = asyncio.run(tool.ainvoke(call)) if mode == "async" else tool.invoke(call)
    assert message.content == "1987\nSources:\n1. Kestrel Point Light https://example.org/kestrel"
    assert set(message.artifact) == {"answer", "sources", "usage", "stop_reason"}
    assert (message.artifact["answer"], message.artifact["stop_reason"]) == ("1987", "answered")


def test_any_graph_and_any_name() -> None:
    tool = as_tool(direct.graph, context=testing.context(TURNS[1:]), name="look", description="Looks.")
    assert (tool.name, tool.description) == ("look", "Looks.")
    assert tool.invoke({"question": "When?", "image": URI}) == "1987"


async def test_no_answer_says_why() -> None:
    tool = as_tool(context=testing.context(["nonsense"]))
    told = await tool.ainvoke({"question": "When?", "image": URI})
    assert told == "I have no answer: the policy's last turn could not be read."


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_an_agent_asks_about_the_latest_picture_of_its_chat(mode: str) -> None:
    agents = pytest.importorskip("langchain.agents", reason="needs langchain")
    context = testing.context(TURNS)
    model = Caller(arguments={"question": "When?"})
    agent = agents.create_agent(model, tools=[as_tool(context=context)])
    given = chat(png())
    result = await agent.ainvoke(given) if mode == "async" else await asyncio.to_thread(agent.invoke, given)
    assert result["messages"][-1].content.startswith("told: 1987\nSources:")
    assert context.image_search.asked == [(64, 48)]
    assert result["messages"][-2].artifact["usage"]["searches"] == {"image": 1, "text": 0}


async def test_an_agent_with_a_checkpointer_resumes_inside_the_graph() -> None:
    """The steps of the tool's graph are kept under the agent's thread: a failing policy costs no second search."""
    agents = pytest.importorskip("langchain.agents", reason="needs langchain")
    failures = ["once"]

    def turns(messages: list[BaseMessage]) -> str:
        if "<information>" not in messages[-1].text:
            return TURNS[0]
        if failures:
            raise RuntimeError(failures.pop())
        return TURNS[1]

    context = testing.context(turns)
    model = Caller(arguments={"question": "When?"})
    agent = agents.create_agent(model, tools=[as_tool(context=context)], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    with pytest.raises(RuntimeError, match="once"):
        await agent.ainvoke(chat(png()), thread)
    result = await agent.ainvoke(None, thread)
    assert result["messages"][-1].content.startswith("told: 1987")
    assert len(context.image_search.asked) == 1


async def test_an_interrupt_of_a_search_interrupts_the_agent() -> None:
    agents = pytest.importorskip("langchain.agents", reason="needs langchain")
    context = testing.context(["<text_search>q</text_search>", "<answer>1987</answer>"], text_search=Asking())
    agent = agents.create_agent(
        Caller(arguments={"question": "When?"}), [as_tool(context=context)], checkpointer=InMemorySaver()
    )
    thread = {"configurable": {"thread_id": "1"}}
    paused = await agent.ainvoke(chat(png()), thread)
    assert [one.value for one in paused["__interrupt__"]] == ["may I?"]
    result = await agent.ainvoke(Command(resume="yes"), thread)
    assert result["messages"][-1].content.startswith("told: 1987")


async def test_a_search_that_waits_for_approval_waits_in_the_agents_thread() -> None:
    """Also after an answer that is no decision, which is no result of the tool."""
    agents = pytest.importorskip("langchain.agents", reason="needs langchain")
    context = testing.context(["<text_search>q</text_search>", "<answer>1987</answer>"], approve=["text_search"])
    agent = agents.create_agent(
        Caller(arguments={"question": "When?"}), [as_tool(context=context)], checkpointer=InMemorySaver()
    )
    thread = {"configurable": {"thread_id": "1"}}
    paused = await agent.ainvoke(chat(png()), thread)
    assert paused["__interrupt__"][0].value["action_requests"][0]["args"] == {"query": "q"}
    with pytest.raises(BadInput, match="The text_search still waits"):
        await agent.ainvoke(Command(resume="perhaps"), thread)
    result = await agent.ainvoke(Command(resume="approve"), thread)
    assert result["messages"][-1].content.startswith("told: 1987") and context.text_search.asked == ["q"]


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_without_a_checkpointer_an_approval_is_told_to_the_model_as_an_error(mode: str) -> None:
    tool = as_tool(context=testing.context(["<answer>1987</answer>"], approve=["text_search"]))
    given = {"question": "When?", "image": URI}
    told = await tool.ainvoke(given) if mode == "async" else await asyncio.to_thread(tool.invoke, given)
    assert told.startswith(
        "error: approve=text_search: a call that waits for a person needs a graph with a checkpointer"
    )


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_where_nobody_can_be_asked_the_model_is_told_so(mode: str) -> None:
    tool = as_tool(context=testing.context(["<text_search>q</text_search>"], text_search=Asking()))
    given = {"question": "When?", "image": URI}
    told = await tool.ainvoke(given) if mode == "async" else await asyncio.to_thread(tool.invoke, given)
    assert told.startswith("error: A search waits for a person, who cannot be asked here")


# --- what a model may name


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """`open` may be read, `secret` may not; a link leads from one to the other."""
    for name in ("open", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png())
    (tmp_path / "open" / "link.png").symlink_to(tmp_path / "secret" / "a.png")
    (tmp_path / "open" / "inside.png").symlink_to(tmp_path / "open" / "a.png")
    return tmp_path


@pytest.mark.parametrize("name", ["a.png", "./a.png", "inside.png", "{folder}/open/a.png", "x/../a.png"])
async def test_a_file_in_the_open_folder_is_read(folders: Path, name: str) -> None:
    tool = as_tool(context=testing.context(TURNS), files=folders / "open")
    told = await tool.ainvoke({"question": "When?", "image": name.format(folder=folders)})
    assert told.startswith("1987")


@pytest.mark.parametrize(
    "name",
    ["../secret/a.png", "link.png", "{folder}/secret/a.png", "/etc/passwd", "~/a.png/../../secret/a.png", "a\0b",
     "x" * 5000, "file:///notes.txt", "FILE:a.png/../../secret/a.png"],
)  # fmt: skip
async def test_a_file_elsewhere_is_told_to_the_model_and_not_read(folders: Path, name: str) -> None:
    context = testing.context(TURNS)
    tool = as_tool(context=context, files=folders / "open")
    told = await tool.ainvoke({"question": "When?", "image": name.format(folder=folders)})
    assert told.startswith("error: ") and "\n" not in told
    assert context.policy.seen == []


@pytest.mark.parametrize("image", ["a.png", "/etc/passwd", "http://127.0.0.1/a.png", "http://[::1]:80/a.png"])
async def test_without_a_folder_no_path_and_never_a_private_address(image: str) -> None:
    context = testing.context(TURNS)
    told = await as_tool(context=context).ainvoke({"question": "When?", "image": image})
    assert told.startswith("error: ")
    assert context.policy.seen == []


def test_a_named_file_is_read_where_it_was_checked(folders: Path) -> None:
    assert read_named("inside.png", folders / "open") == png(), (
        "the graph is given the content, not a path to read later"
    )
    assert read_named(str(folders / "secret" / "a.png"), True) == png()
    assert not names_file(URI) and not names_file("https://example.org/a.png") and not names_file(png())
    with pytest.raises(Refused, match="paths are turned off here"):
        read_named("a.png", False)
