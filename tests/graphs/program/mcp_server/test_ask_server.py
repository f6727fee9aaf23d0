"""The tool `ask`: its schema, its result, its errors, threads, and the prompt."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from lensgraph.agent import testing
from lensgraph.agent.images import ImageStore
from lensgraph.agent.policy.errors import PolicyError
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.graphs import search_agent
from lensgraph.graphs.program.mcp_server.ask_server import AskServer
from lensgraph.tools.base import TextSearch
from lensgraph.tools.results import SearchResult

from .conftest import over_http


def turns(messages: list[Any]) -> str:
    if "called" in messages[0].text:
        return "<answer>Kestrel Point</answer>" if "base64" in messages[0].content[0] else "<answer>blind</answer>"
    return "<answer>1987</answer>" if "<information>" in messages[-1].text else "<img_search><img></img_search>"


def asking(context: Any = None, *, threads: bool = False, **options: Any) -> Client:
    graph = search_agent.build(InMemorySaver()) if threads else search_agent.graph
    return Client(AskServer(graph, context or testing.context(turns), threads=threads, **options))


async def told(client: Client, **arguments: Any) -> str:
    """The one line of an error."""
    result = await client.call_tool("ask", arguments)
    (content,) = result.content
    assert result.is_error and len(content.text.splitlines()) == 1, content.text
    text: str = content.text
    return text


async def test_one_typed_tool_with_a_structured_result(uri: str) -> None:
    async with asking() as client:
        (tool,) = (await client.list_tools()).tools
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert (tool.name, list(tool.input_schema["properties"])) == ("ask", ["question", "image"])
    assert (tool.input_schema["required"], tool.input_schema["additionalProperties"]) == (["question"], False)
    assert set(tool.output_schema["properties"]) == {"answer", "sources", "usage", "stop_reason", "episode", "thread"}
    assert set(tool.output_schema["$defs"]["Source"]["properties"]) == {"title", "url", "turn"}
    assert all("description" in field for field in tool.output_schema["properties"].values())
    assert not result.is_error
    assert result.content[0].text == "1987\nSources:\n1. Kestrel Point Light https://example.org/kestrel"
    assert result.structured_content["answer"] == "1987"
    assert result.structured_content["usage"]["searches"] == {"image": 1, "text": 0}


@pytest.mark.parametrize("open_world", [True, False])
@pytest.mark.parametrize("threads", [True, False])
async def test_annotations_say_what_the_tool_does_to_the_world(open_world: bool, threads: bool) -> None:
    async with asking(threads=threads, open_world=open_world) as client:
        (tool,) = (await client.list_tools()).tools
    hints = tool.annotations
    assert (tool.title, hints.title) == ("Ask about a picture", "Ask about a picture")
    assert (hints.read_only_hint, hints.destructive_hint, hints.open_world_hint) == (True, False, open_world)
    assert hints.idempotent_hint is not threads  # a question that is asked twice in a thread stands there twice


@pytest.mark.parametrize(("mode", "version"), [("auto", LATEST_MODERN_VERSION), ("legacy", LATEST_HANDSHAKE_VERSION)])
async def test_the_protocol_is_spoken_in_its_current_revision_and_in_the_one_before(mode: Any, version: str) -> None:
    async with over_http(mode) as client:
        assert client.protocol_version == version
        assert client.server_info and client.server_info.name == "lensgraph"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "question is missing"),
        ({"question": 5}, "question=5: Input should be a valid string"),
        ({"question": "  "}, "The question is empty"),
        ({"question": "x" * 9_000}, "the limit is 8,000"),
        ({"question": "When?", "image": 7}, "image.str=7"),
        ({"question": "When?", "picture": "a.png"}, "unknown argument 'picture'; did you mean `image`?"),
        ({"question": "When?", "thread": "1"}, "unknown argument 'thread'"),
        ({"question": "When?", "images": ["a.png"]}, "unknown argument 'images'; did you mean `image`?"),
        *(({"question": "When?", name: 99}, f"unknown argument {name!r}")
          for name in ("max_turns", "max_text_searches", "policy", "dialect", "lenient", "config", "context", "files")),
    ],
)  # fmt: skip
async def test_bad_arguments_are_an_error_of_one_line(arguments: dict[str, Any], said: str) -> None:
    """A caller sets a question and a picture; limits, policy and files are the operator's."""
    async with asking() as client:
        assert said in await told(client, **arguments)


