"""Every shape in which a chat client sends a picture is read, or refused by name; none is dropped in silence.

The shapes are those of the clients' own documentation: LangChain (v1, v0, JavaScript), OpenAI (chat completions, responses),
Anthropic, Amazon Bedrock Converse, Google GenAI, Qwen-VL, Hugging Face chat templates, the AI SDK, Ollama, MCP, LlamaIndex,
OpenTelemetry's GenAI events.
"""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from PIL import Image
from typing_extensions import TypedDict

from lensgraph.agent import question, testing
from lensgraph.agent.context import Context
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore
from lensgraph.agent.nodes.reason import ABOUT_PICTURES
from lensgraph.agent.nodes.receive import NO_PICTURE
from lensgraph.agent.policy.light.policy import LightPolicy
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import direct, search_agent

ANSWER = "<answer>1987</answer>"
SIZE = (41, 31)


def png(width: int = SIZE[0], height: int = SIZE[1]) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 90).save(buffer, "PNG")
    return buffer.getvalue()


DATA = png()
B64 = base64.b64encode(DATA).decode()
URI = f"data:image/png;base64,{B64}"
PIL = Image.open(io.BytesIO(DATA))
ASK = {"type": "text", "text": "When?"}

READ: dict[str, Any] = {
    "langchain": {"type": "image", "base64": B64, "mime_type": "image/png"},
    "langchain with an id of the block": {"type": "image", "base64": B64, "mime_type": "image/png", "id": "lc_1"},
    "langchain url": {"type": "image", "url": URI},
    "langchain file": {"type": "file", "base64": B64, "mime_type": "image/png"},
    "langchain v0 base64": {"type": "image", "source_type": "base64", "data": B64, "mime_type": "image/png"},
    "langchain v0 url": {"type": "image", "source_type": "url", "url": URI},
    "langchain v0 file": {"type": "file", "source_type": "base64", "data": B64, "mime_type": "image/png"},
    "langchain non_standard": {"type": "non_standard", "value": {"type": "input_image", "image_url": URI}},
    "langchain.js": {"type": "image", "mimeType": "image/png", "data": B64, "metadata": {"name": "a.png"}},
    "langchain.js bytes": {"type": "image", "mimeType": "image/png", "data": DATA},
    "langchain.js old file": {"type": "file", "mimeType": "image/png", "data": B64, "metadata": {"filename": "a.png"}},
    "openai": {"type": "image_url", "image_url": {"url": URI, "detail": "low"}},
    "openai string": {"type": "image_url", "image_url": URI},
    "openai with cache_control": {
        "type": "image_url",
        "image_url": {"url": URI},
        "cache_control": {"type": "ephemeral"},
    },
    "openai bare base64": {"type": "image_url", "image_url": {"url": B64}},
    "openai responses": {"type": "input_image", "detail": "auto", "image_url": URI},
    "openai file": {"type": "file", "file": {"filename": "a.png", "file_data": URI}},
    "openai file by its name": {"type": "file", "file": {"filename": "a.png", "file_data": B64}},
    "openai input_file": {"type": "input_file", "filename": "a.png", "file_data": URI},
    "openai generated": {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": B64},
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
    "anthropic url": {"type": "image", "source": {"type": "url", "url": URI}},
    "anthropic tool_result": {
        "type": "tool_result",
        "tool_use_id": "1",
        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}}],
    },
    "bedrock": {"image": {"format": "png", "source": {"bytes": DATA}}},
    "bedrock as json": {"image": {"format": "png", "source": {"bytes": B64}}},
    "bedrock toolResult": {
        "toolResult": {"toolUseId": "1", "content": [{"image": {"format": "png", "source": {"bytes": DATA}}}]}
    },
    "google media": {"type": "media", "mime_type": "image/png", "data": B64},
    "google media bytes": {"type": "media", "mime_type": "image/png", "data": DATA},
    "google inline_data": {"inline_data": {"mime_type": "image/png", "data": B64}},
    "google inlineData": {"inlineData": {"mimeType": "image/png", "data": B64}},
    "qwen": {"type": "image", "image": URI, "min_pixels": 50176},
    "qwen data:image": {"type": "image", "image": f"data:image;base64,{B64}"},
    "qwen PIL": {"type": "image", "image": PIL},
    "qwen without a type": {"image": URI},
    "transformers base64": {"type": "image", "base64": B64},
    "ai sdk image": {"type": "image", "image": B64, "mediaType": "image/png"},
    "ai sdk file": {"type": "file", "mediaType": "image/png", "data": B64, "filename": "a.png"},
    "ai sdk file url": {"type": "file", "mediaType": "image/png", "url": URI},
    "ai sdk file data": {"type": "file", "mediaType": "image", "data": {"type": "data", "data": B64}},
    "ai sdk tool-result": {
        "type": "tool-result",
        "toolCallId": "1",
        "output": {"type": "content", "value": [{"type": "media", "mediaType": "image/png", "data": B64}]},
    },
    "tanstack": {"type": "image", "source": {"type": "data", "value": B64, "mimeType": "image/png"}},
    "ag-ui": {"type": "binary", "mimeType": "image/png", "data": B64},
    "llama stack": {"type": "image", "image": {"url": {"uri": URI}}},
    "llamaindex": {"block_type": "image", "image": B64},
    "mcp image": {"type": "image", "data": B64, "mimeType": "image/png"},
    "mcp resource": {"type": "resource", "resource": {"uri": "file:///a.png", "mimeType": "image/png", "blob": B64}},
    "opentelemetry": {"type": "blob", "modality": "image", "mime_type": "image/png", "content": B64},
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no picture": ({"type": "image"}, "holds no picture: its keys are type"),
    "an array of numbers": ({"type": "image", "data": {"0": 137, "1": 80}}, "holds no picture"),
    "openai file_id": ({"type": "input_image", "file_id": "file-abc"}, "The file 'file-abc' of an image block"),
    "anthropic file": ({"type": "image", "source": {"type": "file", "file_id": "file_01"}}, "The file 'file_01'"),
    "langchain file_id": ({"type": "image", "file_id": "file-1"}, "The file 'file-1'"),
    "bedrock s3": (
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.png"}}}},
        "s3://bucket/a.png: a picture cannot be read from s3://",
    ),
    "google file_uri": ({"type": "media", "mime_type": "image/png", "file_uri": "gs://b/a.png"}, "read from gs://"),
    "google fileData": ({"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}, "read from gs://"),
    "broken base64": ({"type": "image", "base64": "ä", "mime_type": "image/png"}, "holds broken base64"),
    "no picture in it": ({"type": "media", "mime_type": "image/png", "data": "aGVsbG8="}, "not a picture"),
    "a missing file": ({"type": "image", "image": "file:///no/such.png"}, "/no/such.png: no such file"),
    "a private address": ({"type": "input_image", "image_url": "http://10.0.0.1/a.png"}, "not a public address"),
    "a video": ({"type": "video_url", "video_url": {"url": "https://a.example/a.mp4"}}, "type video_url"),
    "bedrock video": ({"video": {"format": "mp4", "source": {"bytes": b"1"}}}, "type video"),
    "google audio": ({"type": "media", "mime_type": "audio/mp3", "data": "aGVsbG8="}, "type media (audio/mp3)"),
    "a document": (
        {"type": "file", "mime_type": "application/pdf", "base64": "aGVsbG8="},
        "type file (application/pdf)",
    ),
    "bedrock document": ({"document": {"format": "pdf", "source": {"bytes": b"1"}}}, "type document"),
}


async def asked(given: Any) -> tuple[list[tuple[int, int]], dict[str, Any]]:
    """The sizes of the pictures that the policy sees, and the final state."""
    context = testing.context([ANSWER], store=ImageStore(local_files=True))
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert state["answer"] == "1987"
    blocks = [block for message in context.policy.seen[0] if message.type == "human" for block in message.content]
    shown = [block for block in blocks if isinstance(block, dict) and block["type"] == "image"]
    sizes = [Image.open(io.BytesIO(base64.b64decode(block["base64"]))).size for block in shown]
    assert sizes == [(picture["width"], picture["height"]) for picture in state["pictures"]]
    assert B64[:200] not in repr(state) and repr(DATA)[2:60] not in repr(state), "a state holds no bytes of a picture"
    return sizes, state


@pytest.mark.parametrize("shape", READ)
async def test_a_picture_of_the_question_is_read(shape: str) -> None:
    sizes, _ = await asked({"messages": [HumanMessage([READ[shape], ASK])]})
    assert sizes == [SIZE]


@pytest.mark.parametrize("shape", READ)
@pytest.mark.parametrize("kind", ["tool", "ai", "system", "human"])
async def test_a_picture_of_another_message_is_read(shape: str, kind: str) -> None:
    message = {
        "tool": ToolMessage([READ[shape]], tool_call_id="1"),
        "ai": AIMessage([READ[shape]]),
        "system": SystemMessage([READ[shape]]),
        "human": HumanMessage([READ[shape], {"type": "text", "text": "Hello"}]),
    }[kind]
    sizes, _ = await asked({"messages": [message, HumanMessage("When?")]})
    assert sizes == [SIZE]


@pytest.mark.parametrize("shape", REFUSED)
async def test_what_cannot_be_read_is_refused_by_name_before_anything_runs(shape: str) -> None:
    block, message = REFUSED[shape]
    context = testing.context(["<answer>never</answer>"], store=ImageStore(local_files=True))
    with pytest.raises(BadInput) as caught:
        await search_agent.graph.ainvoke({"messages": [HumanMessage([block, ASK])]}, context=context)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert context.policy.seen == []


@pytest.mark.parametrize("kind", ["tool", "ai", "system", "human"])
@pytest.mark.parametrize(
    "shape", [shape for shape, (_, why) in REFUSED.items() if not why.startswith("type ")]
)  # media of other kinds are refused only where the question holds them
async def test_a_question_about_a_picture_that_cannot_be_read_is_refused(shape: str, kind: str) -> None:
    block, why = REFUSED[shape]
    message = {
        "tool": ToolMessage([block], tool_call_id="1"),
        "ai": AIMessage([block]),
        "system": SystemMessage([block]),
        "human": HumanMessage([block, ASK]),
    }[kind]
    context = testing.context(["<answer>never</answer>"], store=ImageStore(local_files=True))
    with pytest.raises(BadInput) as caught:
        await search_agent.graph.ainvoke({"messages": [message, HumanMessage("When?")]}, context=context)
    assert why in str(caught.value)


async def test_an_unreadable_picture_costs_a_question_nothing_that_brings_its_own() -> None:
    bad = HumanMessage([{"type": "image", "source": {"type": "file", "file_id": "file_01"}}, ASK])
    sizes, state = await asked({"messages": [bad, AIMessage("1"), HumanMessage([READ["anthropic"], ASK])]})
    assert sizes == [SIZE]
    assert state["messages"][0].content[0]["text"] == question.UNREADABLE


async def test_the_latest_picture_of_the_chat_is_meant_whoever_sent_it() -> None:
    old, new = HumanMessage([{"type": "image", "base64": png(50, 20)}, ASK]), AIMessage([READ["openai generated"]])
    sizes, _ = await asked({"messages": [old, new, HumanMessage("And this?")]})
    assert sizes == [SIZE]


async def test_a_tools_picture_behind_the_question_belongs_to_it() -> None:
    own = HumanMessage([{"type": "image", "base64": png(50, 20)}, ASK])
    tool = ToolMessage([READ["mcp image"]], tool_call_id="1")
    call = AIMessage("", tool_calls=[{"name": "screenshot", "args": {}, "id": "1"}])
    sizes, state = await asked({"messages": [own, call, tool]})
    assert sizes == [(50, 20), SIZE]
    assert [block["type"] for block in state["messages"][0].content] == ["image", "text"], "each stays in its message"


@pytest.mark.parametrize(
    "attached",
    [
        {"images": [B64]},  # Ollama
        {"images": [URI]},
        {"images": [{"type": "image_url", "image_url": {"url": URI}}]},  # OpenRouter
        {"experimental_attachments": [{"name": "a.png", "contentType": "image/png", "url": URI}]},  # AI SDK 4
    ],
)
async def test_pictures_beside_the_content_are_read(attached: dict[str, Any]) -> None:
    sizes, state = await asked({"messages": [{"role": "user", "content": "When?", **attached}]})
    assert sizes == [SIZE]
    assert state["messages"][0].additional_kwargs == {}


@pytest.mark.parametrize("name", ["a.png", "with space.png", "ä.png"])
async def test_a_file_address_is_a_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DATA)
    for block in (
        {"type": "image", "image": (tmp_path / name).as_uri()},
        {"type": "image", "path": str(tmp_path / name)},
    ):
        assert (await asked({"messages": [HumanMessage([block, ASK])]}))[0] == [SIZE]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "wizard", "content": "x"}], [{"role": "tool", "content": "x"}], [5], [{"role": "user"}], [("user",)],
        [{"role": "user", "content": [5]}], {"role": "user", "parts": [ASK]},
    ],
)  # fmt: skip
async def test_what_is_no_message_is_one_line(messages: Any) -> None:
    with pytest.raises(BadInput, match="`messages` holds what is no chat message") as caught:
        await asked({"messages": messages})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "messages",
    [
        [HumanMessage([{"type": "text", "text": 5}])], [HumanMessage([{"type": "text", "text": [ASK]}])],
        [{"role": "assistant", "content": "", "tool_calls": "abc"}, HumanMessage("Why?")],
        [
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "x", "arguments": "[" * 100_000}}]},
            HumanMessage("Why?"),
        ],
    ],
)  # fmt: skip
async def test_odd_parts_of_a_message_are_one_line(messages: Any) -> None:
    with pytest.raises(BadInput) as refused:
        await asked({"messages": messages})
    assert "\n" not in str(refused.value)


