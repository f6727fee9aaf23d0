"""Our chat models pass LangChain's own suites, with every flag that they claim switched on.

On: picture inputs, usage metadata (whole and streamed), streaming; of the HTTP policy also the model named per call, tool
calling, tool choice and structured output by tools. Off, because it does not apply: tools of the pocket policy (its chat
template offers none), JSON mode, pictures by address (they go out as bytes, past no guard), pictures in a tool's message (vLLM
refuses them), PDF, audio, video, Anthropic's blocks, VCR cassettes (the servers are on this machine). The policy for other
models of the hub passes them in `test_hub.py`, on a tiny model that is made there.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from lensgraph.agent.policy.build_policy import KINDS
from lensgraph.agent.policy.light.policy import LightPolicy
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.server.openai_compatible import OpenAICompatiblePolicy

pytestmark = [pytest.mark.contract, pytest.mark.usefixtures("picture_of_the_suite")]


class Claims:
    """The claims that all of our policies make."""

    supports_image_inputs = True
    returns_usage_metadata = True
    has_tool_calling = False
    has_tool_choice = False
    has_structured_output = False


class OverHTTP(Claims):
    """The HTTP policy, on a server that speaks as vLLM does."""

    has_tool_calling = True
    has_tool_choice = True
    has_structured_output = True

    chat_model_class = OpenAICompatiblePolicy
    chat_model_params = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}
    supports_model_override = True
    model_override_value = "other"


class TestOpenAICompatibleUnit(OverHTTP, ChatModelUnitTests):
    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        named = {"api_key_env": "SUITE_KEY"}
        return {"SUITE_KEY": "k"}, {**self.chat_model_params, **named}, named


def called_for(body: dict[str, Any]) -> str:
    """A model that calls the tool that the suite wants, with the arguments that it wants, as Hermes writes it."""
    choice, tools = (
        body.get("tool_choice"),
        {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or []},
    )
    asked = str(body["messages"][-1].get("content"))
    if not tools or body["messages"][-1]["role"] == "tool" or choice == "none":
        return "Hello there, how are you? 3, and \u4f60\u597d."
    named = choice["function"]["name"] if isinstance(choice, dict) else next(iter(tools))
    wanted = {
        "input": 3,
        "location": "San Francisco",
        "setup": "Why?",
    }
    properties = tools[named].get("parameters", {}).get("properties", {})
    given = {
        name: wanted.get(name, 3 if schema.get("type") == "integer" else asked) for name, schema in properties.items()
    }
    return f"<tool_call>\n{json.dumps({'name': named, 'arguments': given}, ensure_ascii=False)}\n</tool_call>"


class TestOpenAICompatible(OverHTTP, ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _served(self, chat_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        server = chat_server("vllm")
        server.says = called_for
        monkeypatch.setattr(type(self), "chat_model_params", {"model": "m", "base_url": server.url})
        self.server = server

    def test_pictures_of_the_suite_arrive(self, model: BaseChatModel) -> None:
        self.test_image_inputs(model)
        sent = [body["messages"][0]["content"][1]["image_url"]["url"] for body in self.server.requests]
        assert len(sent) == 2
        assert {base64.b64decode(uri.partition(",")[2])[:4] for uri in sent} == {b"\x89PNG"}

    def test_the_model_named_in_a_call_is_asked_for(self, model: BaseChatModel) -> None:
        model.invoke("hi", model="other")
        assert self.server.requests[-1]["model"] == "other"


class Pocket(Claims):
    """The pocket policy; a few tokens are enough to see that a turn is a turn."""

    chat_model_params = {"max_new_tokens": 8}


class TestLightUnit(Pocket, ChatModelUnitTests):
    chat_model_class = LightPolicy

    standard_chat_model_params = {"temperature": 0.0, "max_tokens": 8}


class TestLight(Pocket, ChatModelIntegrationTests):
    chat_model_class = LightPolicy

    def test_a_stream_says_what_an_answer_says(self, model: BaseChatModel) -> None:
        whole = model.invoke("Hello")
        chunks = list(model.stream("Hello"))
        assert "".join(str(chunk.content) for chunk in chunks) == whole.content
        assert len(chunks) > 2
        last, said = dict(chunks[-1].response_metadata), dict(whole.response_metadata)
        assert last.pop("logprobs") == pytest.approx(said.pop("logprobs"), abs=1e-4)
        assert last == said
        assert chunks[-1].usage_metadata == whole.usage_metadata

    async def test_an_asynchronous_stream_may_be_left(self, model: BaseChatModel) -> None:
        async for chunk in model.astream("Hello"):
            assert chunk.content
            break
        assert (await model.ainvoke("Hello")).content  # the network is free again


class TestTransformersUnit(Pocket, ChatModelUnitTests):
    chat_model_class = TransformersPolicy

    standard_chat_model_params = {"temperature": 0.0, "max_tokens": 8}


@pytest.fixture(scope="module")
def loaded() -> TransformersPolicy:
    """Loaded once: a suite makes a model for every test."""
    return TransformersPolicy(max_new_tokens=8).load()


class TestTransformers(Pocket, ChatModelIntegrationTests):
    chat_model_class = TransformersPolicy

    @pytest.fixture(autouse=True)
    def _shared(self, loaded: TransformersPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TransformersPolicy, "network", property(lambda self: loaded._network))
        monkeypatch.setattr(TransformersPolicy, "renderer", property(lambda self: loaded._renderer))


def test_every_kind_of_policy_is_held_to_the_suite() -> None:
    held = {
        (suite.chat_model_class.__module__, suite.chat_model_class.__name__)
        for suite in globals().values()
        if isinstance(suite, type) and issubclass(suite, Claims) and issubclass(suite, ChatModelIntegrationTests)
    }
    assert held == {tuple(path.split(":")) for path in KINDS.values()}


@pytest.mark.parametrize("policy", [LightPolicy, TransformersPolicy])
def test_stop_strings_end_a_turn_of_the_policies_in_this_process(policy: type[Any]) -> None:
    free = policy(max_new_tokens=12).invoke("Hello")
    text, ids = str(free.content), free.response_metadata["token_ids"]
    stop = text[2:5]
    cut = policy(max_new_tokens=12).invoke("Hello", stop=[stop])
    assert cut.content == text[: text.index(stop)]
    assert cut.response_metadata["finish_reason"] == "stop"
    said = cut.response_metadata["token_ids"]
    assert said == ids[: len(said)]
    assert len(said) < len(ids)
    streamed = list(policy(max_new_tokens=12).stream("Hello", stop=[stop]))
    assert "".join(str(chunk.content) for chunk in streamed) == cut.content