async def test_a_question_without_a_picture_is_an_error_where_the_policy_needs_one() -> None:
    class Pocket(ScriptedPolicy):
        about_pictures_only: bool = True

    async with asking(testing.context([], policy=Pocket(["<answer>blind</answer>"]))) as client:
        assert "no picture came with the question" in await told(client, question="When?")
    async with asking(testing.context(["<answer>1987</answer>"])) as client:
        assert not (await client.call_tool("ask", {"question": "When?"})).is_error


async def test_a_policy_that_cannot_be_reached_is_an_error_and_a_missing_answer_is_none(uri: str) -> None:
    def fail(messages: list[Any]) -> str:
        raise PolicyError("no answer from /srv/models/seven")

    async with asking(testing.context(fail)) as client:
        assert await told(client, question="When?", image=uri) == "I have no answer: the policy could not be reached."
    async with asking(testing.context(["<text_search>a</text_search>"] * 9)) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert not result.is_error
    assert (result.structured_content["answer"], result.structured_content["stop_reason"]) == (None, "turn_limit")


async def test_an_exception_that_nobody_expected_tells_a_client_nothing(uri: str) -> None:
    def bug(messages: list[Any]) -> str:
        raise RuntimeError("broken at /srv/secret/model.bin")

    async with asking(testing.context(bug)) as client:
        assert await told(client, question="When?", image=uri) == "Error executing tool ask"


async def test_a_folder_of_pictures_that_cannot_be_used_is_told_without_its_path(uri: str, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "secret")
    async with asking(testing.context(turns, store=store)) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
        (_, picture) = (await client.list_resources()).resources
        shutil.rmtree(tmp_path / "secret")
        (tmp_path / "secret").write_text("no folder")
        store._encoded.items.clear()
        said = await told(client, question="When?", image=uri)
        with pytest.raises(MCPError) as caught:
            await client.read_resource(picture.uri)
    assert not result.is_error
    for text in (said, caught.value.message):
        assert "(a path)" in text and str(tmp_path) not in text and "\n" not in text


async def test_an_operators_ceilings_hold(uri: str) -> None:
    context = testing.context(["<text_search>a</text_search>"] * 9, max_text_searches=1)
    async with asking(context) as client:
        result = await client.call_tool("ask", {"question": "When?", "image": uri})
    assert result.structured_content["usage"]["searches"]["text"] == 1


async def test_a_thread_is_a_follow_up_about_its_picture(uri: str) -> None:
    async with asking(threads=True) as client:
        first = (await client.call_tool("ask", {"question": "When?", "image": uri})).structured_content
        follow_up = {"question": "What is it called?", "thread": first["thread"]}
        second = (await client.call_tool("ask", follow_up)).structured_content
        other = (await client.call_tool("ask", {"question": "When?", "image": uri})).structured_content
    assert (second["answer"], second["thread"]) == ("Kestrel Point", first["thread"])
    assert other["thread"] != first["thread"]
    assert "thread" not in (await _once(uri))


async def _once(uri: str) -> Any:
    async with asking() as client:
        return (await client.call_tool("ask", {"question": "When?", "image": uri})).structured_content


@pytest.mark.parametrize("thread", ["1", "0" * 32, "../x", ""])
async def test_a_thread_cannot_be_made_up(thread: str) -> None:
    async with asking(threads=True) as client:
        assert "there is no thread" in await told(client, question="When?", thread=thread)


@pytest.mark.parametrize("threads", [True, False])
async def test_a_tool_that_waits_for_a_person_is_an_error_of_one_line(threads: bool, uri: str) -> None:
    class Asking(TextSearch):
        async def asearch(self, query: str) -> SearchResult:
            interrupt("May I?")
            raise AssertionError("nobody answered")

    context = testing.context(["<text_search>a</text_search>", "<answer>1987</answer>"], text_search=Asking())
    async with asking(context, threads=threads) as client:
        assert "waits for a person" in await told(client, question="When?", image=uri)


async def test_a_prompt_asks_about_a_picture(picture: Path) -> None:
    async with asking() as client:
        (prompt,) = (await client.list_prompts()).prompts
        given = {"question": 'Whose "flag"?', "image": "flags.png"}
        (message,) = (await client.get_prompt(prompt.name, given)).messages
    assert (prompt.name, [a.name for a in prompt.arguments]) == ("ask_about_picture", ["question", "image"])
    assert message.role == "user"
    assert "`ask`" in message.content.text and 'Whose "flag"?' in message.content.text