async def test_results_within_results_within_results_are_refused() -> None:
    block: dict[str, Any] = dict(READ["mcp image"])
    for _ in range(500):
        block = {"type": "tool_result", "content": [block]}
    with pytest.raises(BadInput, match="tool results within tool results"):
        await asked({"messages": [HumanMessage([block, ASK])]})


# --- question and images


@pytest.mark.parametrize(
    "form", ["path", "string", "bytes", "PIL", "uri", "base64", "block", "tuple", "list", "blocks"]
)
async def test_images_takes_a_lone_picture_in_any_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(DATA)
    images = {
        "path": path, "string": str(path), "bytes": DATA, "PIL": PIL, "uri": URI, "base64": B64, "block": READ["openai"],
        "tuple": (DATA,), "list": [PIL], "blocks": [READ["anthropic"]],
    }[form]  # fmt: skip
    assert (await asked({"question": "When?", "images": images}))[0] == [SIZE]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"question": "?", "image": URI},
            "Unknown input key 'image'; did you mean `images`? (valid: messages, question, images)",
        ),
        ({"question": "?", "picture": URI}, "did you mean `images`?"),
        ({"question": "?", "Images": [URI]}, "did you mean `images`?"),
        ({"query": "?", "images": [URI]}, "Unknown input key 'query'; did you mean `question`?"),
        ({"questions": "?"}, "did you mean `question`?"),
        ({"message": "?"}, "did you mean `messages`?"),
        ({"question": "?", "max_turns": 3}, "Unknown input key 'max_turns' (valid:"),
        ({"question": "?", 5: 3}, "Unknown input key '5' (valid:"),
        ({"question": "?", "images": 5}, "a picture cannot be a int"),
        ({"question": "?", "images": {"text": "x"}}, "`images` holds an object that is no image block"),
        ({"question": "?", "images": "no/such.png"}, "no/such.png: no such file"),
    ],
)
async def test_a_key_or_a_picture_that_is_not_meant_so_is_one_line(given: Any, message: str) -> None:
    context = testing.context(["<answer>never</answer>"], store=ImageStore(local_files=True))
    with pytest.raises(BadInput) as caught:
        await search_agent.graph.ainvoke(given, context=context)
    assert message in str(caught.value)
    assert context.policy.seen == []


