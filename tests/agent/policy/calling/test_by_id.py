"""Any chat model is called with picture ids; what is its own in the call stays its own."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from PIL import Image

from lensgraph import search_agent
from lensgraph.agent import testing
from lensgraph.agent.config import load_config
from lensgraph.agent.policy.calling.by_id import ByIdPolicy
from lensgraph.agent.state import EVERYTHING

ASKED = {"question": "What is it?", "images": [Image.new("RGB", (64, 48), "teal")]}
TURNS = ["<img_search>the tower</img_search>", "<answer>1987</answer>"]


class Foreign(BaseChatModel):
    """A chat model as a user writes one: it streams, counts tokens, and names itself."""

    turns: list[str] = TURNS
    model: str = "org/other-7b"
    seen: list[list[BaseMessage]] = []
    stops: list[Any] = []

    @property
    def _llm_type(self) -> str:
        return "foreign"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "acme", "ls_model_name": self.model, "ls_model_type": "chat"}

    def _reply(self, messages: list[BaseMessage], stop: Any) -> str:
        self.seen.append(messages)
        self.stops.append(stop)
        return self.turns[sum(isinstance(message, AIMessage) for message in messages)]

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        message = AIMessage(
            self._reply(messages, stop),
            id="its-own",
            usage_metadata=usage,
            response_metadata={"token_ids": [5, 6], "logprobs": [-0.5, -0.25], "price": 0.125},
        )
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": self.model})

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> Iterator[ChatGenerationChunk]:
        for letter in self._reply(messages, stop):
            yield ChatGenerationChunk(message=AIMessageChunk(content=letter))


class Nested(Foreign):
    """A chat model that asks another one, as routers and judges do."""

    asked: Any = None

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        get_stream_writer()("still inside the graph")
        return ChatResult(generations=[ChatGeneration(message=await self.asked.ainvoke(messages, stop=stop))])


class Watch(BaseCallbackHandler):
    """Keeps what callbacks are told about calls of chat models."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.ends: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **told: Any) -> None:
        self.calls.append({"serialized": serialized, "messages": messages[0], **told})

    def on_llm_end(self, response: Any, **told: Any) -> None:
        self.ends.append(response)


def run(policy: BaseChatModel, watch: Watch | None = None, **given: Any) -> dict[str, Any]:
    """Ask with this policy."""
    config: Any = {"callbacks": [watch]} if watch else None
    context = testing.context([], policy=policy, **given)
    return asyncio.run(search_agent.graph.ainvoke(ASKED, config, context=context, output_keys=EVERYTHING))


