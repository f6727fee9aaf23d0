"""The HTTP policy against each kind of server; the fixture `chat_server` says where its formats were read."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.dialects.table import build as build_dialect
from lensgraph.agent.policy import PolicyError, build
from lensgraph.agent.policy.light.policy import LightPolicy
from lensgraph.agent.policy.server import tries as policy_retry
from lensgraph.agent.policy.server.completion import Completion
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy
from lensgraph.agent.policy.shorten import LEFT_OUT
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import search_agent
from lensgraph.graphs.program.show import Show
from lensgraph.tools.results import Hit

KINDS = ["vllm", "sglang", "llama_cpp", "transformers"]
STOPS = ["</answer>", "</text_search>", "</img_search>"]
SAID = "<reason>r</reason><answer>1987</answer>"
Start = Callable[..., Any]


def policy(server: Any, **fields: Any) -> OpenAICompatiblePolicy:
    return OpenAICompatiblePolicy(model="m", base_url=server.url, **{"retries": 0, "timeout": 20, **fields})


async def streamed(
    one: OpenAICompatiblePolicy, messages: Any, **given: Any
) -> tuple[list[AIMessageChunk], AIMessageChunk]:
    chunks = [chunk async for chunk in one.astream(messages, **given)]
    full = chunks[0]
    for chunk in chunks[1:]:
        full = full + chunk
    return chunks, full


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_ends_with_the_tag_that_ends_it(chat_server: Start, kind: str) -> None:
    server = chat_server(kind)
    reply = await policy(server, stop=STOPS[:1]).ainvoke("hi", stop=STOPS[1:])
    _, full = await streamed(policy(server, stop=STOPS), "hi")
    assert reply.content == full.content == SAID
    assert [sorted(body["stop"]) for body in server.requests] == [sorted(STOPS)] * 2
    own = {"vllm": "include_stop_str_in_output", "sglang": "no_stop_trim"}
    for body in server.requests:
        assert [name for name in own.values() if body.get(name)] == [own[name] for name in own if name == kind]
    if kind == "transformers":
        assert all(set(body) <= server.OPENAI - {"logprobs"} for body in server.requests)


@pytest.mark.parametrize("kind", KINDS)
async def test_other_stop_strings_are_cut_off_as_langchain_has_it(chat_server: Start, kind: str) -> None:
    server = chat_server(kind)
    server.says = "one two three"
    reply = await policy(server).ainvoke("hi", stop=[" two"])
    _, full = await streamed(policy(server), "hi", stop=[" two"])
    assert reply.content == full.content == "one"  # also where the server always keeps it
    assert "token_ids" not in full.response_metadata or kind == "vllm"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("says", "content"),
    [
        ("<reason>I look it up.\nObservation: a lighthouse", "<reason>I look it up."),
        ("<reason>r</reason><answer>1987</answer> and more", "<reason>r</reason>"),
    ],
)
async def test_a_text_that_ends_a_turn_closes_no_tag(chat_server: Start, kind: str, says: str, content: str) -> None:
    """llama.cpp trims the stop string and does not say which of them it met."""
    server = chat_server(kind)
    server.says = says
    stops = ["</reason>", "\nObservation:"]
    reply = await policy(server).ainvoke("hi", stop=stops)
    _, full = await streamed(policy(server), "hi", stop=stops)
    assert reply.content == full.content == content
    told = stops if kind in ("vllm", "sglang") else stops[:1]
    assert [body["stop"] for body in server.requests] == [told, told]


@pytest.mark.parametrize(
    ("text", "matched", "finish", "missing"),
    [
        ("<answer>x", None, "stop", "</answer>"),
        ("<answer>x</answer>", None, "stop", ""),
        ("<reason>say <answer>a</answer></reason><text_search>q", None, "stop", "</text_search>"),
        ("<answer>x", None, "length", ""),
        ("nothing open", None, "stop", ""),
        ("odd", "</answer>", "stop", "</answer>"),
        ("<answer>x</answer>", "</answer>", "stop", ""),
        ("plain", "you", "stop", ""),
    ],
)
def test_a_tag_that_a_server_cut_off_is_put_back(text: str, matched: str | None, finish: str, missing: str) -> None:
    assert Completion(text=text, matched=matched, finish=finish).missing_stop([*STOPS, "you"]) == missing


@pytest.mark.parametrize(
    ("kind", "told"), [("vllm", True), ("llama_cpp", True), ("sglang", False), ("transformers", False)]
)
async def test_sampled_ids_come_with_their_log_probabilities(chat_server: Start, kind: str, told: bool) -> None:
    server = chat_server(kind)
    server.says = "hello"
    reply = await policy(server).ainvoke("hi")
    chunks, full = await streamed(policy(server), "hi")
    for message in (reply, full):
        complete = told and not (kind == "llama_cpp" and message is full)  # it leaves the last id out of a stream
        assert ("token_ids" in message.response_metadata) == ("logprobs" in message.response_metadata) == complete
        if complete:  # the end of the turn is among them, as the rollout wants it
            assert message.response_metadata["token_ids"] == [*map(ord, "hello"), server.END]
            assert message.response_metadata["logprobs"] == [-0.5] * 6
        assert message.usage_metadata == {"input_tokens": 7, "output_tokens": 6, "total_tokens": 13}
        assert message.response_metadata["model_name"] == "m"
        assert message.response_metadata["finish_reason"] == "stop"
    assert [chunk.content for chunk in chunks] == ["hello", ""]
    assert sum(bool(chunk.usage_metadata) for chunk in chunks) == 1
    assert chunks[-1].chunk_position == "last"


def answer(ids: int, counted: int) -> bytes:
    """llama.cpp's answer with so many ids and so many tokens in its usage."""
    tokens = [{"id": 40 + n, "token": "x", "bytes": [], "logprob": -0.5, "top_logprobs": []} for n in range(ids)]
    choice = {"finish_reason": "stop", "index": 0, "message": {"content": "x"}, "logprobs": {"content": tokens}}
    usage = {"completion_tokens": counted, "prompt_tokens": 49, "total_tokens": 49 + counted}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.mark.contract