async def test_the_output_of_a_graph_may_be_its_input() -> None:
    context = testing.context([ANSWER, ANSWER])
    first = await search_agent.graph.ainvoke({"question": "When?", "images": [DATA]}, context=context)
    again = {**first, "messages": [*first["messages"], HumanMessage("Where?")]}
    second = await search_agent.graph.ainvoke(again, context=context, output_keys=EVERYTHING)
    assert [(picture["width"], picture["height"]) for picture in second["pictures"]] == [SIZE]


class Parent(TypedDict, total=False):
    """A state with keys of its own."""

    question: str
    images: list[Any]
    image: str
    reviewer: str
    answer: str


async def in_parent(**given: Any) -> Any:
    parent = StateGraph(Parent, context_schema=Context)
    parent.add_node("look", search_agent.graph)
    parent.add_edge(START, "look")
    return await parent.compile().ainvoke(given, context=testing.context([ANSWER]))


async def test_a_parents_own_keys_are_its_own() -> None:
    result = await in_parent(question="When?", images=[URI], image="mine", reviewer="me")
    assert result["answer"] == "1987"


async def test_a_parents_picture_under_another_key_is_not_passed_over() -> None:
    with pytest.raises(BadInput, match="did you mean `images`"):
        await in_parent(question="When?", image=URI)