def pictures(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    """The blocks with pictures."""
    blocks = [b for m in messages if isinstance(m, HumanMessage) and not isinstance(m.content, str) for b in m.content]
    return [block for block in blocks if isinstance(block, dict) and block["type"] != "text"]


def test_callbacks_are_told_ids_and_facts_and_the_model_sees_the_pictures() -> None:
    policy, watch = Foreign(), Watch()
    state = run(policy, watch)
    original, crop = pictures(watch.calls[1]["messages"])
    record = state["pictures"][0]
    assert original == {
        "type": "picture", "id": record["id"], "width": 64, "height": 48, "mime_type": "image/png",
    }  # fmt: skip
    assert (crop["box"], crop["parent"]) == ([8, 8, 24, 24], record["id"])
    shown = pictures(policy.seen[1])
    assert [set(block) for block in shown] == [{"type", "id", "base64", "mime_type"}] * 2
    assert Image.open(io.BytesIO(base64.b64decode(shown[1]["base64"]))).size == (16, 16)
    assert {block["type"] for block in pictures(state["dialogue"])} == {"image"}, "the dialogue keeps its own form"


def test_the_run_of_a_call_is_the_models_own() -> None:
    policy, watch = Foreign(tags=["mine"], metadata={"team": "a"}), Watch()
    state = run(policy, watch)
    first = watch.calls[0]
    assert first["name"] == "chat other-7b"
    assert first["serialized"] == policy._serialized
    assert "mine" in first["tags"]
    metadata = first["metadata"]
    assert (metadata["team"], metadata["turn"], metadata["ls_provider"]) == ("a", 1, "acme")
    assert (metadata["langgraph_node"], watch.calls[1]["metadata"]["turn"]) == ("reason", 2)
    assert metadata["price"] == 0.125, "known once the call has ended"
    assert watch.ends[0].llm_output == {"model_name": "org/other-7b"}
    reply = next(message for message in state["dialogue"] if isinstance(message, AIMessage))
    assert (reply.id, reply.usage_metadata["input_tokens"]) == ("its-own", 7)
    assert reply.response_metadata["token_ids"] == [5, 6]
    assert state["usage"]["price"]["reason"] == 0.25


def test_tokens_cost_what_the_settings_say_where_the_reply_names_no_price() -> None:
    """7 and 3 tokens a turn, two turns; a limit of the price ends the question."""

    class Silent(Foreign):
        def _generate(self, *given: Any, **named: Any) -> ChatResult:
            result = super()._generate(*given, **named)
            del result.generations[0].message.response_metadata["price"]
            return result

    prices = ["policy.price_in=1000000", "policy.price_out=2000000"]
    watch, config = Watch(), load_config(overrides=prices, environ={})
    state = run(Silent(), watch, config=config)
    assert state["usage"]["price"]["reason"] == 2 * (7 + 2 * 3)
    assert watch.calls[0]["metadata"]["price"] == 13.0
    assert run(Foreign(), config=config)["usage"]["price"]["reason"] == 0.25, "a reply's own price comes first"
    limited = load_config(overrides=[*prices, "limits.price=12"], environ={})
    assert run(Silent(), config=limited)["stop_reason"] == "price_limit"
    free = load_config(overrides=[*prices, "limits.price=0"], environ={})
    state = run(Silent(), config=free)
    assert (state["stop_reason"], state["usage"]["price"]["reason"]) == ("price_limit", 0.0), "nothing was asked"


def test_a_model_that_streams_is_streamed_for_callbacks_that_want_tokens() -> None:
    async def tokens() -> AsyncIterator[str]:
        graph, context = search_agent.graph, testing.context([], policy=Foreign())
        async for event in graph.astream_events(ASKED, context=context, version="v2"):
            if event["event"] == "on_chat_model_stream":
                yield str(event["data"]["chunk"].text)

    async def collected() -> list[str]:
        return [token async for token in tokens()]

    pieces = asyncio.run(collected())
    assert "".join(pieces) == "".join(TURNS)
    assert len(pieces) > 20


def test_a_model_asked_inside_another_is_not_traced_and_stays_in_the_graph() -> None:
    inner, watch, told = Foreign(), Watch(), []
    context = testing.context([], policy=Nested(asked=inner, disable_streaming=True))
    for piece in search_agent.graph.stream(ASKED, {"callbacks": [watch]}, context=context, stream_mode="custom"):
        told.append(piece)
    assert len(inner.seen) == 2
    assert len(watch.calls) == 2, "the calls of the outer model only"
    assert told.count("still inside the graph") == 2


def test_every_way_to_call_fills_the_pictures_in() -> None:
    async def fill(messages: Any) -> list[BaseMessage]:
        return [HumanMessage(f"filled {message.content}") for message in messages]

    foreign = Foreign(turns=["yes"])
    policy = ByIdPolicy.around(foreign, fill)

    assert str(asyncio.run(policy.ainvoke("a", stop=["!"])).text) == str(policy.invoke("b").text) == "yes"
    assert foreign.stops == [["!"], None]
    assert [str(messages[0].content) for messages in foreign.seen] == ["filled a", "filled b"]


def test_a_failure_of_the_model_is_raised_as_it_was() -> None:
    with pytest.raises(IndexError):
        run(Foreign(turns=[]))