@pytest.mark.parametrize(("ids", "counted", "kept"), [(11, 11, True), (10, 11, False), (19, 20, False), (3, 0, False)])
async def test_ids_that_are_not_all_of_the_turn_are_not_kept(
    chat_server: Start, ids: int, counted: int, kept: bool
) -> None:
    """llama.cpp told 10 ids of 11 where a stop string ended the turn, and 19 of 20 in a stream."""
    server = chat_server("llama_cpp")
    server.raw = [answer(ids, counted)]
    reply = await policy(server).ainvoke("hi")
    assert ("token_ids" in reply.response_metadata) == ("logprobs" in reply.response_metadata) == kept


def look() -> HumanMessage:
    return HumanMessage(
        [{"type": "image", "base64": "QUJD", "mime_type": "image/png"}, {"type": "text", "text": "what?"}]
    )


@pytest.mark.parametrize("kind", ["sglang", "transformers"])
@pytest.mark.parametrize("streams", [False, True])
async def test_a_server_that_drops_the_pictures_is_refused(chat_server: Start, kind: str, streams: bool) -> None:
    """`transformers serve` drops them where AutoProcessor does not know the checkpoint's processor."""
    server = chat_server(kind)
    server.blind = True
    one = policy(server)
    for _ in range(2):
        with pytest.raises(
            PolicyError, match=r"does not see the pictures: a prompt had 7 tokens .* and 7 without; serve"
        ):
            await (streamed(one, [look()]) if streams else one.ainvoke([look()]))
    assert [(body["max_tokens"], body.get("stream")) for body in server.counted] == [(1, None)]
    assert server.counted[0]["messages"][0]["content"] == [{"type": "text", "text": "what?"}]
    assert (await policy(server, counts_pictures=False).ainvoke([look()])).content
    assert (await one.ainvoke("no picture")).content


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_shows_the_pictures_is_counted_once(chat_server: Start, kind: str) -> None:
    server = chat_server(kind)
    one = policy(server)
    for _ in range(2):
        await one.ainvoke([look()])
    assert len(server.requests) == 2
    assert len(server.counted) == (0 if kind in ("vllm", "llama_cpp") else 1)  # these refuse what they cannot show


async def test_a_prompt_of_fewer_tokens_than_pictures_is_refused_whoever_answers(chat_server: Start) -> None:
    server = chat_server("vllm")
    server.blind = True
    with pytest.raises(PolicyError, match="7 tokens and 8 pictures"):
        await policy(server).ainvoke([look()] * 8)