# --- no picture


@pytest.mark.parametrize("graph", [search_agent.graph, direct.graph])
async def test_a_question_without_a_picture_says_so_to_the_policy(graph: Any) -> None:
    context = testing.context([ANSWER, ANSWER])
    state = await graph.ainvoke({"question": "When?"}, context=context, output_keys=EVERYTHING)
    assert (state["answer"], state["asked"], state["messages"][0].text) == ("1987", "When?", "When?")
    assert NO_PICTURE in context.policy.seen[0][-1].text
    await graph.ainvoke({"question": "When?", "images": [DATA]}, context=context)
    assert NO_PICTURE not in context.policy.seen[1][-1].text


async def test_a_follow_up_about_the_threads_picture_is_not_told_otherwise() -> None:
    context = testing.context([ANSWER, ANSWER])
    graph, thread = search_agent.build(InMemorySaver()), {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"question": "When?", "images": [DATA]}, thread, context=context)
    await graph.ainvoke({"question": "Where?"}, thread, context=context)
    assert NO_PICTURE not in context.policy.seen[1][-1].text


@pytest.mark.parametrize("graph", [search_agent.graph, direct.graph])
async def test_the_pocket_policy_is_not_asked_about_no_picture_and_the_user_is_told(graph: Any) -> None:
    result = await graph.ainvoke({"question": "What is the capital of France?"}, context=Context(policy=LightPolicy()))
    assert (result["answer"], result["stop_reason"]) == (None, "no_picture")
    assert "no picture came with the question" in result["messages"][-1].text
    assert result["steps"][-1]["error"] == f"no_picture: {ABOUT_PICTURES}"