async def test_a_server_that_refuses_to_be_counted_goes_on(chat_server: Start) -> None:
    server = chat_server("transformers")
    server.refuses_to_count = True
    assert (await policy(server).ainvoke([look()])).content


async def test_what_the_server_is_is_asked_again_when_its_first_answer_was_a_passing_failure(
    chat_server: Start,
) -> None:
    """A proxy before a server that is starting answers 503; a server that says 404 has no list of models."""
    server = chat_server("vllm")
    server.loading = 1  # of the list of models
    one = policy(server, start_wait=0)
    first, second = await one.ainvoke("hi"), await one.ainvoke("hi")
    assert "token_ids" not in first.response_metadata
    assert "token_ids" in second.response_metadata


async def test_a_server_without_a_list_of_models_is_asked_for_it_once(
    chat_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = chat_server("vllm")
    asked: list[int] = []

    def no_list(handler: Any) -> None:
        asked.append(1)
        handler.reply(404, {})

    monkeypatch.setattr(server.http.RequestHandlerClass, "do_GET", no_list)
    one = policy(server)
    for _ in range(2):
        assert "token_ids" not in (await one.ainvoke("hi")).response_metadata
    assert len(asked) == 1


async def test_ids_are_not_asked_for_when_nobody_wants_them(chat_server: Start) -> None:
    server = chat_server("vllm")
    reply = await policy(server, token_ids=False).ainvoke("hi")
    assert "token_ids" not in reply.response_metadata
    assert not {"return_token_ids", "logprobs"} & set(server.requests[0])


def picture(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "image", "id": name, "base64": "QUJD", "mime_type": "image/png", **more}


def dialogue() -> list[BaseMessage]:
    """A question with its picture, and an observation with three thumbnails."""
    thumbnails = [picture(f"t{n}", thumbnail=True) for n in range(3)]
    return [HumanMessage([picture("question"), {"type": "text", "text": "what?"}]), HumanMessage(list(thumbnails))]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama_cpp"])
async def test_the_oldest_thumbnails_go_first_when_the_context_is_full(
    chat_server: Start, kind: str, streams: bool
) -> None:
    server = chat_server(kind)
    server.pictures_that_fit = 2
    messages = dialogue()
    reply = (await streamed(policy(server), messages))[1] if streams else await policy(server).ainvoke(messages)
    assert reply.response_metadata["left_out"] == ["t0", "t1"]
    sent = server.requests[-1]["messages"]
    assert [part["type"] for part in sent[0]["content"]] == ["image_url", "text"]
    assert [part.get("text") for part in sent[1]["content"]] == [LEFT_OUT, LEFT_OUT, None]
    assert len(server.requests) == 3
    assert messages == dialogue()


async def test_a_context_that_is_too_short_for_the_question_is_named_with_its_fix(chat_server: Start) -> None:
    server = chat_server("vllm")
    server.pictures_that_fit = 0
    with pytest.raises(PolicyError, match=r"maximum context length is 4096 .*--max-model-len"):
        await policy(server).ainvoke(dialogue())


async def test_the_trajectory_says_which_thumbnails_were_left_out(chat_server: Start, capsys: Any) -> None:
    server = chat_server("vllm")
    turns = ["<reason>r</reason><search><img></search>", SAID]
    server.says = lambda body: turns[sum(m["role"] == "assistant" for m in body["messages"])]
    server.pictures_that_fit = 2
    shown = [Hit(title=f"page {n}", url=f"https://example.org/{n}", thumbnail=png(n)) for n in range(3)]
    context = testing.context(
        [], dialect="mmsearch_r1", policy=policy(server), image_search=testing.FixedImage(hits=shown)
    )
    given = {"question": "When?", "images": [Image.new("RGB", (30, 30))]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    thumbnails = [b["id"] for b in state["dialogue"][2].content if b["type"] == "image"]
    assert state["answer"] == "1987"
    assert [step.get("left_out") for step in state["steps"]] == [None, None, thumbnails[:2]]
    Show().step(state["steps"][2])
    assert "2 thumbnails left out" in capsys.readouterr().out
    rollout = pytest.importorskip("lensgraph.rl.rollout.episode", reason="the record of a trajectory")
    steps = rollout.steps_of(state, [])
    assert [len(step.left_out) for step in steps] == [0, 0, 2]


REFUSALS = {
    # vLLM: three ages of `entrypoints/openai/serving_engine.py` and its processor (issues 12165 and 20409 of vllm,
    # 128 of linagora/openrag, 5 of XiaomiMiMo/MiMo-Embodied), and --limit-mm-per-prompt
    "vllm, texts": (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you "
        "requested 19591 tokens (9591 in the messages, 10000 in the completion). Please reduce the length of the messages or "
        "completion. None", "type": "BadRequestError", "param": None, "code": 400}),
    "vllm, pictures": (400, {"error": {"message": "The decoder prompt (length 42781) is longer than the maximum model length "
        "of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
        "type": "BadRequestError", "param": None, "code": 400}}),
    "vllm, older": (400, {"object": "error", "message": "The prompt (total length 25938) is too long to fit into the model "
        "(context length 4096). Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal "
        "tokens.", "type": "BadRequestError", "param": None, "code": 400}),
    "vllm, count of pictures": (400, {"error": {"message": "At most 1 image(s) may be provided in one prompt.",
        "type": "BadRequestError", "param": None, "code": 400}}),
    # SGLang: `managers/tokenizer_manager.py` (issue 8096 of sglang, 1321 of Qwen3)
    "sglang": (400, {"object": "error", "message": "The input (61709 tokens) is longer than the model's context length (4096 "
        "tokens).", "type": "BadRequestError", "param": None, "code": 400}),
    # llama.cpp: pull request 15780; textgen issue 7257 saw the same without the status
    "llama_cpp": (400, {"error": {"code": 400, "message": "the request exceeds the available context size. try increasing the "
        "context size or enable context shift", "type": "exceed_context_size_error", "n_prompt_tokens": 14429, "n_ctx": 4096}}),
    "llama_cpp, status 500": (500, {"error": {"code": 500, "message": "the request exceeds the available context size. try "
        "increasing the context size or enable context shift", "type": "exceed_context_size_error"}}),
    "llama_cpp, status 200": (200, {"error": {"code": 400, "message": "the request exceeds the available context size. try "
        "increasing the context size or enable context shift", "type": "exceed_context_size_error"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_text_that_does_not_fit_ends_with_a_reason_and_says_what_was_dropped(
    chat_server: Start, name: str, streams: bool
) -> None:
    """All thumbnails go first; then the question ends with `token_limit`, and the graph raises nothing."""
    server = chat_server(name.partition(",")[0])
    status, body = REFUSALS[name]
    server.refuses = (status, json.dumps(body).encode())
    if streams and status == 200:
        server.refuses = (200, b"error: " + json.dumps(body["error"]).encode() + b"\n\n")
    turns = ["<reason>r</reason><search><img></search>", SAID]
    server.says = lambda body: turns[sum(m["role"] == "assistant" for m in body["messages"])]
    shown = [Hit(title=f"page {n} {'x' * 150}", url=f"https://example.org/{n}", thumbnail=png(n)) for n in range(3)]
    context = testing.context(
        [], dialect="mmsearch_r1", policy=policy(server, streaming=streams), image_search=testing.FixedImage(hits=shown)
    )
    opening = "".join(block.get("text", "") for block in build_dialect("mmsearch_r1").first("When?", ["x"])[0].content)
    server.characters_that_fit = len(opening) + 100
    given = {"question": "When?", "images": [Image.new("RGB", (30, 30))]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    first, _, last = state["steps"]
    assert not first.get("error"), "the first prompt fits"
    thumbnails = [b["id"] for b in state["dialogue"][2].content if b["type"] == "image"]
    assert (state["stop_reason"], state["answer"]) == ("token_limit", None)
    assert last["left_out"] == thumbnails
    assert last["error"].startswith("context_full: http://127.0.0.1")
    assert "nothing is left to leave out: serve with a longer context (--max-model-len)" in last["error"]
    assert "\n" not in last["error"]
    assert state["messages"][-1].content == "I have no answer within the allowed tokens."


async def test_a_question_that_does_not_fit_alone_ends_with_the_same_reason(chat_server: Start) -> None:
    server = chat_server("sglang")
    server.characters_that_fit = 0
    context = testing.context([], dialect="mmsearch_r1", policy=policy(server))
    state = await search_agent.graph.ainvoke({"question": "When?"}, context=context)
    assert state["stop_reason"] == "token_limit"
    assert len(server.requests) == 1
    assert "left_out" not in state["steps"][0]


async def test_the_embedded_policys_context_ends_a_question_in_the_same_way() -> None:
    """A byte-level tokenizer takes three tokens for a character like this one: 23,000 for a context of 4,096."""
    context = testing.context([], policy=LightPolicy())
    state = await search_agent.graph.ainvoke({"question": "\u65d7" * 7900, "images": [png(1)]}, context=context)
    assert (state["stop_reason"], state["answer"]) == ("token_limit", None)
    assert "ask a shorter question" in state["steps"][0]["error"]


def png(shade: int) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (shade * 40, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["llama_cpp", "vllm"])
async def test_a_server_that_is_loading_is_waited_for(chat_server: Start, kind: str) -> None:
    server = chat_server(kind)
    server.loading = 1
    assert (await policy(server, start_wait=15).ainvoke("hi")).content.startswith(SAID)


async def test_a_server_that_loads_for_too_long_is_said_to_be_loading(chat_server: Start) -> None:
    server = chat_server("llama_cpp")
    server.loading = 1000
    with pytest.raises(PolicyError, match=r"still loading its model after 0.2 s \(policy.options.start_wait\)"):
        await policy(server, start_wait=0.2).ainvoke("hi")


async def test_a_server_that_starts_late_is_waited_for(chat_server: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threading.Timer(0.5, lambda: chat_server("vllm", port)).start()
    one = OpenAICompatiblePolicy(model="m", base_url=f"http://127.0.0.1:{port}/v1", retries=0, start_wait=60)
    assert (await one.ainvoke("hi")).content.startswith(SAID)


async def test_no_more_requests_are_on_their_way_than_allowed(chat_server: Start) -> None:
    server = chat_server("vllm")
    server.delay = 0.05
    one = policy(server, concurrency=3)
    await asyncio.gather(*(one.ainvoke("hi") for _ in range(12)))
    assert server.most_in_flight == 3
    assert len(server.requests) == 12


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"[]", b"7", b"{}", b'{"choices": 7}', b'{"choices": [7]}', b'{"choices": [{"message": 7}]}',
        b'{"choices": [{"message": {"content": 5}}]}', b'{"choices": [{"message": {"content": [5]}}]}', b"\xff\xfe", b"",
        b"[" * 100_000, b'{"a":' * 100_000, b'{"choices": [{"message": {"content": ' + b"[" * 900 + b"]" * 900 + b"}}]}",
    ],
)  # fmt: skip
async def test_garbage_is_a_failure_of_the_policy_in_one_line(chat_server: Start, body: bytes) -> None:
    server = chat_server("transformers")
    server.raw = [body]
    with pytest.raises(PolicyError, match="no chat completion") as caught:
        await policy(server).ainvoke("hi")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "beside",
    [
        {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"logprob": "high"}]}}]},
        {
            "choices": [
                {"message": {"content": "x"}, "token_ids": [5, None], "logprobs": {"content": [{"logprob": None}] * 2}}
            ]
        },
        {"choices": [{"message": {"content": "x"}, "logprobs": 7, "finish_reason": ["stop"]}]},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}, "error": None},
        {"choices": [{"message": {"content": "x"}}], "usage": 5},
    ],
)
async def test_what_stands_beside_a_turn_costs_no_turn(chat_server: Start, beside: dict[str, Any]) -> None:
    """Ids and log-probabilities that do not fit are dropped, counts that are none are unknown."""
    server = chat_server("vllm")
    server.raw = [json.dumps(beside).encode()]
    reply = await policy(server).ainvoke("hi")
    assert (reply.content, reply.usage_metadata) == ("x", None)
    assert "token_ids" not in reply.response_metadata


NAN = b'{"choices": [{"message": {"content": "x"}, "token_ids": [1], "logprobs": {"content": [{"logprob": NaN}]}}]}'


async def test_numbers_that_are_none_are_read(chat_server: Start) -> None:
    server = chat_server("vllm")
    server.raw = [NAN, NAN.replace(b"NaN", b"-1e999"), NAN.replace(b"[1]", b"[" + b"9" * 5000 + b"]")]
    for _ in range(3):
        reply = await policy(server).ainvoke("hi")
        assert reply.content == "x" and "token_ids" not in reply.response_metadata


ENDINGS = {
    "no reason, then the end": [{"choices": [{"delta": {"content": "<answer>x"}}]}, "[DONE]"],
    "null beside it": [
        {"error": None, "choices": [{"delta": {"content": "<answer>x"}, "finish_reason": "stop"}]},
        {"choices": None, "error": None, "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ],
    "a token without a log-probability": [
        {"choices": [{"delta": {"content": "<answer>"}, "token_ids": [1], "logprobs": {"content": [{"logprob": -1}]}}]},
        {"choices": [{"delta": {"content": "x"}, "token_ids": [2], "logprobs": {"content": [{"logprob": None}]}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ],
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_finished_stream_is_a_turn(chat_server: Start, name: str) -> None:
    server = chat_server("transformers")
    events = [event if isinstance(event, str) else json.dumps(event) for event in ENDINGS[name]]
    server.raw = ["".join(f"data: {event}\n\n" for event in events).encode()]
    _, full = await streamed(policy(server, stop=["</answer>"]), "hi")
    assert full.content == "<answer>x</answer>"
    assert "token_ids" not in full.response_metadata


@pytest.mark.parametrize(
    ("message", "finish", "told"),
    [
        ({"content": None, "reasoning_content": "I think that"}, "stop", "all of the turn is reasoning; raise"),
        ({"content": "The ans"}, "length", "the turn is longer than it may be; raise policy.max_new_tokens"),
        ({"content": ""}, "content_filter", "the server's content filter stopped it; ask in other words"),
    ],
)
async def test_an_unreadable_turn_says_why_and_what_to_change(
    chat_server: Start, message: dict[str, Any], finish: str, told: str
) -> None:
    server = chat_server("transformers")
    server.raw = [json.dumps({"choices": [{"message": message, "finish_reason": finish}]}).encode()]
    context = testing.context([], policy=policy(server))
    result = await search_agent.graph.ainvoke(
        {"question": "?", "images": [Image.new("RGB", (40, 32))]}, context=context
    )
    assert result["stop_reason"] == "malformed"
    assert told in result["messages"][-1].content
    assert told in result["steps"][-1]["action"]["reason"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "ended in the middle of the turn"),
        (b'data: {"error": {"message": "engine died", "code": 500}}\n\n', "broke off: engine died"),  # vLLM
        (b'data: {"error": "CUDA out of memory"}\n\n', "broke off: CUDA out of memory"),  # transformers
        (b"data: {nonsense\n\n", "no chat completion"),
        (b"<html>", "ended in the middle of the turn"),
    ],
)
async def test_a_stream_that_breaks_off_is_a_failure(chat_server: Start, body: bytes, message: str) -> None:
    server = chat_server("vllm")
    server.raw = [body]
    with pytest.raises(PolicyError, match=message):
        await streamed(policy(server), "hi")


async def test_lines_of_a_stream_end_where_sse_says(chat_server: Start) -> None:
    """U+2028 is a line end to Python and a letter to JSON; comments and blank lines are no events."""
    server = chat_server("vllm")
    event = json.dumps(
        {"choices": [{"delta": {"content": "a\u2028b\x85c"}, "finish_reason": "stop"}]}, ensure_ascii=False
    )
    server.raw = [f": ping\r\n\r\ndata: {event}\r\n\r\ndata: [DONE]".encode()]
    assert (await streamed(policy(server), "hi"))[1].content == "a\u2028b\x85c"


async def test_a_server_that_never_answers_costs_the_timeout(chat_server: Start) -> None:
    server = chat_server("vllm")
    one = policy(server, timeout=0.5)
    await one.ainvoke("warm")
    server.delay = 5.0
    began = time.monotonic()
    with pytest.raises(PolicyError, match=r"no turn within 0.5 s \(policy.timeout\)"):
        await one.ainvoke("hi")
    assert time.monotonic() - began < 4.5


def test_streaming_works_without_an_event_loop(chat_server: Start) -> None:
    server = chat_server("vllm")
    chunks = list(policy(server).stream("hi", stop=STOPS))
    assert "".join(str(chunk.content) for chunk in chunks) == SAID
    assert len(chunks) > 3


async def test_a_reader_may_leave_in_the_middle_of_a_stream(chat_server: Start) -> None:
    server = chat_server("vllm")
    one = policy(server, concurrency=1)
    async for chunk in one.astream("hi"):
        assert chunk.content
        break
    await asyncio.sleep(0)
    assert (await asyncio.wait_for(one.ainvoke("again"), 20)).content  # the place is free again


async def test_keys_are_sent_and_never_shown(chat_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = chat_server("vllm")
    one = policy(server, api_key="s3cret-s3cret")
    await one.ainvoke("hi")
    assert server.headers[0]["Authorization"] == "Bearer s3cret-s3cret"
    assert "s3cret" not in repr(one) + str(one._identifying_params)
    with pytest.raises(ConfigError, match=r"a key is no setting; export it and name its variable: policy.api_key_env"):
        build(PolicyConfig(kind="openai_compatible", model="m", options={"api_key": "s3cret"}))


async def test_an_address_of_a_picture_is_not_handed_to_the_server(chat_server: Start) -> None:
    server = chat_server("vllm")
    for block in (
        {"type": "image", "url": "http://10.0.0.1/x"},
        {"type": "image_url", "image_url": {"url": "http://x"}},
    ):
        with pytest.raises(ValueError, match="a picture goes to the policy as bytes"):
            await policy(server).ainvoke([HumanMessage([block])])
    assert server.requests == []


async def test_the_reasoning_of_a_server_stays_beside_the_turn(chat_server: Start) -> None:
    server = chat_server("vllm")
    deltas = [{"reasoning": "hm "}, {"reasoning_content": "well"}, {"content": "yes"}]
    events = [{"choices": [{"delta": delta}]} for delta in deltas] + [
        {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    ]
    server.raw = [b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)]
    full = (await streamed(policy(server), "hi"))[1]
    assert (full.content, full.additional_kwargs) == ("yes", {"reasoning_content": "hm well"})
    assert full.usage_metadata is None


# --- the first look at the list of models


class Models:
    """A server that plays `answers` to the looks at its models, one a look: `hangs`, `half` of a body, or a whole one; the
    last one again and again. Its turns are whole."""

    CARDS = b'{"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "vllm"}]}'
    TURN = b'{"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}'

    def __init__(self, *answers: str) -> None:
        self.answers, self.looks = list(answers), 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        played, body = "whole", self.TURN
        if head.startswith(b"GET"):
            self.looks += 1
            played, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], self.CARDS
        if played == "hangs":
            await reader.read()  # until the client gives up
        else:
            sent = body if played == "whole" else body[:20]
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), sent))
            await writer.drain()
        writer.close()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def listening(models: Models, **fields: Any) -> AsyncIterator[OpenAICompatiblePolicy]:
    listener = await asyncio.start_server(models.serve, "127.0.0.1", 0)
    made = OpenAICompatiblePolicy(
        model="m", base_url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", **{"retries": 0, **fields}
    )
    try:
        yield made
    finally:
        await made.aclose()
        listener.close()


async def test_those_who_wait_for_the_list_of_models_share_one_look_and_its_failure() -> None:
    """32 at once wait one timeout, not 32; who comes later looks anew."""
    models = Models("hangs", "whole")
    async with listening(models, timeout=0.5) as one:
        began = time.monotonic()
        made = await asyncio.gather(*(one.ainvoke("hi") for _ in range(32)), return_exceptions=True)
        assert time.monotonic() - began < 3
        assert all(isinstance(error, PolicyError) and "no turn within 0.5 s" in str(error) for error in made)
        assert models.looks == 1
        assert (await one.ainvoke("hi")).content == "hi"
        assert models.looks == 2


async def test_who_gives_up_waiting_leaves_the_look_to_the_others() -> None:
    models = Models("hangs", "whole")
    async with listening(models, timeout=0.5, retries=1) as one:
        first, second = (asyncio.create_task(one.ainvoke("hi")) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        assert (await second).content == "hi"
        assert first.cancelled() and models.looks == 2


@pytest.mark.parametrize("ask", ["ainvoke", "astream"])
async def test_a_list_of_models_that_breaks_off_is_asked_for_again(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_retry, "FIRST_WAIT", 0.01)
    models = Models("half", "half", "whole")
    async with listening(models, retries=2) as one:
        assert (await one.ainvoke("hi")).content == "hi"
    assert models.looks == 3
    models = Models("half")
    async with listening(models, retries=1) as one:
        with pytest.raises(PolicyError, match=r"the answer broke off .*\(tried 2 times\)"):
            await one.ainvoke("hi") if ask == "ainvoke" else await streamed(one, "hi")
    assert models.looks == 2
